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
KIND_ERROR = 0.08
"""Standard deviation of the error of a predicted difference of two kinds of masks, however many people (docs/compare.md)."""
FEWEST_PEOPLE = 5
"""Below this many common people nothing is stated."""
DRAWS = 2000


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


def by_person(table: pd.DataFrame) -> pd.DataFrame:
    """Mean predicted Dice (people, tools); NaN where a tool has no mask of a person.

    Args:
        table: columns ``person``, ``tool``, ``predicted``.
    """
    return table.pivot_table(index="person", columns="tool", values="predicted", aggfunc="mean", observed=True)


def tool_means(table: pd.DataFrame, coverage: float = 0.95) -> list[ToolMean]:
    """Every tool with a percentile interval of a bootstrap over people, the best first."""
    rng, found = np.random.default_rng(0), []
    for tool, values in by_person(table).items():
        known = values.dropna().to_numpy()
        drawn = known[rng.integers(0, len(known), (DRAWS, len(known)))].mean(axis=1)
        low, high = np.quantile(drawn, [(1 - coverage) / 2, (1 + coverage) / 2])
        found.append(ToolMean(str(tool), len(known), float(known.mean()), float(low), float(high)))
    return sorted(found, key=lambda row: -row.mean)


def compare_pairs(table: pd.DataFrame, level: float = 0.05, kind_error: float = KIND_ERROR) -> list[Pair]:
    """A statement for each pair of tools; of all that are made, one is wrong in at most a share ``level`` of studies.

    Student's test on differences of people, whose standard error is widened by that of kinds; Holm's correction (1979).

    Args:
        table: as in :func:`by_person`.
        level: error rate of all statements together.
        kind_error: see :data:`KIND_ERROR`.
    """
    people = by_person(table)
    pairs = [_pair(people, str(first), str(second), kind_error) for first, second in combinations(people.columns, 2)]
    order = sorted(range(len(pairs)), key=lambda number: pairs[number].p_value)
    decided, highest = list(pairs), 0.0
    for place, number in enumerate(order):
        highest = min(1.0, max(highest, pairs[number].p_value * (len(pairs) - place)))
        decided[number] = _stated(pairs[number], highest, level)
    return decided


def _pair(people: pd.DataFrame, first: str, second: str, kind_error: float) -> Pair:
    differences = (people[first] - people[second]).dropna().to_numpy()
    count = len(differences)
    if count < FEWEST_PEOPLE:
        mean = float(differences.mean()) if count else float("nan")
        return Pair(first, second, count, mean, float("nan"), 1.0, "undecided")
    error = float(np.hypot(differences.std(ddof=1) / np.sqrt(count), kind_error))
    p_value = float(2 * student.sf(abs(differences.mean()) / error, count - 1))
    return Pair(first, second, count, float(differences.mean()), error, p_value, "undecided")


def _stated(pair: Pair, p_value: float, level: float) -> Pair:
    better: Statement = "better" if pair.difference > 0 else "worse"
    statement: Statement = better if p_value <= level else "undecided"
    return Pair(pair.first, pair.second, pair.people, pair.difference, pair.error, p_value, statement)
