"""Did the lesion volume change between two visits, or is it noise? No torch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

VOLUME_SHARE, LEAST_ML = 0.01, 0.05
"""Parts of the doubt about a change that the passes do not know: a share of the mean volume, and millilitres."""
UNKNOWN_SHARE = 0.2
"""Deviation of the passes over the volume, where a result does not tell it: assumed."""
WITHIN, NOISE = 3.3, 4.8
"""Doubts that the error of a change stays within in 90 % of simulated pairs of visits, and the measured change itself in 95 %
of those of which nothing changed (docs/visits.md)."""


@dataclass(frozen=True)
class VisitVolume:
    """Lesion volume at one visit.

    Args:
        volume_ml: of the judged mask.
        passes_ml: volume that each stochastic pass draws; none where the result does not tell it.
        drawn_with: what the passes were drawn with; the same: pass ``n`` is the same network at both visits.
    """

    volume_ml: float
    passes_ml: tuple[float, ...] = ()
    drawn_with: str = ""

    @property
    def deviation(self) -> float:
        """Of the passes at this visit alone (standard deviation, ml)."""
        return float(np.std(self.passes_ml, ddof=1)) if len(self.passes_ml) > 1 else UNKNOWN_SHARE * self.volume_ml


@dataclass(frozen=True)
class VolumeChange:
    """Change of the volume from one visit to the next, millilitres.

    Args:
        change: later minus earlier.
        low, high: interval of the true change with a coverage of 90 %.
        more_than_noise: of people of whom nothing changed at most 5 % show so large a change.
        least: the smallest change that could have been told here.
    """

    change: float
    low: float
    high: float
    more_than_noise: bool
    least: float


def doubt(before: VisitVolume, after: VisitVolume) -> float:
    """How far the change of the volume may be off (standard deviation, ml).

    What a pass draws too much at one visit it draws too much at the other, if both were drawn alike: then the deviation of the
    passes' changes counts.
    """
    alike = before.drawn_with == after.drawn_with and len(before.passes_ml) == len(after.passes_ml) > 1
    if alike:
        passes = float(np.std(np.subtract(after.passes_ml, before.passes_ml), ddof=1))
    else:
        passes = float(np.hypot(before.deviation, after.deviation))
    share = VOLUME_SHARE * (before.volume_ml + after.volume_ml) / 2
    return float(np.sqrt(passes**2 + share**2 + LEAST_ML**2))


def volume_change(before: VisitVolume, after: VisitVolume) -> VolumeChange:
    """Change of the volume with its interval."""
    change, error = after.volume_ml - before.volume_ml, doubt(before, after)
    half, least = WITHIN * error, NOISE * error
    return VolumeChange(change, change - half, change + half, abs(change) > least, least)
