"""How many of the accepted masks of a study may be bad, whatever limit a reader chooses after looking. No torch.

A promise that was made for one limit is void for a limit that is chosen by its result. These bounds hold for all limits at once
(Song, Jin, Candès 2026, arXiv:2605.20726, with their truncated higher criticism; Gazin, Blanchard, Roquain 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import ceil

import numpy as np

from veridice.types import Array, Numbers

LOWEST, HIGHEST = 0.01, 0.99
"""Between these p-values the envelope follows the p-value; it is flat below and 1 above."""
DRAWS = 1000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Envelope:
    """Above the share of bad masks whose p-value is at most ``t``, for all ``t`` at once.

    Args:
        width: how many standard deviations of a share it lies above ``t``.
    """

    width: float

    def share(self, t: Numbers) -> Numbers:
        """Highest share at each of these p-values."""
        inside = np.clip(t, LOWEST, HIGHEST)
        return np.where(t > HIGHEST, 1.0, np.minimum(1.0, inside + np.sqrt(inside * (1 - inside)) * self.width))


@cache
def envelope(witnesses: int, masks: int, confidence: float = CONFIDENCE) -> Envelope:
    """For ``masks`` bad masks of as many people that are tested against ``witnesses`` people with bad masks.

    The p-values of one study share their calibration, so they are no independent numbers: the width is drawn.

    Args:
        witnesses: people of the calibration with bad masks.
        masks: bad masks of the study.
        confidence: with which it holds for all ``t``.
    """
    rng = np.random.default_rng(0)
    known = np.sort(rng.random((DRAWS, witnesses)), axis=1)
    new = rng.random((DRAWS, masks))
    ranks = np.stack([np.searchsorted(scores, values) for scores, values in zip(known, new, strict=True)])
    drawn = np.sort((ranks + rng.random((DRAWS, masks))) / (witnesses + 1), axis=1)
    place = confidence * (DRAWS + 1)
    return Envelope(float(np.sort(_widths(drawn))[ceil(place) - 1]) if place <= DRAWS else np.inf)


def _widths(ordered: Array) -> Array:
    """How far each sorted sample (samples, masks) lies above the diagonal, in standard deviations of a share."""
    count = ordered.shape[1]
    values = ordered.clip(LOWEST, HIGHEST)
    above = (np.arange(1, count + 1) / count - values) / np.sqrt(values * (1 - values))
    return np.where(ordered <= HIGHEST, above, 0.0 - LOWEST / np.sqrt(LOWEST * (1 - LOWEST))).max(axis=1)


def most_bad(p_bad: Numbers, accepted: Array, witnesses: int, confidence: float = CONFIDENCE) -> Array:
    """Highest number of bad masks among those of each of several choices, all of which hold at once.

    Args:
        p_bad: p-values of "it is bad" of all masks of the study (masks,).
        accepted: choices, however they were made (choices, masks).
        witnesses: people of the calibration with bad masks; without any nothing is known.
        confidence: with which all bounds hold.

    Returns:
        Whole numbers (choices,), at most the number of accepted masks.
    """
    chosen = np.asarray(accepted, bool)
    if not witnesses or not len(p_bad):
        return chosen.sum(axis=1)
    limits = np.unique(p_bad)
    tested = np.searchsorted(np.sort(p_bad), limits, "right")
    beyond = np.stack([(chosen & (p_bad > limit)).sum(axis=1) for limit in limits], axis=1)
    worst = np.zeros(len(chosen), int)
    for fewest, most in _sizes(len(p_bad)):
        within = most * envelope(witnesses, most, confidence).share(limits)
        # So many bad masks would leave more large p-values than there are.
        if (fewest - within > len(p_bad) - tested).any():
            continue
        bound = np.minimum(np.floor((within + beyond).min(axis=1) + 1e-9), most)
        worst = np.maximum(worst, bound.astype(int))
    return np.minimum(worst, chosen.sum(axis=1))


def _sizes(masks: int) -> list[tuple[int, int]]:
    """Ranges that the number of bad masks may lie in, together 1 to ``masks``; what holds for the most holds for fewer."""
    ends = np.unique(np.ceil(np.geomspace(1, masks, min(masks, 16))).astype(int))
    return [(int(low) + 1, int(high)) for low, high in zip([0, *ends[:-1]], ends, strict=True)]
