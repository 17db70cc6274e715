"""Methods that need more than the maps of one scan: other networks, changed images, other people's scans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor, nn
from torch.nn import functional

from veridice.inference.passes import Backend, deterministic_pass
from veridice.metrics.overlap import dice
from veridice.metrics.scores import PackedMasks, mean_pairwise_dice
from veridice.types import Mask, Voxels

LARGEST_TURN = 0.1
"""Radians about each axis."""
LARGEST_STRETCH = 0.05
LARGEST_NOISE = 0.05
"""Standard deviation, image in [0, 1]."""
REGISTRATION_STEPS = 60
SAMPLED_VOXELS = 0.2


def packed(probability: Voxels) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """The mask of a probability map, eight voxels a byte."""
    return np.packbits((probability >= 0.5).ravel())


def ensemble_masks(members: Sequence[nn.Module], images: Voxels, backend: Backend) -> PackedMasks:
    """One mask a member (members, bytes), without dropout (deep ensembles: Lakshminarayanan et al. 2017)."""
    return np.stack([packed(deterministic_pass(member, images, backend)) for member in members])


def augmented_masks(segmenter: nn.Module, images: Voxels, backend: Backend, count: int, seed: int) -> PackedMasks:
    """Masks (count, bytes) of changed images, brought back (test-time augmentation: Wang et al. 2019, arXiv:1807.07356).

    Each is turned, stretched, mirrored and noisy by its own random amount; the change of place is inverted exactly up to
    interpolation.
    """
    masks = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        change, mirrored = _small_affine(rng), rng.random() < 0.5
        there = _resample(torch.from_numpy(np.ascontiguousarray(images, np.float32)), change)
        there = there.flip(1) if mirrored else there
        noise = rng.standard_normal(there.shape).astype(np.float32) * rng.uniform(0, LARGEST_NOISE)
        found = torch.from_numpy(deterministic_pass(segmenter, there.numpy() + noise, backend))[None]
        found = found.flip(1) if mirrored else found
        masks.append(packed(_resample(found, np.linalg.inv(change))[0].numpy()))
    return np.stack(masks)


def _small_affine(rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float64]]:
    change = np.diag([*rng.uniform(1 - LARGEST_STRETCH, 1 + LARGEST_STRETCH, 3), 1.0])
    for first, second in ((0, 1), (0, 2), (1, 2)):
        angle = rng.uniform(-LARGEST_TURN, LARGEST_TURN)
        turn = np.eye(4)
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        change = turn @ change
    return change


def _resample(images: Tensor, change: np.ndarray[Any, np.dtype[np.float64]]) -> Tensor:
    """Images (channels, x, y, z) on a cube, moved about its middle."""
    theta = torch.from_numpy(change[None, :3].astype(np.float32))
    grid = functional.affine_grid(theta, [1, *images.shape], align_corners=False)
    return functional.grid_sample(images[None], grid, align_corners=False)[0]


def pairwise_agreement(masks: PackedMasks) -> float:
    """Mean Dice over all pairs; the field's best detector of failures (Zenk et al. 2025)."""
    return mean_pairwise_dice(masks)


def reverse_classification(
    flair: Voxels, segmentation: Voxels, references: Sequence[tuple[Voxels, Mask]], seed: int = 0
) -> float:
    """Best Dice that the segmentation reaches as an atlas of people whose truth is known (RCA; Valindria et al. 2017).

    Args:
        flair: of the judged scan, on the coarse cube (x, y, z), about 2 mm.
        segmentation: judged, the same grid, as shares.
        references: FLAIR and true mask of training cases on such cubes. The scan is registered to each (affine, mutual
            information), and its segmentation carried over.
        seed: of the registration's sampling.
    """
    moving, carried = sitk.GetImageFromArray(flair.astype(np.float32)), sitk.GetImageFromArray(segmentation.astype(np.float32))
    best = 0.0
    for reference, truth in references:
        fixed = sitk.GetImageFromArray(reference.astype(np.float32))
        placed = sitk.Resample(carried, fixed, _register(fixed, moving, seed), sitk.sitkLinear, 0.0)
        best = max(best, dice(sitk.GetArrayFromImage(placed) >= 0.5, truth).dice)
    return best


def _register(fixed: sitk.Image, moving: sitk.Image, seed: int) -> sitk.Transform:
    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    registration = sitk.ImageRegistrationMethod()
    registration.SetMetricAsMattesMutualInformation(32)
    registration.SetMetricSamplingStrategy(registration.RANDOM)
    registration.SetMetricSamplingPercentage(SAMPLED_VOXELS, seed + 1)
    registration.SetInterpolator(sitk.sitkLinear)
    registration.SetOptimizerAsGradientDescent(1.0, REGISTRATION_STEPS, 1e-6, 10)
    registration.SetOptimizerScalesFromPhysicalShift()
    registration.SetShrinkFactorsPerLevel([2, 1])
    registration.SetSmoothingSigmasPerLevel([1, 0])
    registration.SetInitialTransform(start, inPlace=False)
    try:
        return registration.Execute(fixed, moving)
    except RuntimeError:  # nothing overlaps: the images themselves say that this reference does not fit
        return start
