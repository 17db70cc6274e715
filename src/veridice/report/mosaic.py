"""The picture of a report: a row a slice, a column a map. Drawn with Pillow, which is there in a moment."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from veridice.config import LESION, Task
from veridice.imaging.grid import GridTransform
from veridice.imaging.volume import Volume
from veridice.report.slices import doubtful_slices, picture_size, radiological, window
from veridice.types import Mask, Voxels

Pixels = np.ndarray[Any, np.dtype[np.uint8]]

SLICES = 4
WIDTH, GAP, ABOVE, BELOW = 273, 3, 40, 54
"""Pixels: of a picture, between two, room for titles, room for colour bars."""
MASK_COLOUR = (255, 90, 31)
OWN_COLOUR = (53, 208, 255)
COLOURS = {
    "gray": "000000 ffffff",
    "magma": (
        "000004 0a0822 1d1147 36106b 51127c 6a1c81 832681 9c2e7f b73779 d0416f e75263 f56b5c fc8961 fea772 fec488 fde2a3 fcfdbf"
    ),
    "RdBu_r": "053061 2166ac 4393c3 92c5de d1e5f0 f7f7f7 fddbc7 f4a582 d6604d b2182b 67001f",
}
"""Anchors, evenly apart: matplotlib's magma, and red to blue by ColorBrewer (Cynthia Brewer)."""


@dataclass(frozen=True)
class Panel:
    """One column: an image, cropped and canonically oriented, with how it is to be shown."""

    title: str
    voxels: Voxels
    colours: str
    low: float
    high: float
    outlined: bool = False
    unit: str = ""

    def picture(self, index: int, size: tuple[int, int]) -> Image.Image:
        """Axial slice ``index`` in pixels (width, height)."""
        shown = radiological(self.voxels[:, :, index]).astype(np.float32)
        share = ((shown - self.low) / (self.high - self.low)).clip(0, 1)
        picture = Image.fromarray(colour_table(self.colours)[np.round(255 * share).astype(np.uint8)])
        # Voxels are shown as they are, but averaged where there are more of them than pixels.
        smaller = size[0] < picture.width or size[1] < picture.height
        return picture.resize(size, Image.Resampling.BOX if smaller else Image.Resampling.NEAREST)


def draw_mosaic(
    flair: Volume, t1: Volume | None, maps: Mapping[str, Volume], transform: GridTransform, task: Task = LESION
) -> bytes:
    """PNG in radiological convention, cropped to the head.

    Args:
        flair, t1: the scan that was judged.
        maps: in the FLAIR's grid, by name.
        transform: whose crop is shown.
        task: what was judged.
    """
    judged = transform.crop(maps.get("input_mask", maps[task.own_mask]).voxels)
    panels = _panels(flair, t1, maps, transform, task)
    outlines = part_outlines(judged, MASK_COLOUR)
    if "input_mask" in maps:
        outlines += part_outlines(transform.crop(maps[task.own_mask].voxels), OWN_COLOUR)
    spacing = np.array(flair.geometry.voxel_spacing)[np.argsort(transform.orientation[:, 0])]
    slices = doubtful_slices(judged > 0, transform.crop(maps["entropy"].voxels), SLICES)
    buffer = io.BytesIO()
    _draw(panels, outlines, slices, picture_size(judged.shape, spacing)).save(buffer, format="png", compress_level=4)
    return buffer.getvalue()


def part_outlines(mask: Voxels, colour: tuple[int, int, int]) -> list[tuple[Mask, tuple[int, int, int]]]:
    """Each part of a mask, or label of a label map, with the colour of its outline."""
    return [(mask == label, colour) for label in np.unique(mask) if label] or [(mask > 0, colour)]


