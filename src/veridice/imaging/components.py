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
    labels, count = ndimage.label(mask, structure=NEIGHBOURS)
    return labels, component_sizes(labels, count)


def component_sizes(labels: Labels, count: int) -> Sizes:
    """Voxels (count,) of the parts 1 to ``count`` among ``labels``, of any shape."""
    return np.bincount(labels.ravel(), minlength=count + 1)[1:]


def largest_component(mask: Mask) -> Mask:
    """The largest part whose voxels touch at their faces; nothing, where there is none."""
    labels, count = ndimage.label(mask)
    if not count:
        return np.zeros(mask.shape, bool)
    return np.asarray(labels == 1 + component_sizes(labels, count).argmax())
