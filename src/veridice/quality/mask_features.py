"""What speaks for and against a mask, whoever drew it: overlaps with our passes, appearance, shape. No torch."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from veridice.imaging.components import bounding_box, label_components
from veridice.quality.scan_analysis import ScanAnalysis
from veridice.types import Mask, Voxels

BORDER = ("bright_outside", "bright_beyond", "dark_inside", "halfway_dice", "edge", "bright_elsewhere")
SMALLEST_ML = 0.05
"""Added to volumes before their logarithm: below it a volume says no more."""
SUPPORTED = 0.25
"""A lesion whose highest probability is below this has no support."""
RING = (1, 3)
"""Voxels of the cube, about 1.5 mm each, between which a mask's surroundings lie."""
NEIGHBOURHOOD = 3.0
"""Deviation (voxels of the cube) of the Gaussian that says how bright lesion and tissue are at a place."""
SLOPE, FLAT = 0.7, 1e-6
"""Deviation (voxels of the cube) of the Gaussian that steepness is measured with; a steepness below the second is none."""


def mask_evidence(mask: Mask, analysis: ScanAnalysis) -> dict[str, float]:
    """Everything that the prediction of its Dice reads off a mask (native grid); NaN where there is nothing to measure.

    ``agreement_…``: Dice with each pass, our network as a panel of readers. ``expected_…``: were each voxel a lesion with its
    probability. ``own_…``: against our own mask. ``supported_…``, ``missed_…``: lesion by lesion.
    """
    return {
        **_agreement(mask, analysis),
        **_expected(mask, analysis),
        **_against_own(mask, analysis),
        **_lesion_by_lesion(mask, analysis),
        **_appearance(mask, analysis),
        **_border(mask, analysis),
    }


def _agreement(mask: Mask, analysis: ScanAnalysis) -> dict[str, float]:
    each = analysis.samples.overlaps(mask, analysis.transform)
    return {
        "agreement_mean": float(each.mean()),
        "agreement_deviation": float(each.std()),
        "agreement_lowest": float(each.min()),
        "pairwise_dice": analysis.pairwise_dice,
    }


def _expected(mask: Mask, analysis: ScanAnalysis) -> dict[str, float]:
    shared = float(analysis.probability[mask].sum(dtype=np.float64))
    expected, size = float(analysis.probability.sum(dtype=np.float64)), float(np.count_nonzero(mask))
    return {
        "expected_dice": 2 * shared / (expected + size) if expected + size > 0 else 1.0,
        "expected_precision": shared / size if size else np.nan,
        "expected_recall": shared / expected if expected > 0 else np.nan,
    }


def _against_own(mask: Mask, analysis: ScanAnalysis) -> dict[str, float]:
    own, voxel_ml = analysis.own, analysis.geometry.voxel_volume_ml
    sizes = np.count_nonzero(mask), np.count_nonzero(own)
    volume, own_volume = (float(np.log(size * voxel_ml + SMALLEST_ML)) for size in sizes)
    total = sum(sizes)
    shared = np.count_nonzero(mask & own)
    box = bounding_box(mask | own, margin=1)
    first, second = mask[box], own[box]
    near = np.count_nonzero(first & ndimage.binary_dilation(second)) + np.count_nonzero(second & ndimage.binary_dilation(first))
    return {
        "own_dice": 2 * shared / total if total else 1.0,
        "own_tolerant_dice": near / total if total else 1.0,
        "log_volume": volume,
        "own_log_volume": own_volume,
        "log_volume_ratio": volume - own_volume,
    }


def _lesion_by_lesion(mask: Mask, analysis: ScanAnalysis) -> dict[str, float]:
    labels, sizes = label_components(mask)
    own_labels, own_sizes = label_components(analysis.own)
    count, own_count = len(sizes), len(own_sizes)
    highest = np.zeros(count)
    np.maximum.at(highest, labels[mask] - 1, analysis.probability[mask])
    supported = highest >= SUPPORTED
    touched = np.isin(np.arange(1, own_count + 1), own_labels[mask])
    return {
        "supported_lesions": float(supported.mean()) if count else np.nan,
        "supported_volume": float(sizes[supported].sum() / sizes.sum()) if count else np.nan,
        "missed_lesions": float(1 - touched.mean()) if own_count else np.nan,
        "missed_volume": float(own_sizes[~touched].sum() / own_sizes.sum()) if own_count else np.nan,
        "log_lesions": float(np.log1p(count)),
        "log_mean_size": float(np.log(sizes.mean() * analysis.geometry.voxel_volume_ml)) if count else np.nan,
    }


