"""Where lesions lie, in the words of the McDonald criteria: periventricular, juxtacortical, infratentorial; else deep white.

The rule (Thompson et al. 2018; Filippi et al. 2019) by which each connected part of a mask counts once:

1. infratentorial, when more than half of it lies in brainstem and cerebellum;
2. else periventricular, when it comes within :data:`TOUCHES_MM` of a ventricle;
3. else juxtacortical or cortical, when it comes as near to the cortex;
4. else deep white.

A confluent lesion from the ventricle to the cortex is one periventricular lesion. Other conventions part such lesions, which
changes their number by half. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from veridice.imaging.components import bounding_box
from veridice.imaging.grid import GridTransform
from veridice.imaging.tissue import Tissue, TissueMap
from veridice.types import Mask

PERIVENTRICULAR, JUXTACORTICAL, INFRATENTORIAL, DEEP_WHITE = PLACES = (
    "periventricular",
    "juxtacortical",
    "infratentorial",
    "deep_white",
)
TOUCHES_MM = 2.0
"""About a voxel of the cube, and what the anatomy is off by."""
LEAST_PART = 0.02
"""Share of a lesion that has to touch, so that one stray voxel of the anatomy decides nothing."""


def places_of(labels: np.ndarray[Any, Any], count: int, tissue: TissueMap, transform: GridTransform) -> list[str]:
    """Place of each lesion, in the order of their numbers.

    Args:
        labels: (x, y, z) numbers of lesions in the scan's own grid, 0 is none.
        count: how many there are.
        tissue: on the cube.
        transform: between the two.
    """
    cropped = transform.crop(labels)
    voxels = np.nonzero(cropped)
    numbers = cropped[voxels] - 1
    shape = np.array(tissue.shape)
    at = [
        np.minimum(((axis + 0.5) / scale).astype(int), n - 1)
        for axis, scale, n in zip(voxels, transform.scale, shape, strict=True)
    ]
    on_cube = np.zeros(tissue.shape, bool)
    on_cube[tuple(at)] = True
    spacing = transform.geometry.voxel_spacing
    near = [_near(tissue == kind, on_cube, spacing) for kind in (Tissue.VENTRICLE, Tissue.CORTEX)]
    below = np.isin(tissue, (Tissue.BRAINSTEM, Tissue.CEREBELLUM))
    sizes = np.maximum(np.bincount(numbers, minlength=count), 1)
    ventricle, cortex, infratentorial = (
        np.bincount(numbers, part[tuple(at)], minlength=count) / sizes for part in (*near, below)
    )
    found = np.full(count, DEEP_WHITE, dtype=object)
    found[cortex >= LEAST_PART] = JUXTACORTICAL
    found[ventricle >= LEAST_PART] = PERIVENTRICULAR
    found[infratentorial > 0.5] = INFRATENTORIAL
    return [str(place) for place in found]


def _near(tissue: Mask, where: Mask, spacing: tuple[float, float, float]) -> Mask:
    """Voxels within reach of a tissue; told only about those asked for."""
    box = bounding_box(where, margin=int(np.ceil(TOUCHES_MM / min(spacing))) + 1)
    near = np.zeros(tissue.shape, bool)
    if tissue[box].any():
        near[box] = ndimage.distance_transform_edt(~tissue[box], sampling=spacing) <= TOUCHES_MM
    return near


def by_place(places: Sequence[str], volumes_ml: Sequence[float]) -> dict[str, dict[str, float]]:
    """Number and volume of the lesions of each place."""
    return {
        place: {
            "count": places.count(place),
            "volume_ml": float(sum(volume for where, volume in zip(places, volumes_ml, strict=True) if where == place)),
        }
        for place in PLACES
    }
