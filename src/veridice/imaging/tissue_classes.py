"""Tissue by intensity alone: classes of an image on the cube between Otsu's thresholds."""

from __future__ import annotations

import numpy as np
import SimpleITK as sitk

from veridice.types import Mask, Voxels

CLASSES = 4
"""Of a T1w: background, fluid, grey and white matter."""
BINS = 128


def tissue_classes(image: Voxels) -> Voxels:
    """Which of :data:`CLASSES` classes each voxel is in (classes, x, y, z), float32, the darkest first (Otsu 1979, by ITK)."""
    if image.min() == image.max():
        return np.stack([np.full(image.shape, number == 0, np.float32) for number in range(CLASSES)])
    labels = sitk.OtsuMultipleThresholds(sitk.GetImageFromArray(image.astype(np.float32)), CLASSES - 1, 0, BINS)
    found = sitk.GetArrayFromImage(labels)
    return np.stack([found == number for number in range(CLASSES)]).astype(np.float32)


def labels_with_mask(images: Voxels, mask: Mask) -> Voxels:
    """Tissue classes and a mask that goes before them (classes + 1, x, y, z), float32.

    Args:
        images: contrasts on the cube (2, x, y, z); the classes are of the second, where there is one.
        mask: (x, y, z).
    """
    classes = tissue_classes(images[1] if images[1].any() else images[0])
    return np.concatenate([np.where(mask, 0, classes), mask[None]]).astype(np.float32)
