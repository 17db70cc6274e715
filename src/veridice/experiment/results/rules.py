"""What validation cases say about a score: its direction, its map to a Dice, its threshold. No torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats

from veridice.metrics.failure_detection import FAILURE_DICE, Flags, fit_dice_map, spearman
from veridice.types import Numbers

Kind = Literal["dice", "score"]
KINDS: tuple[Kind, ...] = ("dice", "score")
TIE_WEIGHT = 1e-6
"""Part of the confidence that orders equal predicted Dice; far below what anyone would call a difference in Dice."""


@dataclass(frozen=True)
class Rule:
    """One method as fitted on the validation cases of one fold; all functions are of raw scores (cases,).

    Args:
        predicted_dice: score to Dice in [0, 1]; the mean Dice of validation where there is no score.
        direction: 1 where a higher score means a better segmentation, -1 otherwise.
        threshold: rejected is what lies below it, in the score times ``direction``; None: what is predicted to fail.
        centre, scale: median and interquartile range of the score times ``direction``.
        failure_dice: a segmentation below it failed.
    """

    predicted_dice: Callable[[Numbers], Numbers]
    direction: float
    threshold: float | None
    centre: float
    scale: float
    failure_dice: float = FAILURE_DICE

    def confidence(self, score: Numbers) -> Numbers:
        """Predicted Dice, and among equal ones the score itself; in (-1e-6, 1 + 1e-6).

        An isotonic map has wide steps, and none of its values lies beyond those of validation: cases that the score tells
        apart would tie. What orders them is the score in units of validation (distance from the median over the
        interquartile range, squashed to (0, 1)), because raw scores of two folds' networks do not compare. It depends on no
        other test case. A case without a score comes last among its equals.
        """
        place = (self.direction * score - self.centre) / self.scale
        tie = np.where(np.isfinite(score), 0.5 + np.arctan(place) / np.pi, 0.0)
        return np.asarray(self.predicted_dice(score) + TIE_WEIGHT * tie)

    def rejected(self, score: Numbers) -> Flags:
        """Which cases are not to be trusted; one without a score is judged by its predicted Dice."""
        predicted_to_fail = self.predicted_dice(score) < self.failure_dice
        if self.threshold is None:
            return np.asarray(predicted_to_fail)
        below = self.direction * score < self.threshold
        return np.asarray(np.where(np.isfinite(score), below, predicted_to_fail))


def fit_rule(score: Numbers, dice: Numbers, kind: Kind, failure_dice: float = FAILURE_DICE) -> Rule:
    """Fit a method on validation cases.

    A predicted Dice is taken as it is and rejected below ``failure_dice``. Any other score gets the sign of its
    Spearman correlation with the Dice, an isotonic map to the Dice, and the threshold of :func:`youden_threshold`, or,
    where the scored validation cases all failed or all did not, the map's ``failure_dice``.
    """
    known = np.isfinite(score)
    if kind == "dice":
        return Rule(_clipped(float(dice.mean())), 1.0, None, *_spread(score[known]), failure_dice)
    direction = -1.0 if spearman(score[known], dice[known]).r < 0 else 1.0
    with warnings.catch_warnings():
        # scikit-learn warns wherever the direction is not significant, which sixteen cases seldom make it.
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        to_dice = fit_dice_map(score, dice)
    threshold = youden_threshold(direction * score[known], dice[known] < failure_dice)
    return Rule(to_dice, direction, threshold, *_spread(direction * score[known]), failure_dice)


def _clipped(mean: float) -> Callable[[Numbers], Numbers]:
    return lambda score: np.where(np.isfinite(score), np.clip(np.nan_to_num(score), 0.0, 1.0), mean)


def _spread(oriented: Numbers) -> tuple[float, float]:
    if not len(oriented):
        return 0.0, 1.0
    low, centre, high = np.quantile(oriented, [0.25, 0.5, 0.75])
    return float(centre), float(high - low) or 1.0


def youden_threshold(confidence: Numbers, failed: Flags) -> float | None:
    """Below which to reject so that sensitivity + specificity is highest (Youden 1950); None when all cases are alike.

    Thresholds lie halfway between neighbouring values, so that a new case is judged by the nearer one; of equally good ones
    the lowest, which rejects fewest.
    """
    if failed.all() or not failed.any():
        return None
    values = np.unique(confidence)
    thresholds = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])
    below = confidence < thresholds[:, None]
    gain = below[:, failed].mean(axis=1) - below[:, ~failed].mean(axis=1)
    return float(thresholds[int(np.argmax(np.round(gain, 12)))])
