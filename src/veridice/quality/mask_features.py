"""What speaks for and against a mask, whoever drew it: overlaps in its own grid with our passes, looks, shape. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import ndimage

from veridice.imaging.components import label_components
from veridice.imaging.grid import GridTransform
from veridice.imaging.volume import Geometry
from veridice.metrics.scores import PackedMasks
from veridice.types import Mask, ProbabilityMap, Voxels

Numbers = np.ndarray[tuple[int], np.dtype[np.float64]]

SMALLEST_ML = 0.05
"""Added to volumes before their logarithm: below it a volume says no more."""
SUPPORTED = 0.25
"""A lesion whose highest probability is below this has no support."""
RING = (1, 3)
"""Voxels of the cube, about 1.5 mm each, between which a mask's surroundings lie."""


@dataclass(frozen=True)
class NativeSamples:
    """Passes at 0.5 in the scan's own grid, cut to where any of them has a lesion.

    Args:
        masks: (passes, x, y, z) boolean, canonically oriented.
        region: where they lie in the crop of the :class:`~veridice.imaging.grid.GridTransform`.
    """

    masks: np.ndarray[Any, np.dtype[np.bool_]]
    region: tuple[slice, slice, slice]

    @cached_property
    def sizes(self) -> Numbers:
        """Voxels of each pass (passes,)."""
        return np.asarray(self.masks.sum(axis=(1, 2, 3)), np.float64)

    def overlaps(self, mask: Mask, transform: GridTransform) -> Numbers:
        """Hard Dice of ``mask`` (native grid) with each pass (passes,); two empty masks agree: 1."""
        inside = transform.crop(mask)[self.region]
        shared = self.masks[:, inside].sum(axis=1)
        total = self.sizes + np.count_nonzero(mask)
        return np.where(total > 0, 2.0 * shared / np.maximum(total, 1.0), 1.0)


def native_samples(packed: PackedMasks, transform: GridTransform) -> NativeSamples:
    """Bring the masks of all passes from the cube to the scan's own grid, each trilinearly and cut at 0.5 again."""
    shape = transform.grid_shape
    passes = np.unpackbits(packed, axis=1, count=int(np.prod(shape))).reshape(-1, *shape)
    found = ndimage.find_objects(passes.any(axis=0).astype(np.uint8))
    if not found:
        return NativeSamples(np.zeros((len(passes), 0, 0, 0), bool), (slice(0, 0),) * 3)
    region = transform.crop_region(found[0])
    return NativeSamples(np.stack([transform.to_crop(each, region) >= 0.5 for each in passes]), region)


@dataclass(frozen=True)
class Reading:
    """What is known of a scan, whatever mask is judged.

    Args:
        transform: from the scan's grid to the cube and back.
        samples: passes in the scan's grid.
        probability, own: mean probability and our own mask, scan's grid.
        flair, entropy: on the cube; FLAIR in [0, 1].
        brain, native_brain: brain mask on the cube, and in the scan's grid.
        pairwise_dice: agreement of the passes with one another.
    """

    transform: GridTransform
    samples: NativeSamples
    probability: ProbabilityMap
    own: Mask
    flair: Voxels
    entropy: Voxels
    brain: Mask
    native_brain: Mask
    pairwise_dice: float

    @property
    def geometry(self) -> Geometry:
        return self.transform.native


def mask_evidence(mask: Mask, reading: Reading) -> dict[str, float]:
    """Everything that the prediction of its Dice reads off a mask (native grid); NaN where there is nothing to measure.

    ``agreement_…``: Dice with each pass, our network as a panel of readers. ``expected_…``: were each voxel a lesion with its
    probability. ``own_…``: against our own mask. ``supported_…``, ``missed_…``: lesion by lesion.
    """
    return {
        **_agreement(mask, reading),
        **_expected(mask, reading),
        **_against_own(mask, reading),
        **_lesion_by_lesion(mask, reading),
        **_looks(mask, reading),
    }


