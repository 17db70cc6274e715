"""Voxels without a value: air where they lie outside the head, a hole in the scan where they lie in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from veridice.imaging.foreground import HIGH_SHARE, evened, foreground_mask
from veridice.types import Mask, Voxels

LARGEST_HOLES = 0.0025
"""Share of the head that may lack a value in one piece or several; 4 ml of a head of 1.5 l."""
MOST_SCATTERED = 0.02
"""Share of the head that may lack a value here and there; up to 0.015 of a clean head is 0 amid tissue."""
TISSUE = 0.6
"""Of the head's median brightness: what is darker around a missing voxel is bone, fluid or air."""
AMID = 0.6
"""Share of what is around missing voxels that is tissue where they are a hole in it."""
WIDE = 5
"""Edge of a square, in voxels, that holds no value: what is narrower is scattered, and neighbours can stand for it."""

NEAR_ZERO, BELOW = 0.05, 0.001
"""Of the range of intensities: how near to 0 the lowest has to be for 0 to be the background; else how far below it that is."""


@dataclass(frozen=True)
class Filled:
    """An image without holes.

    Args:
        voxels: (x, y, z), finite.
        background: voxels without a value outside the head or in a dark part of it; they got the lowest value.
        inside: those amid the head's tissue; they got the value that is nearest.
        too_many: more of the head is missing than neighbours can stand for.
    """

    voxels: Voxels
    background: int
    inside: int
    too_many: bool


def fill_missing(voxels: Voxels) -> Filled:
    """Give a value to NaN and infinite voxels (x y z).

    A voxel belongs to the head's tissue if missing voxels do not lead from it to the image's border, head lies on both sides of
    it along two axes, and the place with a value that is nearest is about as bright as the head. The background gets 0, or a
    value just below the lowest one.

    Raises:
        InputError: no voxel has a value, or no head can be told from the background.
    """
    missing = ~np.isfinite(voxels)
    known = voxels[~missing]
    level = _below(evened(known.reshape(-1, 1, 1))) if known.size else 0.0
    shown = np.where(missing, np.float32(level), voxels)
    foreground = foreground_mask(shown)
    head = _between(foreground)
    usual = np.median(voxels[foreground & ~missing]) - level
    nearest = ndimage.distance_transform_edt(missing, return_distances=False, return_indices=True)
    bright = (_local_mean(shown, ~missing) > TISSUE * usual + level)[tuple(nearest)]
    closed, holes = _parts(missing, bright)
    holes &= head
    inside = holes | (closed & head & bright)
    shown[inside] = voxels[tuple(nearest)][inside]
    scattered, wide, whole = (int(np.count_nonzero(mask)) for mask in (inside & ~holes, holes, head))
    too_many = wide > LARGEST_HOLES * whole or scattered > MOST_SCATTERED * whole
    return Filled(shown, int(np.count_nonzero(missing)) - scattered - wide, scattered + wide, too_many)


def _below(known: Voxels) -> float:
    """0 where the lowest value is just above it, as when zeros were made NaN; else a little less than the lowest value.

    Not that value itself: noise in whole steps and what is filled in would together look like a constant background.
    """
    least, most = float(known.min()), float(np.percentile(known, HIGH_SHARE))
    if 0 <= least < NEAR_ZERO * (most - least):
        return 0.0
    return least - BELOW * (most - least)


def _between(foreground: Mask) -> Mask:
    """Voxels with foreground on both sides along at least two axes: holes that filling would leak out of are in it."""
    axes = np.zeros(foreground.shape, np.uint8)
    for axis in range(3):
        before = np.logical_or.accumulate(foreground, axis)
        behind = np.flip(np.logical_or.accumulate(np.flip(foreground, axis), axis), axis)
        axes += before & behind
    return np.asarray(axes >= 2)


def _local_mean(voxels: Voxels, known: Mask) -> Voxels:
    sums = ndimage.uniform_filter(np.where(known, voxels, 0).astype(np.float32), 3)
    return np.asarray(sums / np.maximum(ndimage.uniform_filter(known.astype(np.float32), 3), 1e-3))


def _parts(missing: Mask, bright: Mask) -> tuple[Mask, Mask]:
    """Missing voxels that do not reach the border of the image; and those in parts that are wide and amid bright ones."""
    labels, count = ndimage.label(missing)
    closed = np.ones(count + 1, bool)
    closed[0] = False
    for axis in range(3):
        for end in (0, -1):
            closed[np.unique(labels.take(end, axis))] = False
    planes = (np.roll((WIDE, WIDE, 1), turn).tolist() for turn in range(3))
    wide = np.zeros(count + 1, bool)
    for size in planes:
        wide[labels[ndimage.minimum_filter(missing, size, mode="constant")]] = True
    amid = np.asarray(ndimage.mean(bright, labels, np.arange(count + 1))) >= AMID
    return closed[labels], (closed & wide & amid)[labels]
