"""A small picture of a scan with its mask, for the overview of a study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from veridice.imaging.grid import GridTransform
from veridice.imaging.volume import Volume
from veridice.report.mosaic import MASK_COLOUR, Panel, outlined, part_outlines
from veridice.report.slices import lesion_slices, picture_size, window

HEIGHT, SLICES = 128, 3
"""Pixels; axial slices beside each other."""


def write_thumbnail(flair: Volume, mask: Volume, transform: GridTransform, output: Path) -> None:
    """Axial slices with most of the mask, outlined, seen from the feet; without a mask the middle of the head.

    Args:
        flair: the scan.
        mask: boolean or labels, on the same grid.
        transform: whose crop is shown.
        output: PNG file, about 10 kB.
    """
    spacing = np.array(flair.geometry.voxel_spacing)[np.argsort(transform.orientation[:, 0])]
    image, marked = (transform.crop(volume.voxels) for volume in (flair, mask))
    panel = Panel("", image, "gray", *window(image))
    outlines = part_outlines(marked, MASK_COLOUR)
    width, height = picture_size(image.shape, spacing)
    size = max(1, round(HEIGHT * width / height)), HEIGHT
    pictures = [
        outlined(panel.picture(index, size), [(part[:, :, index], colour) for part, colour in outlines])
        for index in reversed(lesion_slices(marked > 0, SLICES))
    ]
    row = np.concatenate([np.array(picture) for picture in pictures], axis=1)
    Image.fromarray(row).quantize(64).save(output, optimize=True)
