"""Doubts about the images themselves, as warnings in plain words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from veridice.case import Notice
from veridice.imaging.components import fill_holes
from veridice.imaging.volume import Geometry
from veridice.types import Array, Mask, Voxels

THICK_SLICE_MM = 5.0
SMALLEST_HEAD_MM, LARGEST_HEAD_MM = 70, 350
SWAP_MARGIN = 0.1
HEAD_LEVEL = 0.15
SAME_CORRELATION = 0.995
FIT_SHIFT, FIT_STEP, FIT_BINS = 5, 2, 32
"""Voxels of the cube by which the T1w is displaced; every how many voxels count; bins of the joint histogram."""
LEAST_FIT = 2.0
"""Mutual information of FLAIR and T1w over that when displaced: at least 3.4 in 29 clinical pairs of one person and 2.07 in six
simulated ones (a noisy one of thick slices), at most 1.92 in 80 pairs of two people."""
FEWEST_POINTS = 2000


def image_doubts(flair: Voxels, t1: Voxels | None, brain: Mask, cube: Geometry) -> list[Notice]:
    """What is wrong with the images, so that no mask of them should be accepted unseen.

    Args:
        flair, t1: (x, y, z) on the cube, in [0, 1].
        brain: (x, y, z) on the cube.
        cube: the grid around the head.
    """
    doubts: list[Notice] = []
    extent = [round(n * spacing) for n, spacing in zip(cube.shape, cube.voxel_spacing, strict=True)]
    if min(extent) < SMALLEST_HEAD_MM or max(extent) > LARGEST_HEAD_MM:
        size = " x ".join(str(side) for side in extent)
        text = f"what was imaged measures {size} mm, not like a whole human head: check voxel sizes and coverage"
        doubts.append(Notice("head_size", text))
    if t1 is not None and looks_same(flair, t1):
        doubts.append(Notice("same_image", "FLAIR and T1w are the same image: give the T1w of this scan, or none"))
    elif t1 is not None and looks_swapped(flair, t1, brain):
        text = "FLAIR and T1w look swapped (the 'T1w' has the contrast of a FLAIR): check the two files"
        doubts.append(Notice("swapped_images", text))
    elif t1 is not None and (fit := fit_of_pair(flair, t1, brain)) is not None and fit < LEAST_FIT:
        text = "the T1w does not fit the FLAIR's brain: it seems to be of another person, or is badly aligned"
        doubts.append(Notice("another_person", text))
    return doubts


def image_warnings(t1: bool, native: Geometry) -> list[Notice]:
    """What makes the judgement less certain.

    Args:
        t1: whether there is one.
        native: the scan's own grid.
    """
    warnings: list[Notice] = []
    if max(native.voxel_spacing) >= THICK_SLICE_MM:
        text = f"slices are {max(native.voxel_spacing):.1f} mm thick: small lesions may be lost between them"
        warnings.append(Notice("thick_slices", text))
    if not t1:
        warnings.append(Notice("no_t1", "no T1w was given: judged from the FLAIR alone, which is less certain"))
    return warnings


def looks_same(flair: Voxels, t1: Voxels) -> bool:
    """Whether one image is the other, but for rounding: FLAIR and T1w of one head correlate by some 0.9."""
    if np.array_equal(flair, t1):
        return True
    images = flair[::2, ::2, ::2].ravel(), t1[::2, ::2, ::2].ravel()
    return bool(min(image.std() for image in images) > 0 and np.corrcoef(*images)[0, 1] > SAME_CORRELATION)


def fit_of_pair(flair: Voxels, t1: Voxels, brain: Mask) -> float | None:
    """How much more information FLAIR and T1w share within the brain than with the T1w displaced to the sides, front or back.

    The folds of two people's brains do not meet, so that a displacement loses little. None where there is too little brain.
    """
    inner = np.zeros_like(brain)
    inside = slice(FIT_SHIFT, -FIT_SHIFT, FIT_STEP)
    inner[inside, inside, inside] = brain[inside, inside, inside]
    places = np.argwhere(inner)
    if len(places) < FEWEST_POINTS:
        return None
    fixed = _clipped(flair[tuple(places.T)])
    here = _information(fixed, _clipped(t1[tuple(places.T)]))
    sides = [(by if axis == 0 else 0, by if axis == 1 else 0, 0) for axis in range(2) for by in (-FIT_SHIFT, FIT_SHIFT)]
    displaced = [_information(fixed, _clipped(t1[tuple((places + side).T)])) for side in sides]
    return here / max(float(np.mean(displaced)), 1e-6)


def _clipped(values: Voxels) -> Voxels:
    return values.clip(*np.percentile(values, (1, 99)))


def _information(first: Voxels, second: Voxels) -> float:
    """Mutual information (nats) of two rows of intensities."""
    joint = np.histogram2d(first, second, FIT_BINS)[0] / first.size
    alone = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / alone[seen])).sum())


def looks_swapped(flair: Voxels, t1: Voxels, brain: Mask) -> bool:
    """Whether the brain gets brighter towards the middle more clearly on the 'FLAIR' than on the 'T1w'.

    White matter lies deep and cortex at the surface; a T1w shows white matter brighter than grey, a FLAIR does not. Scalp and
    skull around it differ more from scan to scan than that; only where no brain was found the whole head counts.
    """
    inside = np.where(brain, flair, 0) if brain.any() else flair
    first, second = depth_correlations([flair, t1], inside)
    return first - second > SWAP_MARGIN


def depth_correlations(images: Sequence[Voxels], flair: Voxels) -> list[float]:
    """Of each image the Pearson correlation of intensity and depth below the surface of what ``flair`` shows."""
    # Every second voxel is plenty for a correlation and costs an eighth.
    head = fill_holes(ndimage.binary_opening(flair[::2, ::2, ::2] > HEAD_LEVEL))
    depth = ndimage.distance_transform_edt(head)[head]
    return [_correlation(image[::2, ::2, ::2][head], depth) for image in images]


def _correlation(values: Voxels, depth: Array) -> float:
    """Among all but the darkest voxels."""
    if values.size < 2:
        return 0.0
    tissue = values > np.percentile(values, 30)
    if tissue.sum() < 2 or values[tissue].std() == 0 or depth[tissue].std() == 0:
        return 0.0
    return float(np.corrcoef(values[tissue], depth[tissue])[0, 1])
