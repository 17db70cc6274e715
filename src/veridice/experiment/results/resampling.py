"""Bootstrap resamples of all cases at once: each is a row of weights, how often every case was drawn. No torch.

All measures over thousands of resamples in one go; a row of ones are the cases themselves. Differences of two methods over the
same rows are paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from veridice.metrics.failure_detection import Flags
from veridice.types import Numbers

Weights = np.ndarray[tuple[int, int], np.dtype[np.float64]]
"""(resamples, cases)."""


def draw_weights(clusters: Any, resamples: int = 2000, seed: int = 0) -> Weights:
    """Draw whole clusters with replacement (Efron 1979); the same resamples as ``failure_detection.bootstrap``."""
    generator = np.random.default_rng(seed)
    _, member = np.unique(np.asarray(clusters), return_inverse=True)
    groups = int(member.max()) + 1
    counts = [np.bincount(generator.integers(groups, size=groups), minlength=groups) for _ in range(resamples)]
    return np.asarray(np.stack(counts)[:, member], np.float64)


@dataclass(frozen=True)
class Pool:
    """What is known of one method's test cases, each (cases,).

    Args:
        prediction, confidence: predicted Dice for correlations, confidence for ranks.
        error: predicted minus true Dice.
        rejected: by the method.
        dice, failed, worst: the truth, whether it is below 0.75, and in the lowest fifth.
    """

    prediction: Numbers
    confidence: Numbers
    error: Numbers
    rejected: Flags
    dice: Numbers
    failed: Flags
    worst: Flags


def replicate(pool: Pool, weights: Weights) -> dict[str, Numbers]:
    """Every measure of a method in every resample, each (resamples,); NaN where a resample has none."""
    risk = 1.0 - pool.dice
    area = _area(weights, pool.confidence, risk)
    optimal, random = _area(weights, pool.dice, risk), weighted_mean(weights, risk)
    room = np.where(random - optimal > 1e-12, random - optimal, np.nan)
    found, wanted = ~pool.rejected, ~pool.failed
    return {
        "dice_mean_after": ratio(weights @ (found * pool.dice), weights @ found),
        "precision_failures": ratio(weights @ (pool.rejected & pool.failed), weights @ pool.rejected),
        "recall_failures": ratio(weights @ (pool.rejected & pool.failed), weights @ pool.failed),
        "precision_acceptable": ratio(weights @ (found & wanted), weights @ found),
        "recall_acceptable": ratio(weights @ (found & wanted), weights @ wanted),
        "pearson_r": weighted_pearson(weights, pool.prediction[None], pool.dice[None]),
        "spearman": weighted_pearson(weights, _ranks(weights, pool.confidence), _ranks(weights, pool.dice)),
        "mae": weighted_mean(weights, np.abs(pool.error)),
        "auroc_failure": _auroc(weights, pool.confidence, pool.failed),
        "auroc_worst_fifth": _auroc(weights, pool.confidence, pool.worst),
        "aurc": area,
        "excess_aurc": area - optimal,
        "normalised_aurc": (area - optimal) / room,
        "review_share": _review_share(weights, pool.confidence, pool.failed),
    }


def point(pool: Pool) -> dict[str, float]:
    """The same of the cases as they are: the resample that draws each of them once."""
    return {name: float(value[0]) for name, value in replicate(pool, np.ones((1, len(pool.dice)))).items()}


def ratio(part: Any, whole: Any) -> Numbers:
    """Sums over the drawn cases as shares; NaN where the whole is nothing."""
    return np.asarray(part / np.where(whole > 0, whole, np.nan))


def weighted_mean(weights: Weights, values: Numbers) -> Numbers:
    """Mean over the drawn cases."""
    return np.asarray(weights @ values / weights.sum(axis=1))


def weighted_pearson(weights: Weights, first: Any, second: Any) -> Numbers:
    """Weighted correlation of two sides that are each (resamples or 1, cases)."""
    share = weights / weights.sum(axis=1, keepdims=True)
    first, second = np.broadcast_to(first, weights.shape), np.broadcast_to(second, weights.shape)
    constant = _constant(weights, first) | _constant(weights, second)
    first = first - (share * first).sum(axis=1, keepdims=True)
    second = second - (share * second).sum(axis=1, keepdims=True)
    product, squares = (share * first * second).sum(axis=1), (share * first**2).sum(axis=1) * (share * second**2).sum(axis=1)
    return np.asarray(product / np.sqrt(np.where(constant | (squares <= 0), np.nan, squares)))


def _constant(weights: Weights, values: Any) -> Flags:
    drawn = weights > 0
    highest = np.where(drawn, values, -np.inf).max(axis=1)
    return np.asarray(highest == np.where(drawn, values, np.inf).min(axis=1))


def _ranks(weights: Weights, values: Numbers) -> Weights:
    """Middle rank of every case in every resample."""
    below = (values[:, None] < values).astype(np.float64)
    equal = (values[:, None] == values).astype(np.float64)
    return np.asarray(weights @ below + (weights @ equal + 1) / 2)


def _auroc(weights: Weights, confidence: Numbers, failed: Flags) -> Numbers:
    """Share of the pairs of a failed and a good case in which the failed one has the lower score, ties count half."""
    bad, good = weights[:, failed], weights[:, ~failed]
    lower, higher = confidence[failed][:, None], confidence[~failed]
    won = (lower < higher) + 0.5 * (lower == higher)
    return ratio(((bad @ won) * good).sum(axis=1), bad.sum(axis=1) * good.sum(axis=1))


def _area(weights: Weights, ranking: Numbers, risk: Numbers) -> Numbers:
    """Area under the risk-coverage curve, expected over the orders of cases of equal score (a case drawn twice is two).

    In a tie of m cases of mean risk r after k cases of summed risk s, the mean risk of the first j is r + (s - k r) / j;
    its sum over j from k + 1 to k + m is m r + (s - k r) (H(k + m) - H(k)), with H the harmonic numbers.
    """
    _, tie = np.unique(-ranking, return_inverse=True)
    member = np.eye(tie.max() + 1)[tie]
    count, summed = weights @ member, (weights * risk) @ member
    before, lost = np.cumsum(count, axis=1) - count, np.cumsum(summed, axis=1) - summed
    total = weights.sum(axis=1)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int(total.max()) + 1))])
    steps = harmonic[(before + count).astype(int)] - harmonic[before.astype(int)]
    return np.asarray((summed + (lost - before * summed / np.maximum(count, 1)) * steps).sum(axis=1) / total)


def _review_share(weights: Weights, confidence: Numbers, failed: Flags, tolerated: float = 0.05) -> Numbers:
    """Smallest share of the cases that must be looked at, the least trusted first, so that at most ``tolerated`` of the others
    failed. Cases of equal score are looked at together.
    """
    values, tie = np.unique(confidence, return_inverse=True)
    member = np.eye(len(values))[tie]

    def accepted(drawn: Any) -> Any:
        return np.cumsum((drawn @ member)[:, ::-1], axis=1)[:, ::-1]

    kept, missed = accepted(weights), accepted(weights * failed)
    good = (kept > 0) & (missed / np.maximum(kept, 1) <= tolerated)
    first = kept[np.arange(len(kept)), good.argmax(axis=1)]
    return np.asarray(np.where(good.any(axis=1), 1 - first / weights.sum(axis=1), 1.0))
