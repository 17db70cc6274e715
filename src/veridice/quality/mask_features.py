"""What speaks for and against a mask, whoever drew it: overlaps with our passes, appearance, shape. No torch."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from veridice.imaging.components import bounding_box, label_components
from veridice.quality.scan_analysis import ScanAnalysis
from veridice.types import Mask

SMALLEST_ML = 0.05
"""Added to volumes before their logarithm: below it a volume says no more."""
SUPPORTED = 0.25
"""A lesion whose highest probability is below this has no support."""
RING = (1, 3)
"""Voxels of the cube, about 1.5 mm each, between which a mask's surroundings lie."""


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
