"""How far raters agree, and where they do not; coefficients are those of well-kept libraries. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from veridice.review.store import StoredRating

SEVERITY = {"accept": 0, "needs edit": 1, "reject": 2}
"""Ratings as an ordinal scale."""


def readings(ratings: Sequence[StoredRating]) -> dict[str, dict[str, int]]:
    """Scan to rater to what he said, as a place on the scale: 1 to 5 where the study is rated so."""
    table: dict[str, dict[str, int]] = {}
    readers = [rating for rating in ratings if not rating.adjudicates]
    # Ratings of reports have no score: beside one of them all count by their decision.
    scored = all(rating.score is not None for rating in readers)
    for rating in readers:
        value = int(rating.score or 0) if scored else SEVERITY[rating.rating]
        table.setdefault(rating.scan, {})[rating.rater] = value
    return table


def differing(ratings: Sequence[StoredRating]) -> list[str]:
    """Scans that raters see differently, by name."""
    return sorted(scan for scan, said in readings(ratings).items() if len(set(said.values())) > 1)


def agreement(ratings: Sequence[StoredRating]) -> dict[str, Any]:
    """Agreement of raters on the scans that several of them rated.

    Args:
        ratings: those that count, of :meth:`.Store.ratings`.

    Returns:
        ``scans`` with at least two readings; ``differ``, names of those that differ; ``cohen``, a row a pair of raters
        (Cohen's kappa, 1960; with quadratic weights, 1968); ``fleiss`` (Fleiss 1971; of the scans that all raters rated) and
        ``alpha`` (Krippendorff, ordinal); numbers are None where they are not defined.
    """
    table = {scan: said for scan, said in readings(ratings).items() if len(said) > 1}
    raters = sorted({rater for said in table.values() for rater in said})
    return {
        "scans": len(table),
        "raters": raters,
        "differ": differing(ratings),
        "cohen": [_cohen(table, *pair) for pair in combinations(raters, 2)],
        "fleiss": _fleiss(table, raters),
        "alpha": _alpha(table, raters),
    }


def _cohen(table: Mapping[str, Mapping[str, int]], first: str, second: str) -> dict[str, Any]:
    from sklearn.metrics import cohen_kappa_score

    both = [(said[first], said[second]) for said in table.values() if first in said and second in said]
    row: dict[str, Any] = {"first": first, "second": second, "scans": len(both), "kappa": None, "weighted": None}
    values = set(sum(both, ()))
    if len(values) > 1:
        one, other = zip(*both, strict=True)
        row |= {
            "kappa": float(cohen_kappa_score(one, other)),
            # All values between, also those that nobody gave: what is apart is told by the values.
            "weighted": float(cohen_kappa_score(one, other, weights="quadratic", labels=range(min(values), max(values) + 1))),
        }
    return row


def _fleiss(table: Mapping[str, Mapping[str, int]], raters: Sequence[str]) -> float | None:
    from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

    complete = [[said[rater] for rater in raters] for said in table.values() if len(said) == len(raters)]
    if len(raters) < 2 or len({value for row in complete for value in row}) < 2:
        return None
    return float(fleiss_kappa(aggregate_raters(complete)[0]))


def _alpha(table: Mapping[str, Mapping[str, int]], raters: Sequence[str]) -> float | None:
    import krippendorff
    import numpy as np

    values = [[said.get(rater, np.nan) for said in table.values()] for rater in raters]
    if len(np.unique([value for row in values for value in row if value == value])) < 2:
        return None
    return float(krippendorff.alpha(values, level_of_measurement="ordinal"))


def final_rating(ratings: Sequence[StoredRating]) -> StoredRating:
    """What counts of several ratings of one scan: the adjudicator's; else what most say, and of equals the more severe.

    Args:
        ratings: at least one; the latest of each rater.
    """
    judged = [rating for rating in ratings if rating.adjudicates]
    if judged:
        return judged[-1]
    votes = [rating.rating for rating in ratings]
    return max(ratings, key=lambda rating: (votes.count(rating.rating), SEVERITY[rating.rating], rating.id))
