"""Maps and samples to numbers. No torch: a machine without it can still judge stored maps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from veridice.imaging.components import bounding_box, label_components
from veridice.metrics.maps import GridMaps, PackedMasks, union, unpacked
from veridice.metrics.shadowed_sets import shadow_share, shadow_size
from veridice.types import Mask, Voxels

BORDER_VOXELS = 1
PATCH_VOXELS = 10
SUM_GRID = (128, 128, 128)
"""The cube of all voxel-wise sums, the paper's; a sum grows with the number of voxels."""


def voxelwise_sum(map_: Voxels) -> float:
    """Sum over all voxels of a map, ``VS = sum_v M_v`` (paper, Eq. 10), on :data:`SUM_GRID`.

    Maps of a network on another cube are resampled to it first, trilinearly, edges on edges.
    """
    if map_.shape == SUM_GRID:
        return float(map_.sum(dtype=np.float64))
    # The sum of a resampled map is linear in the map, so that the map itself need not be resampled.
    weights = [_weights_in_sum(given, wanted) for given, wanted in zip(map_.shape, SUM_GRID, strict=True)]
    return float(np.einsum("xyz,x,y,z->", map_.astype(np.float64), *weights, optimize=True))


def _weights_in_sum(given: int, wanted: int) -> Voxels:
    """What each of ``given`` voxels in a row counts when they are resampled to ``wanted``, trilinearly, edges on edges."""
    return np.asarray(ndimage.zoom(np.eye(given), (wanted / given, 1), order=1, mode="nearest", grid_mode=True).sum(axis=0))


def entropy_sum(maps: GridMaps) -> float:
    """Voxel-wise sum of the entropy, bits (paper, Eq. 10)."""
    return voxelwise_sum(maps.entropy)


def error_sum(maps: GridMaps) -> float:
    """Voxel-wise sum of the signed reconstruction error (paper, Eq. 10), FLAIR in [0, 1]."""
    return voxelwise_sum(maps.error)


def absolute_error_sum(maps: GridMaps) -> float:
    """Voxel-wise sum of the absolute reconstruction error, FLAIR in [0, 1]."""
    return voxelwise_sum(np.abs(maps.error))


def variance_sum(maps: GridMaps) -> float:
    """Voxel-wise sum of the predictive variance."""
    return voxelwise_sum(maps.variance)


def mutual_information_sum(maps: GridMaps) -> float:
    """Voxel-wise sum of the mutual information, bits."""
    return voxelwise_sum(maps.mutual_information)


def mean_foreground_entropy(maps: GridMaps) -> float | None:
    """Mean entropy over the judged mask, bits; None where the mask is empty."""
    mask = maps.mask
    return float(maps.entropy[mask].mean()) if mask.any() else None


def non_boundary_entropy(maps: GridMaps) -> float:
    """Mean entropy of all voxels farther than :data:`BORDER_VOXELS` from the mask's border, bits.

    Borders are always doubtful, by an amount that follows the lesions' surface and not their quality (Zenk et al. 2025).
    """
    mask = maps.mask
    box = bounding_box(mask, margin=BORDER_VOXELS)
    grown = ndimage.binary_dilation(mask[box], iterations=BORDER_VOXELS)
    shrunk = ndimage.binary_erosion(mask[box], iterations=BORDER_VOXELS)
    away = np.ones(mask.shape, bool)
    away[box] = ~grown | shrunk
    return float(maps.entropy[away].mean(dtype=np.float64)) if away.any() else 0.0


def patch_maximum_entropy(maps: GridMaps) -> float:
    """Highest mean entropy of any patch of :data:`PATCH_VOXELS` cubed, bits (Zenk et al. 2025); beyond the cube it is 0."""
    return float(ndimage.uniform_filter(maps.entropy.astype(np.float64), PATCH_VOXELS, mode="constant").max())


def structural_uncertainty(maps: GridMaps) -> float:
    """1 - mean intersection over union of each sample and their mean's mask (PSU; Molchanova et al. 2023, arXiv:2311.08931).

    Two empty masks agree.
    """
    own = np.packbits((maps.mean >= 0.5).ravel())
    used = maps.sample_masks.any(axis=0) | (own > 0)
    samples = np.unpackbits(maps.sample_masks[:, used], axis=1).astype(np.float64)
    mean = np.unpackbits(own[used]).astype(np.float64)
    shared = samples @ mean
    union = samples.sum(axis=1) + mean.sum() - shared
    return float(1.0 - np.where(union > 0, shared / np.maximum(union, 1.0), 1.0).mean())


