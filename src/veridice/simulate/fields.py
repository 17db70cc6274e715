"""Linear resampling along the axes and smooth random fields, from plain sums and products: the same on every machine."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from veridice.imaging.grid import interpolate_axis
from veridice.types import Array, Mask, Voxels


def enlarge(coarse: Array, shape: tuple[int, ...], factor: float) -> Array:
    """Linear enlargement: voxel ``i`` of the result lies at ``i / factor`` of ``coarse`` (x, y, z)."""
    for axis in range(3):
        coarse = interpolate_axis(coarse, np.minimum(np.arange(shape[axis]) / factor, coarse.shape[axis] - 1), axis)
    return coarse


def smooth_field(shape: tuple[int, ...], spacing: float, rng: np.random.Generator) -> Voxels:
    """Random field (x, y, z) of about unit deviation whose structure is ``spacing`` voxels wide (float32)."""
    lattice = rng.standard_normal([int(np.ceil(n / spacing)) + 2 for n in shape]).astype(np.float32)
    # A linear interpolation of independent values loses variance; 1.45 gives back what it loses on the average.
    return 1.45 * enlarge(lattice, shape, spacing)


def distance_mm(inside: Mask) -> Voxels:
    """Distance of each voxel of the mask to the outside, mm; measured at 2 mm, which is enough for a prior."""
    coarse = inside[::2, ::2, ::2]
    distance = (2.0 * ndimage.distance_transform_edt(coarse)).astype(np.float32)
    return enlarge(distance, inside.shape, 2)
