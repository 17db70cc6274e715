"""Overlap between masks, with an explicit policy for empty ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from veridice.types import Mask


@dataclass(frozen=True)
class Overlap:
    """Dice of two masks and, where one or both are empty, which policy gave the number."""

    dice: float
    note: str = ""


def dice(first: Mask, second: Mask) -> Overlap:
    """Hard Dice ``2|a b| / (|a| + |b|)``; both masks empty: 1, one empty: 0, both said in ``note``."""
    size_first, size_second = int(np.count_nonzero(first)), int(np.count_nonzero(second))
    if size_first == 0 and size_second == 0:
        return Overlap(1.0, "both masks are empty: Dice is 1 by policy")
    if size_first == 0 or size_second == 0:
        return Overlap(0.0, "one of the masks is empty: Dice is 0 by policy")
    shared = int(np.count_nonzero(first & second))
    return Overlap(2.0 * shared / (size_first + size_second))


def expected_dice(mask: Any, probability: Any) -> float:
    """Dice that a mask has on the average, to first order: twice the expected overlap over the expected sizes.

    Args:
        mask: NumPy array or tensor of zeros and ones.
        probability: chance of a lesion in each voxel, of the same kind and shape. Both empty: 1.
    """
    sizes = float(mask.sum()) + float(probability.sum())
    return 2 * float((mask * probability).sum()) / sizes if sizes > 0 else 1.0
