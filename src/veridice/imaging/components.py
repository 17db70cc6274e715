"""Connected parts of a mask: numbered, measured, the largest."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from veridice.types import Mask

Labels = np.ndarray[Any, np.dtype[np.integer[Any]]]
Sizes = np.ndarray[tuple[int], np.dtype[np.int64]]
NEIGHBOURS = np.ones((3, 3, 3))
"""Voxels that touch at a face, an edge or a corner belong to one lesion."""


def label_components(mask: Mask) -> tuple[Labels, Sizes]:
    """Connected parts of a mask (x, y, z): their numbers from 1 on (x, y, z; 0 outside) and voxels of each (parts,).

    Neighbours are :data:`NEIGHBOURS`.
    """
    labels = np.zeros(mask.shape, np.int32)
    box = bounding_box(mask)
    # Lesions fill a corner of the head's grid, where looking at every voxel is what takes the time.
    found, count = ndimage.label(mask[box], structure=NEIGHBOURS)
    labels[box] = found
    return labels, component_sizes(found, count)


def bounding_box(mask: Mask, margin: int = 0) -> tuple[slice, slice, slice]:
    """The smallest box that holds a mask and ``margin`` voxels around it, within the grid; empty, where there is none."""
    sides = []
    for axis, length in enumerate(mask.shape):
        inside = np.flatnonzero(mask.any(axis=tuple(a for a in range(3) if a != axis)))
        ends = (max(0, int(inside[0]) - margin), min(length, int(inside[-1]) + 1 + margin)) if len(inside) else (0, 0)
        sides.append(slice(*ends))
    return sides[0], sides[1], sides[2]


def component_sizes(labels: Labels, count: int) -> Sizes:
    """Voxels (count,) of the parts 1 to ``count`` among ``labels``, of any shape."""
    return np.bincount(labels.ravel(), minlength=count + 1)[1:]


def fill_holes(mask: Mask) -> Mask:
    """A mask and what it surrounds: all that no way through the faces of unset voxels joins to the border of the image."""
    box = bounding_box(mask)
    labels, count = ndimage.label(~mask[box])
    ends = [labels.take(end, axis) for axis in range(3) for end in (0, -1)] if labels.size else []
    open_parts = np.zeros(count + 1, bool)
    for end in ends:
        open_parts[end] = True
    filled = mask.copy()
    filled[box] |= ~open_parts[labels]
    return filled


def dilate(mask: Mask, voxels: int = 1) -> Mask:
    """A mask grown by so many voxels through faces, within the grid."""
    box, grown = bounding_box(mask, margin=voxels), np.zeros(mask.shape, bool)
    grown[box] = ndimage.binary_dilation(mask[box], iterations=voxels)
    return grown


def largest_component(mask: Mask) -> Mask:
    """The largest part whose voxels touch at their faces; nothing, where there is none."""
    largest, box = np.zeros(mask.shape, bool), bounding_box(mask)
    labels, count = ndimage.label(mask[box])
    if count:
        largest[box] = labels == 1 + component_sizes(labels, count).argmax()
    return largest