def _appearance(mask: Mask, analysis: ScanAnalysis) -> dict[str, float]:
    """Brightness of the mask against its surroundings and the brain, on the cube."""
    on_cube = analysis.transform.to_grid(mask) >= 0.5
    inside, brain = on_cube & analysis.brain, analysis.flair[analysis.brain]
    none = dict.fromkeys(("brightness", "contrast", "mask_entropy"), np.nan)
    size = np.count_nonzero(on_cube)
    shares = {"outside_brain": 1 - np.count_nonzero(inside) / size if size else np.nan}
    if not inside.any() or brain.size < 2:
        return {**none, **shares, "surface": np.nan}
    middle, spread = float(np.median(brain)), float(np.subtract(*np.percentile(brain, [75, 25]))) or 1.0
    box = bounding_box(on_cube, margin=RING[1])
    near, far = (ndimage.binary_dilation(on_cube[box], iterations=n) for n in RING)
    ring = far & ~near & analysis.brain[box]
    bright = float(analysis.flair[inside].mean())
    around = float(analysis.flair[box][ring].mean()) if ring.any() else middle
    return {
        "brightness": (bright - middle) / spread,
        "contrast": (bright - around) / spread,
        "mask_entropy": float(analysis.passes.entropy[on_cube].mean()),
        **shares,
        "surface": 1 - np.count_nonzero(ndimage.binary_erosion(on_cube[box])) / size,
    }


def _border(mask: Mask, analysis: ScanAnalysis) -> dict[str, float]:
    """Whether the border lies where the FLAIR is halfway between lesion and tissue of the neighbourhood, on the cube.

    ``bright_outside``, ``bright_beyond``: of the first and the second layer of voxels around the mask, share above halfway; a
    tight mask has many. ``dark_inside``: of its outermost layer, share below; a generous mask has many. ``halfway_dice``: of
    the mask and all that is above halfway in it and in two layers around. ``edge``: how steep the FLAIR is at the border,
    over that in the next layer to either side (logarithm). ``bright_elsewhere``: brain as bright as the mask but away from
    it, in sizes of the mask (logarithm).
    """
    on_cube = analysis.transform.to_grid(mask) >= 0.5
    box = bounding_box(on_cube, margin=int(3 * NEIGHBOURHOOD))
    marked, brain, flair = on_cube[box], analysis.brain[box], analysis.flair[box].astype(np.float32)
    grown, wide = (ndimage.binary_dilation(marked, iterations=n) for n in (1, 2))
    core, tissue = ndimage.binary_erosion(marked), brain & ~wide
    if not (marked & brain).any() or not tissue.any():
        return dict.fromkeys(BORDER, np.nan)
    bright = flair > (_level(flair, marked & brain) + _level(flair, tissue)) / 2
    near = bright & wide & brain
    steep = ndimage.gaussian_gradient_magnitude(flair, SLOPE)
    border, sides = grown & ~core, (wide & ~grown) | (core & ~ndimage.binary_erosion(core))
    as_bright = float(np.median(flair[marked]))
    elsewhere = np.count_nonzero((analysis.flair > as_bright) & analysis.brain)
    elsewhere -= np.count_nonzero((flair > as_bright) & wide & brain)
    return {
        "bright_outside": _share(bright, grown & ~marked & brain),
        "bright_beyond": _share(bright, wide & ~grown & brain),
        "dark_inside": _share(~bright, marked & ~core),
        "halfway_dice": 2 * _share(near, marked) / (1 + np.count_nonzero(near) / np.count_nonzero(marked)),
        "edge": float(np.log(max(steep[border].mean(), FLAT) / max(steep[sides].mean(), FLAT))) if sides.any() else np.nan,
        "bright_elsewhere": float(np.log1p(elsewhere / np.count_nonzero(marked))),
    }


def _share(these: Mask, among: Mask) -> float:
    return float(these[among].mean()) if among.any() else np.nan


def _level(flair: Voxels, where: Mask) -> Voxels:
    """How bright these voxels are around each place; far from all of them their mean."""
    weight = ndimage.gaussian_filter(where.astype(np.float32), NEIGHBOURHOOD)
    total = ndimage.gaussian_filter(np.where(where, flair, 0), NEIGHBOURHOOD)
    return np.where(weight > 1e-4, total / np.maximum(weight, 1e-4), flair[where].mean())
