"""How well scores find the segmentations that failed. No torch.

Everywhere ``dice`` is the true Dice of each case and ``confidence`` a score that is higher where a segmentation is
better; all arrays are (cases,).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats
from sklearn.isotonic import IsotonicRegression

from veridice.types import Numbers

Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]

FAILURE_DICE = 0.75
"""A segmentation below this failed (paper, Quality control), where nobody says otherwise."""
COVERAGE = 0.95


@dataclass(frozen=True)
class Correlation:
    """Strength of a relation and the probability of one as strong by chance; NaN where one side is constant."""

    r: float
    p: float


def pearson(confidence: Numbers, dice: Numbers) -> Correlation:
    """Linear correlation (paper, Table 1)."""
    return _correlation(stats.pearsonr, confidence, dice)


def spearman(confidence: Numbers, dice: Numbers) -> Correlation:
    """Correlation of ranks."""
    return _correlation(stats.spearmanr, confidence, dice)


def _correlation(measure: Callable[[Numbers, Numbers], Any], confidence: Numbers, dice: Numbers) -> Correlation:
    if len(dice) < 3 or np.ptp(confidence) == 0 or np.ptp(dice) == 0:
        return Correlation(np.nan, np.nan)
    result = measure(confidence, dice)
    return Correlation(float(result.statistic), float(result.pvalue))


def worst_share(dice: Numbers, share: float = 0.2) -> Flags:
    """The lowest ``share`` of the cases, at least one; the task of Philps et al. 2025."""
    count = max(1, round(share * len(dice)))
    flags = np.zeros(len(dice), bool)
    flags[np.argsort(dice, kind="stable")[:count]] = True
    return flags


@dataclass(frozen=True)
class RiskCoverage:
    """Mean risk (1 - Dice) of the accepted cases, by the share that is accepted, the most trusted first.

    Args:
        coverage: 1/n, 2/n ... 1.
        risk: expected mean risk at that coverage; cases of equal score come in any order.
    """

    coverage: Numbers
    risk: Numbers

    @property
    def area(self) -> float:
        """AURC, lower is better (Geifman, Uziel, El-Yaniv 2019; for segmentation Zenk et al. 2025)."""
        return float(self.risk.mean())


def risk_coverage(confidence: Numbers, dice: Numbers) -> RiskCoverage:
    """The risk-coverage curve of a score."""
    risk = 1.0 - np.asarray(dice, np.float64)
    # The mean prefix sum over all orders within a tie is that of equal parts.
    _, tie = np.unique(-confidence, return_inverse=True)
    shared = (np.bincount(tie, risk) / np.bincount(tie))[tie]
    accepted = np.arange(1, len(risk) + 1)
    return RiskCoverage(accepted / len(risk), np.cumsum(shared[np.argsort(-confidence, kind="stable")]) / accepted)


def fit_dice_map(score: Numbers, dice: Numbers) -> Callable[[Numbers], Numbers]:
    """Monotone (isotonic) map from a score to a predicted Dice, fitted on validation cases; rising or falling as they say.

    Beyond these cases it is constant; where a score is NaN, as for an empty mask, it gives their mean Dice.
    """
    mean, usable = float(dice.mean()), np.isfinite(score)
    if not usable.any():
        return lambda new: np.full(len(new), mean)
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, increasing="auto", out_of_bounds="clip").fit(score[usable], dice[usable])
    return lambda new: np.where(np.isfinite(new), fitted.predict(np.nan_to_num(new)), mean)


@dataclass(frozen=True)
class Interval:
    """Percentile interval; NaN where no resample had a value."""

    low: float
    high: float


def percentiles(values: Numbers) -> Interval:
    """Percentile interval (:data:`COVERAGE`) of what is finite."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return Interval(np.nan, np.nan)
    low, high = np.quantile(finite, [(1 - COVERAGE) / 2, (1 + COVERAGE) / 2])
    return Interval(float(low), float(high))


def bootstrap(
    statistic: Callable[..., float], *columns: Any, clusters: Any = None, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Percentile bootstrap (Efron 1979) of a statistic of paired columns (cases,), drawn by whole clusters.

    Args:
        statistic: of the columns; a difference of two scores' statistics makes the test a paired one.
        columns: arrays of one length.
        clusters: (cases,) who belongs together, such as patients; None: every case alone.
    """
    generator = np.random.default_rng(seed)
    arrays = [np.asarray(column) for column in columns]
    _, member = np.unique(np.arange(len(arrays[0])) if clusters is None else np.asarray(clusters), return_inverse=True)
    groups = [np.flatnonzero(member == number) for number in range(member.max() + 1)]
    values = []
    for _ in range(resamples):
        drawn = np.concatenate([groups[number] for number in generator.integers(len(groups), size=len(groups))])
        values.append(statistic(*(array[drawn] for array in arrays)))
    return percentiles(np.asarray(values))
