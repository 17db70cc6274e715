"""Agreement of raters against hand-made cases, and what counts where they differ."""

from __future__ import annotations

import numpy as np
import pytest

from veridice.review.agreement import agreement, differing, final_rating, readings
from veridice.review.store import StoredRating


def said(scan: str, rater: str, rating: str, number: int = 1, **more: object) -> StoredRating:
    given = {"version": "v", "rated": "now", "judged_mask": "own", "key": f"{scan}{rater}{number}", "id": number}
    return StoredRating(scan=scan, rater=rater, rating=rating, **{**given, **more})


def table(**by_rater: str) -> list[StoredRating]:
    """``A="aer"``: rater A accepts scan 0, wants edits of 1, rejects 2; ``-``: did not rate it."""
    words = {"a": "accept", "e": "needs edit", "r": "reject"}
    return [
        said(f"s{n}", rater, words[letter])
        for rater, letters in by_rater.items()
        for n, letter in enumerate(letters)
        if letter != "-"
    ]


def test_cohens_kappa_of_a_textbook_case() -> None:
    # 20 both yes, 15 both no, 5 and 10 apart: observed 0.7, by chance 0.5, kappa 0.4.
    both = "a" * 20 + "r" * 15 + "a" * 5 + "r" * 10, "a" * 20 + "r" * 15 + "r" * 5 + "a" * 10
    told = agreement(table(A=both[0], B=both[1]))
    assert told["scans"] == 50
    assert told["cohen"][0]["kappa"] == pytest.approx(0.4)
    assert len(told["differ"]) == 15


def test_all_agree_or_by_chance_alone() -> None:
    same = agreement(table(A="aerae", B="aerae", C="aerae"))
    assert same["fleiss"] == pytest.approx(1)
    assert same["alpha"] == pytest.approx(1)
    apart = agreement(table(A="aarr", B="arar"))
    assert apart["cohen"][0]["kappa"] == pytest.approx(0)


def test_the_weighted_kappa_forgives_neighbours() -> None:
    near = agreement(table(A="aerae", B="eeree"))["cohen"][0]
    assert near["weighted"] > near["kappa"]


def test_gaps_and_single_values_are_no_error() -> None:
    told = agreement(table(A="aa-", B="aa-", C="--a"))
    assert told["scans"] == 2
    assert told["cohen"] == [{"first": "A", "second": "B", "scans": 2, "kappa": None, "weighted": None}]
    assert told["fleiss"] is None
    assert told["alpha"] is None
    assert agreement([])["scans"] == 0


def test_a_scale_counts_by_its_steps() -> None:
    ratings = [said("s", "A", "accept", score=5), said("s", "B", "accept", score=4)]
    assert readings(ratings) == {"s": {"A": 5, "B": 4}}
    assert differing(ratings) == ["s"]


def test_what_counts_is_the_judge_then_the_majority_then_the_severe() -> None:
    pair = [said("s", "A", "accept", 1), said("s", "B", "reject", 2)]
    assert final_rating(pair).rating == "reject"
    assert final_rating([*pair, said("s", "C", "accept", 3)]).rating == "accept"
    assert final_rating([*pair, said("s", "E", "needs edit", 4, adjudicates=True)]).rating == "needs edit"
    assert readings([*pair, said("s", "E", "accept", 4, adjudicates=True)]) == {"s": {"A": 0, "B": 2}}


def test_ratings_without_a_score_make_all_count_by_their_decision() -> None:
    mixed = [said("s", "A", "accept", score=5), said("s", "B", "accept")]
    assert readings(mixed) == {"s": {"A": 0, "B": 0}}
    assert differing(mixed) == []


def test_the_weighted_kappa_goes_by_values_also_where_some_were_never_given() -> None:
    words = {1: "reject", 2: "reject", 5: "accept"}
    pairs = [(1, 1), (1, 2), (2, 2), (2, 5), (5, 5), (5, 5), (1, 1), (5, 2)]
    ratings = [
        said(f"s{n}", rater, words[value], score=value)
        for n, pair in enumerate(pairs)
        for rater, value in zip("AB", pair, strict=True)
    ]
    first, second = (np.array(values, float) for values in zip(*pairs, strict=True))
    apart = ((first - second) ** 2).mean()
    by_chance = np.mean([(a - b) ** 2 for a in first for b in second])
    assert agreement(ratings)["cohen"][0]["weighted"] == pytest.approx(1 - apart / by_chance)
