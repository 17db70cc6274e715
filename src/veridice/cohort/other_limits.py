"""What other limits would do to a study: which masks would be accepted, and how many of them may be bad."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from veridice.quality.bad_bound import CONFIDENCE, most_bad
from veridice.quality.calibration import CalibrationSet
from veridice.quality.decision import MIN_DICE, p_values, people_with_bad_masks

DICES = (0.6, 0.65, 0.7, 0.75, 0.8)
"""Needed Dices that a reader may choose from, beside that of the study."""
LEVELS = tuple(round(0.01 * step, 2) for step in range(1, 21))
"""Shares of all bad masks that a reader may let be accepted."""


def other_limits(table: pd.DataFrame, calibration: CalibrationSet, min_dice: float | None) -> dict[str, Any] | None:
    """For every needed Dice and every level what is accepted, with a bound that holds for all of them at once.

    Args:
        table: from :func:`.worklist.tabulate`.
        calibration: that judged the study.
        min_dice: of the study; None where it differs from scan to scan.

    Returns:
        ``dices``, ``levels``, ``confidence``; ``from_level`` (dices, rows of the table): the number of the first level
        at which a mask is accepted, None where at none; ``most_bad`` (dices, levels): so many of the accepted may be
        bad. None where no mask was tested.
    """
    tested = table["p_bad"].notna().to_numpy() & table["predicted_spread"].notna().to_numpy()
    if not tested.any():
        return None
    predicted, spread = (table.loc[tested, name].to_numpy(np.float64) for name in ("predicted_dice", "predicted_spread"))
    usual = MIN_DICE if min_dice is None else min_dice
    dices = sorted({*DICES, usual})
    # Fewer witnesses make a wider bound, and one that is drawn once for all.
    witnesses = min(int(people_with_bad_masks(calibration, dice)) for dice in dices)
    from_level, bounds = [], []
    for dice in dices:
        tests = p_values(calibration, predicted, spread, dice)
        accepted = np.stack([tests.acceptable(level) for level in LEVELS])
        bounds.append(most_bad(tests.bad, accepted, witnesses, 1 - (1 - CONFIDENCE) / len(dices)).tolist())
        first = np.full(len(table), -1)
        first[tested] = np.where(accepted.any(axis=0), accepted.argmax(axis=0), -1)
        from_level.append([None if level < 0 else int(level) for level in first])
    names = {"dices": dices, "levels": list(LEVELS), "confidence": CONFIDENCE}
    return {**names, "from_level": from_level, "most_bad": bounds, "min_dice": usual}
