"""What the critic says of a mask: how good it is, and where it is wrong. No torch."""

from __future__ import annotations

import numpy as np

from veridice.metrics.overlap import expected_dice
from veridice.types import Mask, ProbabilityMap


def critic_evidence(mask: Mask, chance: ProbabilityMap, voxel_volume_ml: float) -> dict[str, float]:
    """Numbers of a mask (x, y, z).

    Args:
        mask: that was judged.
        chance: of a lesion in each voxel, by the critic, which saw this mask.
        voxel_volume_ml: of a voxel.

    Returns:
        ``critic_dice``: the Dice that is to be expected; ``critic_false_ml``, ``critic_missed_ml``: volumes to be expected.
    """
    false, missed = error_maps(mask, chance)
    return {
        "critic_dice": expected_dice(mask, chance),
        "critic_false_ml": float(false.sum(dtype=np.float64)) * voxel_volume_ml,
        "critic_missed_ml": float(missed.sum(dtype=np.float64)) * voxel_volume_ml,
    }


def error_maps(mask: Mask, chance: ProbabilityMap) -> tuple[ProbabilityMap, ProbabilityMap]:
    """Chance of each voxel to be marked wrongly, and to be missed (x, y, z)."""
    return np.where(mask, 1 - chance, 0).astype(np.float32), np.where(mask, 0, chance).astype(np.float32)