def _panels(flair: Volume, t1: Volume | None, maps: Mapping[str, Volume], transform: GridTransform, task: Task) -> list[Panel]:
    shown = transform.crop(flair.voxels)
    low, high = window(shown)
    panels = [Panel(task.reference, shown, "gray", low, high)]
    if t1 is not None:
        second = transform.crop(t1.voxels)
        panels.append(Panel("T1w", second, "gray", *window(second)))
    panels.append(Panel("judged mask", shown, "gray", low, high, outlined=True))
    for name, title, colours, ends, unit in (
        (task.probability, f"{task.target} probability", "magma", (0, 1), ""),
        ("entropy", "entropy", "magma", (0, 1), "bit"),
        ("shadow", "shadow (grey)", "gray", (0, 2), ""),
        ("false_positive", "marked wrongly", "magma", (0, 1), ""),
        ("missed", "missed", "magma", (0, 1), ""),
        ("reconstruction", "reconstruction", "gray", (0, 1), ""),
        ("reconstruction_error", "error", "RdBu_r", (-0.4, 0.4), ""),
    ):
        if name not in maps:
            continue
        panels.append(Panel(title, transform.crop(maps[name].voxels), colours, ends[0], ends[1], unit=unit))
    return panels


def _draw(
    panels: list[Panel], outlines: list[tuple[Mask, tuple[int, int, int]]], slices: list[int], millimetres: tuple[float, float]
) -> Image.Image:
    width, height = WIDTH, max(1, round(WIDTH * millimetres[1] / millimetres[0]))
    across = len(panels) * (width + GAP) - GAP
    down = ABOVE + len(slices) * (height + GAP) - GAP + BELOW
    canvas = Image.new("RGB", (across, down))
    pen = ImageDraw.Draw(canvas)
    # The slice that is highest in the head comes first.
    for row, index in enumerate(reversed(slices)):
        top = ABOVE + row * (height + GAP)
        for column, panel in enumerate(panels):
            picture = panel.picture(index, (width, height))
            if panel.outlined:
                picture = outlined(picture, [(mask[:, :, index], colour) for mask, colour in outlines])
            canvas.paste(picture, (column * (width + GAP), top))
        for text, place in (("R", 0.03), ("L", 0.97)):
            pen.text((place * width, top + height / 2), text, fill="white", font=font(15), anchor="mm")
    for column, panel in enumerate(panels):
        left = column * (width + GAP)
        pen.text((left + width / 2, ABOVE / 2), panel.title, fill="white", font=font(17), anchor="mm")
        if panel.colours != "gray":
            _colour_bar(canvas, pen, panel, left, down - BELOW)
    return canvas


def outlined(picture: Image.Image, masks: list[tuple[Mask, tuple[int, int, int]]]) -> Image.Image:
    """A picture with the border of each mask (slices as :attr:`Panel.voxels` has them) in its colour."""
    pixels = np.array(picture)
    for mask, colour in masks:
        pixels[mask_edge(radiological(mask), pixels.shape[:2])] = colour
    return Image.fromarray(pixels)


def mask_edge(mask: Mask, shape: tuple[int, ...]) -> Mask:
    """Border of a mask (rows, columns) that is drawn on ``shape`` pixels."""
    factors = [pixels / voxels for pixels, voxels in zip(shape, mask.shape, strict=True)]
    inside = ndimage.zoom(mask.astype(np.float32), factors, order=1, grid_mode=True, mode="nearest") >= 0.5
    return np.asarray(inside & ~ndimage.binary_erosion(inside))


def _colour_bar(canvas: Image.Image, pen: ImageDraw.ImageDraw, panel: Panel, left: int, top: int) -> None:
    width = round(0.8 * WIDTH)
    table = colour_table(panel.colours)[np.linspace(0, 255, width).astype(np.uint8)]
    start = left + (WIDTH - width) // 2
    canvas.paste(Image.fromarray(np.repeat(table[None], 8, axis=0)), (start, top + 12))
    for share in (0, 0.5, 1):
        value = panel.low + share * (panel.high - panel.low)
        pen.text((start + share * width, top + 26), f"{value:g}", fill="white", font=font(12), anchor="mt")
    pen.text((start + width + 5, top + 16), panel.unit, fill="white", font=font(12), anchor="lm")


@cache
def colour_table(name: str) -> Pixels:
    """The 256 colours (256, 3) of one of :data:`COLOURS`."""
    anchors = np.array([list(bytes.fromhex(code)) for code in COLOURS[name].split()])
    places = np.linspace(0, 1, len(anchors))
    return np.stack([np.interp(np.linspace(0, 1, 256), places, column) for column in anchors.T], axis=1).astype(np.uint8)


@cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own, so that pictures are the same everywhere."""
    return ImageFont.load_default(size)