def _agreement(mask: Mask, reading: Reading) -> dict[str, float]:
    each = reading.samples.overlaps(mask, reading.transform)
    return {
        "agreement_mean": float(each.mean()),
        "agreement_deviation": float(each.std()),
        "agreement_lowest": float(each.min()),
        "pairwise_dice": reading.pairwise_dice,
    }


def _expected(mask: Mask, reading: Reading) -> dict[str, float]:
    shared = float(reading.probability[mask].sum(dtype=np.float64))
    expected, size = float(reading.probability.sum(dtype=np.float64)), float(np.count_nonzero(mask))
    return {
        "expected_dice": 2 * shared / (expected + size) if expected + size > 0 else 1.0,
        "expected_precision": shared / size if size else np.nan,
        "expected_recall": shared / expected if expected > 0 else np.nan,
    }


def _against_own(mask: Mask, reading: Reading) -> dict[str, float]:
    own, voxel_ml = reading.own, reading.geometry.voxel_volume_ml
    sizes = np.count_nonzero(mask), np.count_nonzero(own)
    volume, own_volume = (float(np.log(size * voxel_ml + SMALLEST_ML)) for size in sizes)
    total = sum(sizes)
    shared = np.count_nonzero(mask & own)
    near = np.count_nonzero(mask & ndimage.binary_dilation(own)) + np.count_nonzero(own & ndimage.binary_dilation(mask))
    return {
        "own_dice": 2 * shared / total if total else 1.0,
        "own_tolerant_dice": near / total if total else 1.0,
        "log_volume": volume,
        "own_log_volume": own_volume,
        "log_volume_ratio": volume - own_volume,
    }


def _lesion_by_lesion(mask: Mask, reading: Reading) -> dict[str, float]:
    labels, sizes = label_components(mask)
    own_labels, own_sizes = label_components(reading.own)
    count, own_count = len(sizes), len(own_sizes)
    highest = np.zeros(count)
    np.maximum.at(highest, labels[mask] - 1, reading.probability[mask])
    supported = highest >= SUPPORTED
    touched = np.isin(np.arange(1, own_count + 1), own_labels[mask])
    return {
        "supported_lesions": float(supported.mean()) if count else np.nan,
        "supported_volume": float(sizes[supported].sum() / sizes.sum()) if count else np.nan,
        "missed_lesions": float(1 - touched.mean()) if own_count else np.nan,
        "missed_volume": float(own_sizes[~touched].sum() / own_sizes.sum()) if own_count else np.nan,
        "log_lesions": float(np.log1p(count)),
        "log_mean_size": float(np.log(sizes.mean() * reading.geometry.voxel_volume_ml)) if count else np.nan,
    }


def _looks(mask: Mask, reading: Reading) -> dict[str, float]:
    """Brightness of the mask against its surroundings and the brain, on the cube."""
    on_cube = reading.transform.to_grid(mask) >= 0.5
    inside, brain = on_cube & reading.brain, reading.flair[reading.brain]
    none = dict.fromkeys(("brightness", "contrast", "mask_entropy"), np.nan)
    size = np.count_nonzero(on_cube)
    shares = {"outside_brain": 1 - np.count_nonzero(inside) / size if size else np.nan}
    if not inside.any() or brain.size < 2:
        return {**none, **shares, "surface": np.nan}
    middle, spread = float(np.median(brain)), float(np.subtract(*np.percentile(brain, [75, 25]))) or 1.0
    near, far = (ndimage.binary_dilation(on_cube, iterations=n) for n in RING)
    ring = far & ~near & reading.brain
    bright = float(reading.flair[inside].mean())
    around = float(reading.flair[ring].mean()) if ring.any() else middle
    return {
        "brightness": (bright - middle) / spread,
        "contrast": (bright - around) / spread,
        "mask_entropy": float(reading.entropy[on_cube].mean()),
        **shares,
        "surface": np.count_nonzero(on_cube & ~ndimage.binary_erosion(on_cube)) / size,
    }
