"""From a predicted quality to a decision."""

from __future__ import annotations

from typing import Literal

Verdict = Literal["accept", "review", "reject"]
MIN_DICE = 0.75
"""Dice that a mask needs to be of use, where nobody says (paper)."""
EMPTY_IS_WRONG_ML = 0.1
"""An empty mask is rejected where our own has at least this volume: next to no scan that holds so much has none."""


def decide(interval: tuple[float, float], min_dice: float, known: bool = True) -> Verdict:
    """Accept when the whole interval of the Dice lies at or above ``min_dice``, reject when it lies below, else review.

    Args:
        interval: lower and upper end.
        min_dice: what a mask needs to be of use.
        known: False: the models do not know such scans, and their word is not enough to accept.
    """
    low, high = interval
    # Written so that NaN is reviewed.
    if high < min_dice:
        return "reject"
    return "accept" if known and low >= min_dice else "review"


def decide_by_rule(
    predicted_dice: float, threshold: float, interval: tuple[float, float], min_dice: float, known: bool
) -> Verdict:
    """As :func:`decide`, but accepted from a threshold of the predicted Dice on (:class:`.AcceptRule`)."""
    if known and predicted_dice >= threshold:
        return "accept"
    return "reject" if decide(interval, min_dice) == "reject" else "review"


def decide_empty(own_volume_ml: float) -> Verdict:
    """An empty mask: rejected where our own network finds lesions, else for a person to look at; never accepted unseen."""
    return "reject" if own_volume_ml >= EMPTY_IS_WRONG_ML else "review"
