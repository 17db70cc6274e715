"""Did the lesion volume change between two visits, or is it noise? No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from veridice.types import Numbers

PASSES_SHARE, VOLUME_SHARE, LEAST_ML = 1.0, 0.1, 0.05
"""Of the doubt about a volume: how much the deviation of the passes counts; a share of the volume; and millilitres."""
QUANTILE = {0.9: 1.5, 0.95: 2.0}
"""Doubts that the error of a change stays within in so large a share of simulated pairs of visits (docs/visits.md)."""


@dataclass(frozen=True)
class VolumeChange:
    """Change of the volume from one visit to the next, millilitres.

    Args:
        change: later minus earlier.
        low, high: interval of the true change with a coverage of 90 %.
        more_than_noise: the interval of 95 % does not hold zero.
        least: the smallest change that could have been told here.
    """

    change: float
    low: float
    high: float
    more_than_noise: bool
    least: float


def doubt(volume_ml: Numbers | float, deviation_ml: Numbers | float) -> Numbers:
    """How far a volume may be off at one visit, apart from what is the same at both (standard deviation, millilitres)."""
    parts = (np.multiply(PASSES_SHARE, deviation_ml), np.multiply(VOLUME_SHARE, volume_ml), np.full_like(volume_ml, LEAST_ML))
    return np.asarray(np.sqrt(sum(np.square(part) for part in parts)))


def volume_change(before: tuple[float, float], after: tuple[float, float]) -> VolumeChange:
    """Change of the volume with its interval.

    Args:
        before, after: volume of the mask and deviation of the volume over the passes, millilitres.
    """
    change = after[0] - before[0]
    both = float(np.hypot(doubt(*before), doubt(*after)))
    wide = QUANTILE[0.95] * both
    half = QUANTILE[0.9] * both
    return VolumeChange(change, change - half, change + half, abs(change) > wide, wide)
