"""From a predicted quality to a decision."""

from __future__ import annotations

from typing import Literal

Verdict = Literal["accept", "review", "reject"]


def provisional_verdict(predicted_dice: float, min_dice: float) -> Verdict:
    """The paper's rule: reject when the predicted Dice is below ``min_dice`` (0.75), else accept.

    Provisional: without a calibrated interval there is no error rate behind it, and no ``review``.
    """
    # Written so that NaN is rejected.
    return "accept" if predicted_dice >= min_dice else "reject"


def clip_dice(raw: float) -> float:
    """A regression's output as a Dice: clipped to [0, 1]."""
    return min(1.0, max(0.0, raw))
