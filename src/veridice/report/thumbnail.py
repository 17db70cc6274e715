"""A small picture of a scan with its mask, for the overview of a study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from veridice.imaging.grid import GridTransform
from veridice.imaging.volume import Volume
from veridice.report.slices import lesion_slices, picture_size
from veridice.types import Mask, Voxels

HEIGHT, SLICES = 128, 3
"""Pixels; axial slices beside each other."""
OUTLINE = (255, 90, 31)


def write_thumbnail(flair: Volume, mask: Volume, transform: GridTransform, output: Path) -> None:
    """Axial slices with most of the mask, outlined, seen from the feet; without a mask the middle of the head.

    Args:
        flair: the scan.
        mask: boolean, on the same grid.
        transform: whose crop is shown.
        output: PNG file, about 10 kB.
    """
    spacing = np.array(flair.geometry.voxel_spacing)[np.argsort(transform.orientation[:, 0])]
    image, marked = (transform.crop(volume.voxels) for volume in (flair, mask))
    middle = image[tuple(slice(n // 4, n - n // 4) for n in image.shape)]
    low, high = np.percentile(image, 1), np.percentile(middle, 99.8)
    shown = ((image - low) / max(high - low, 1e-6)).clip(0, 1)
    size = picture_size(image.shape, spacing)
    pieces = [_slice(shown[:, :, index], marked[:, :, index], size) for index in reversed(lesion_slices(marked, SLICES))]
    Image.fromarray(np.concatenate(pieces, axis=1)).quantize(64).save(output, optimize=True)


def _slice(image: Voxels, mask: Mask, size: tuple[float, float]) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    pixels = max(1, round(HEIGHT * size[0] / size[1])), HEIGHT
    factors = pixels[0] / image.shape[0], pixels[1] / image.shape[1]
    grey = ndimage.zoom(image, factors, order=1, grid_mode=True, mode="nearest").clip(0, 1)
    inside: Mask = ndimage.zoom(mask, factors, order=1, grid_mode=True, mode="nearest") >= 0.5
    edge = inside & ~ndimage.binary_erosion(inside)
    colours = np.repeat((255 * grey).astype(np.uint8)[..., None], 3, axis=2)
    colours[edge] = OUTLINE
    # Radiological: right is left, front is up.
    return np.ascontiguousarray(colours[::-1, ::-1].transpose(1, 0, 2))
