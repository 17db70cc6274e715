"""Which of several tools draws better masks, by their predicted Dice, at a stated error rate. No torch.

The mean of many predictions is not free of error: the predictor flatters some kinds of masks and wrongs others, and that does
not shrink with the number of scans. So a difference of two tools has two errors: that of the people (who would be others in
another study), and that of the predictor between kinds of masks, which was measured on kinds whose true Dice is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import t as student

Statement = Literal["better", "worse", "undecided"]
KIND_ERROR, KINDS = 0.12, 16
"""Standard deviation of the error of a predicted difference of two kinds of masks, however many people, and the number of kinds
that it was measured on (docs/compare.md)."""
FEWEST_PEOPLE = 5
"""Below this many common people nothing is stated."""


@dataclass(frozen=True)
class ToolMean:
    """Mean predicted Dice of a tool, each person counting once, with its interval over people."""

    tool: str
    people: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Pair:
    """Two tools on the people that both have masks of.

    Args:
        difference: mean predicted Dice of the first minus that of the second.
        error: its standard error, of people and of kinds.
        p_value: of "they are equally good", corrected for the number of pairs.
        statement: about the first.
    """

    first: str
    second: str
    people: int
    difference: float
    error: float
    p_value: float
    statement: Statement


def by_scan(table: pd.DataFrame) -> pd.DataFrame:
    """Predicted Dice (people and scans, tools); NaN where a tool has no mask of a scan.

    Args:
        table: columns ``person``, ``scan``, ``tool``, ``predicted``.
    """
    return table.pivot_table(index=["person", "scan"], columns="tool", values="predicted", aggfunc="mean", observed=True)


def tool_means(table: pd.DataFrame, coverage: float = 0.95) -> list[ToolMean]:
    """Every tool on the scans that it has, each person counting once, with Student's interval over people; the best first.

    Below :data:`FEWEST_PEOPLE` people there is no interval.
    """
    found = []
    for tool, values in by_scan(table).items():
        known = values.dropna().groupby("person").mean().to_numpy()
        count, mean, half = len(known), float(known.mean()), float("nan")
        if count >= FEWEST_PEOPLE:
            half = float(student.ppf((1 + coverage) / 2, count - 1) * known.std(ddof=1) / np.sqrt(count))
        found.append(ToolMean(str(tool), count, mean, *map(float, np.clip([mean - half, mean + half], 0, 1))))
    return sorted(found, key=lambda row: -row.mean)


def compare_pairs(table: pd.DataFrame, level: float = 0.05, kind_error: float = KIND_ERROR) -> list[Pair]:
    """A statement for each pair of tools; of all that are made, one is wrong in at most a share ``level`` of studies.

    Student's test on differences of people, whose standard error is widened by that of kinds; Holm's correction (1979).

    Args:
        table: as in :func:`by_scan`.
        level: error rate of all statements together.
        kind_error: see :data:`KIND_ERROR`.
    """
    scans = by_scan(table)
    pairs = [_pair(scans, str(first), str(second), kind_error) for first, second in combinations(scans.columns, 2)]
    order = sorted(range(len(pairs)), key=lambda number: pairs[number].p_value)
    decided, highest = list(pairs), 0.0
    for place, number in enumerate(order):
        highest = min(1.0, max(highest, pairs[number].p_value * (len(pairs) - place)))
        decided[number] = _stated(pairs[number], highest, level)
    return decided


def _pair(scans: pd.DataFrame, first: str, second: str, kind_error: float) -> Pair:
    # On common scans alone: a tool that lacks the hard ones must not gain by it.
    differences = (scans[first] - scans[second]).dropna().groupby("person").mean().to_numpy()
    count = len(differences)
    if count < FEWEST_PEOPLE:
        mean = float(differences.mean()) if count else float("nan")
        return Pair(first, second, count, mean, float("nan"), 1.0, "undecided")
    of_people, of_kinds = differences.var(ddof=1) / count, kind_error**2
    error = float(np.sqrt(of_people + of_kinds))
    # Both parts are estimates: degrees of freedom after Welch and Satterthwaite.
    freedom = (of_people + of_kinds) ** 2 / (of_people**2 / (count - 1) + of_kinds**2 / (KINDS - 1)) if error else 1.0
    p_value = float(2 * student.sf(abs(differences.mean()) / error, freedom)) if error else 1.0
    return Pair(first, second, count, float(differences.mean()), error, p_value, "undecided")


def _stated(pair: Pair, p_value: float, level: float) -> Pair:
    better: Statement = "better" if pair.difference > 0 else "worse"
    statement: Statement = better if p_value <= level else "undecided"
    return Pair(pair.first, pair.second, pair.people, pair.difference, pair.error, p_value, statement)
