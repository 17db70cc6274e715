"""How well a second expert would agree with the first: what can be asked of a mask depends on the scan. No torch."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

LEVEL, PER_LOAD, PER_THICKNESS = 0.927, 0.184, -0.197
"""Log odds of the mean Dice of two readings at 1 ml and slices of 1 mm, and how they change with the logarithm of load and
thickness: fitted to simulated second readings of people of training and validation (benchmarks/second_expert.py)."""
LOADS_ML, SLICES_MM = (0.3, 60.0), (1.0, 8.0)
"""Between these the curve was fitted; beyond them it stays as it is at the end."""


def second_expert_dice(load_ml: float, slice_mm: float) -> float:
    """Mean Dice that a second expert is expected to reach, to two digits.

    Args:
        load_ml: volume of all lesions.
        slice_mm: longest edge of a voxel.
    """
    load, thickness = np.log(np.clip(load_ml, *LOADS_ML)), np.log(np.clip(slice_mm, *SLICES_MM))
    return round(float(expit(LEVEL + PER_LOAD * load + PER_THICKNESS * thickness)), 2)
