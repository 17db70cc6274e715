"""Shadowed sets: a soft segmentation as what is surely in, surely out, and in the shadow between (Pedrycz 1998). No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from veridice.metrics.maps import GridMaps
from veridice.types import Array, Mask, ProbabilityMap

LEVELS = 200
"""Thresholds that are tried between 0 and one half."""
EMPTY = 1e-3
"""Memberships below it are none: else the countless voxels that are almost surely out would decide for all others."""


@dataclass(frozen=True)
class ShadowedSet:
    """A membership map in three values.

    Args:
        threshold: memberships up to it count as 0, those from 1 minus it on as 1; between is the shadow.
        core: voxels that are raised to 1.
        shadow: voxels of which nothing is said.
    """

    threshold: float
    core: Mask
    shadow: Mask


def shadowed_set(membership: ProbabilityMap) -> ShadowedSet:
    """The shadowed set of a membership map in [0, 1], of any shape, by the balance of its three areas.

    The threshold is the one at which what was taken away (memberships lowered to 0) and what was added (memberships raised to
    1) together are as much as the shadow has voxels (W. Pedrycz, *Shadowed sets: representing and processing fuzzy sets*, IEEE
    Transactions on Systems, Man and Cybernetics B 28, 1998, pp. 103-109); the lowest of equally balanced ones.
    """
    levels = 0.5 * np.arange(1, LEVELS) / LEVELS
    values = np.sort(membership[membership > EMPTY].astype(np.float64).ravel())
    balance = _balance(values, levels)
    threshold = float(levels[int(np.argmin(np.round(balance, 9)))]) if len(values) else 0.5
    core = membership >= 1 - threshold
    return ShadowedSet(threshold, core, (membership > threshold) & ~core)


def _balance(values: Array, levels: Array) -> Array:
    """How far the three areas are from balance at each level; ``values`` are sorted."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    low = np.searchsorted(values, levels, side="right")
    high = np.searchsorted(values, 1 - levels, side="left")
    lowered, raised = sums[low], (len(values) - high) - (sums[-1] - sums[high])
    return np.abs(lowered + raised - (high - low))


def shadow_labels(membership: ProbabilityMap) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The shadowed set as labels: 0 out, 1 in the shadow, 2 in the core."""
    found = shadowed_set(membership)
    return (found.shadow + 2 * found.core).astype(np.uint8)


def shadow_size(maps: GridMaps) -> float:
    """Voxels in the shadow of the mean probability: how much is undecided."""
    return float(np.count_nonzero(shadowed_set(maps.mean).shadow))


def shadow_share(maps: GridMaps) -> float | None:
    """The shadow in sizes of the core; None where there is no core."""
    found = shadowed_set(maps.mean)
    core = np.count_nonzero(found.core)
    return np.count_nonzero(found.shadow) / core if core else None
