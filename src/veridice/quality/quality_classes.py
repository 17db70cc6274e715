"""Quality as a class: poor, fair or good, with the chance of each. No torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from veridice.quality.calibration import CalibrationSet
from veridice.types import Array

CLASSES = ("poor", "fair", "good")
LIMITS = (0.5, 0.75)
"""Dice from which a mask is fair, and good: 0.75 is what a mask needs to be of use (Williams et al.)."""


def class_of(dice: Sequence[float] | Array, limits: Sequence[float] = LIMITS) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The place in :data:`CLASSES` of each true or predicted Dice."""
    return np.searchsorted(list(limits), np.asarray(dice, np.float64), side="right")


def class_chances(calibration: CalibrationSet, predicted: Sequence[float] | Array, spread: Sequence[float] | Array) -> Array:
    """Chance of each class (masks, classes) for masks with these predictions.

    The errors of the calibration cases, in units of the error that was expected of each, are laid around the prediction; each
    person counts once (a conformal predictive distribution: Vovk et al. 2017, with one person of doubt added to each class).

    Args:
        calibration: cases with a known truth.
        predicted: Dice of each mask.
        spread: expected size of its error.
    """
    predicted, spread = (np.atleast_1d(np.asarray(values, np.float64)) for values in (predicted, spread))
    known, expected = np.array(calibration.dice), np.array(calibration.predicted)
    errors, people = (known - expected) / np.array(calibration.spread), calibration.people
    weights = calibration.weights_of_cases / np.bincount(people)[people]
    order = np.argsort(errors)
    below = np.concatenate([[0.0], np.cumsum(weights[order])])
    # An error below this brings the mask under the limit.
    places = np.searchsorted(errors[order], (np.array(LIMITS) - predicted[:, None]) / spread[:, None], side="left")
    shares = np.diff(np.column_stack([np.zeros(len(predicted)), below[places], np.full(len(predicted), below[-1])]), axis=1)
    doubted = shares + weights.sum() / len(np.unique(people))
    return np.asarray(doubted / doubted.sum(axis=1, keepdims=True))