def lesion_uncertainties(maps: GridMaps) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Of each connected part of the judged mask (lesions,), in the order of ``scipy.ndimage.label``, 26 neighbours:
    1 - mean over the samples of its intersection over union with the sample's part that fits it best (LSU, the same paper).
    """
    shape = maps.mask.shape
    box = bounding_box(union(maps.sample_masks, shape) | maps.mask)
    lesions, sizes = label_components(maps.mask[box])
    fit = np.zeros(len(sizes))
    for packed in maps.sample_masks:
        parts, part_sizes = label_components(unpacked(packed, shape)[box])
        both = (lesions > 0) & (parts > 0)
        base = len(part_sizes) + 1
        pairs, shared = np.unique(lesions[both].astype(np.int64) * base + parts[both], return_counts=True)
        lesion, part = np.divmod(pairs, base)
        best = np.zeros(len(sizes))
        np.maximum.at(best, lesion - 1, shared / (sizes[lesion - 1] + part_sizes[part - 1] - shared))
        fit += best
    return np.asarray(1.0 - fit / len(maps.sample_masks))


def lesion_uncertainty(maps: GridMaps) -> float | None:
    """Mean of :func:`lesion_uncertainties`, every lesion alike; None where the mask is empty."""
    each = lesion_uncertainties(maps)
    return float(each.mean()) if len(each) else None


def pairwise_dice(maps: GridMaps) -> float:
    """Mean Dice over all pairs of samples (Roy et al. 2019; Zenk et al. 2025); two empty samples agree: 1."""
    return mean_pairwise_dice(maps.sample_masks)


def mean_pairwise_dice(packed: PackedMasks) -> float:
    """The same of any masks of one scan (masks, bytes), packed by ``np.packbits``: of an ensemble, of augmented passes."""
    masks = _unpacked(packed)
    shared = masks @ masks.T
    sizes = np.diag(shared)
    rows, columns = np.triu_indices(len(sizes), k=1)
    total = sizes[rows] + sizes[columns]
    dice = np.where(total > 0, 2.0 * shared[rows, columns] / np.maximum(total, 1.0), 1.0)
    return float(dice.mean())


def sample_agreement(maps: GridMaps) -> float:
    """Mean Dice of the judged mask with each sample: our network as a panel of readers; two empty masks agree: 1."""
    judged = np.packbits(maps.mask.ravel())
    used = maps.sample_masks.any(axis=0)
    masks = _unpacked(maps.sample_masks)
    total = masks.sum(axis=1) + np.count_nonzero(maps.mask)
    shared = masks @ np.unpackbits(judged[used]).astype(np.float64)
    return float(np.where(total > 0, 2.0 * shared / np.maximum(total, 1.0), 1.0).mean())


def soft_dice_confidence(maps: GridMaps) -> float:
    """``2 sum(p m) / (sum(p) + sum(m))`` of the mean probability p and its mask m (Borges et al. 2024, arXiv:2402.10665): the
    Dice that is expected were each voxel the target with its probability, and about the best that p alone can say. Nothing
    marked and nothing expected: 1.
    """
    mask = maps.mean >= 0.5
    total = float(maps.mean.sum(dtype=np.float64)) + np.count_nonzero(mask)
    return 2.0 * float(maps.mean[mask].sum(dtype=np.float64)) / total if total > 0 else 1.0


SCORES: dict[str, Callable[[GridMaps], float | None]] = {
    "entropy_sum": entropy_sum,
    "error_sum": error_sum,
    "absolute_error_sum": absolute_error_sum,
    "variance_sum": variance_sum,
    "mutual_information_sum": mutual_information_sum,
    "mean_foreground_entropy": mean_foreground_entropy,
    "non_boundary_entropy": non_boundary_entropy,
    "patch_maximum_entropy": patch_maximum_entropy,
    "structural_uncertainty": structural_uncertainty,
    "lesion_uncertainty": lesion_uncertainty,
    "pairwise_dice": pairwise_dice,
    "soft_dice_confidence": soft_dice_confidence,
    "shadow_size": shadow_size,
    "shadow_share": shadow_share,
    "sample_agreement": sample_agreement,
}


def all_scores(maps: GridMaps) -> dict[str, float | None]:
    """Every score of :data:`SCORES` by name."""
    return {name: score(maps) for name, score in SCORES.items()}


def lesion_volume_ml(mask: Mask, voxel_volume_ml: float) -> float:
    """Volume of a mask in millilitres."""
    return float(np.count_nonzero(mask) * voxel_volume_ml)


def lesion_count(mask: Mask) -> int:
    """Number of connected components."""
    return len(label_components(mask)[1])


def _unpacked(packed: PackedMasks) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(passes, occupied voxels) as numbers, for products; lesions fill few voxels, so this stays small."""
    used = np.flatnonzero(packed.any(axis=0))
    return np.unpackbits(packed[:, used], axis=1).astype(np.float64)


def error_map(flair: Voxels, reconstruction: Voxels) -> Voxels:
    """Signed error ``E = I - I_hat`` (paper, Eq. 4) of two images (x, y, z) in [0, 1]."""
    return flair - reconstruction
