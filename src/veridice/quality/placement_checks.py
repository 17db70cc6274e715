"""Whether the brain is wholly in the image, and the right way up: against the mean brain of the donors. No torch."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from importlib import resources

import numpy as np
from scipy import ndimage

from veridice.case import Notice
from veridice.imaging.foreground import box_around
from veridice.imaging.volume import Geometry
from veridice.types import Array, Mask, Voxels

TEMPLATE = "mean_brain.npz"
"""Beside the donors, made of their anatomies by ``scripts/mean_brain.py``."""
EDGE = 24
"""Voxels of the template along each side of the brain's box."""
ENDS = (("left", "right"), ("back", "front"), ("bottom", "top"))
CUT_AREA = ((0.25, 0.25), (0.25, 0.25), (0.28, 0.58))
"""Largest cross-section of the brain over that at each end of the head's box, beyond which it is cut off there. Clean scans: at
most 0.13 at the bottom (the brain stem), 0.54 at the top (slices of 7 mm), 0.06 elsewhere; a third of the slices gone from
above: 0.62 to 0.86, from below: 0.32 to 0.59."""
END_PLANES = 3
"""Of the cube, averaged."""
HALF_LENGTH = (0.92, 1.24, 0.88)
"""Half axis of a brain over the radius of its largest cross-section, along each axis."""
FEWEST_VOXELS = 1000
SURELY_UPRIGHT, SURELY_WORSE = 0.8, -0.045
"""Likeness to the mean brain, and loss of it when turned, with which the brain is not looked for in turned images: that takes a
pass of the network each."""
SURELY_TURNED = 0.1
"""Evidence that is asked for where the brain is cut off too, and so looks like no whole brain whichever way it lies."""
TURNS: dict[str, tuple[int, ...]] = {"upside down": (2,), "back to front": (1,), "upside down and back to front": (1, 2)}


def cut_off_doubts(brain: Mask, cube: Geometry) -> list[Notice]:
    """Where the image ends within the brain, and about how much of it is missing there.

    Args:
        brain: (x, y, z) on the cube, which ends where the head does.
        cube: the grid around the head, along anatomical axes.
    """
    if np.count_nonzero(brain) < FEWEST_VOXELS:
        return []
    said = []
    for axis in range(3):
        spacing = np.delete(np.array(cube.voxel_spacing), axis)
        areas = brain.sum(axis=tuple(other for other in range(3) if other != axis)) * spacing.prod()
        for end, name in enumerate(ENDS[axis]):
            share = float((areas[:END_PLANES] if end == 0 else areas[-END_PLANES:]).mean() / areas.max())
            if share > CUT_AREA[axis][end]:
                missing = missing_volume(share, float(areas.max()), HALF_LENGTH[axis])
                said.append(f"at the {name} (about {missing:.0f} ml are missing there)")
    if not said:
        return []
    return [Notice("brain_cut_off", f"the image ends within the brain {' and '.join(said)}: lesions there cannot be seen")]


def missing_volume(share: float, largest: float, ratio: float) -> float:
    """Cap of an ellipsoid (ml) beyond a cross-section.

    Args:
        share: of the cross-section in the largest one.
        largest: mm^2.
        ratio: half axis over the radius of the largest cross-section.
    """
    depth = float(np.sqrt(max(0.0, 1 - share)))
    return largest * ratio * float(np.sqrt(largest / np.pi)) * (2 / 3 - depth + depth**3 / 3) / 1000


def orientation_doubts(
    flair: Voxels, brain: Mask, brain_when_turned: Callable[[tuple[int, ...]], Mask] | None = None, least: float = 0.0
) -> list[Notice]:
    """Whether the head lies against its header: upside down, back to front. Left and right cannot be told.

    Two things speak for a turn: that the brain found in the turned image is more like the mean brain than the one found as it
    is, and that the latter becomes more like it when turned.

    Args:
        flair: (x, y, z) on the cube, in [0, 1], axes as the header has them.
        brain: on the cube.
        brain_when_turned: gives the brain found in the image with these axes turned around; None: the same, turned.
        least: evidence, in differences of correlations, that has to be exceeded.
    """
    if np.count_nonzero(brain) < FEWEST_VOXELS:
        return []
    upright = _on_template(flair, brain)
    likeness = _likeness(upright)
    gains = {turn: _likeness(tuple(np.flip(part, axes) for part in upright)) - likeness for turn, axes in TURNS.items()}
    if likeness >= SURELY_UPRIGHT and max(gains.values()) <= SURELY_WORSE:
        return []
    evidence = dict(gains)
    for turn, axes in TURNS.items():
        found = np.flip(brain, axes) if brain_when_turned is None else brain_when_turned(axes)
        if np.count_nonzero(found) >= FEWEST_VOXELS:
            evidence[turn] += _likeness(_on_template(np.flip(flair, axes), found)) - likeness
    turn = max(evidence, key=lambda name: evidence[name])
    if evidence[turn] <= least:
        return []
    text = f"the head seems to be {turn} against its header: check orientation and sides"
    return [Notice("head_turned", text)]


def _likeness(shown: tuple[Array, ...]) -> float:
    """Mean correlation of brain and image with those of the mean brain."""
    pairs = zip(shown, mean_brain(), strict=True)
    return float(np.mean([np.corrcoef(one.ravel(), other.ravel())[0, 1] for one, other in pairs]))


def _on_template(flair: Voxels, brain: Mask) -> tuple[Array, Array]:
    """Shape of the brain and FLAIR within it, in the brain's box, (EDGE, EDGE, EDGE) each."""
    box = tuple(slice(start, stop) for start, stop in box_around(brain))
    inside = brain[box]
    return shrunk(inside.astype(np.float32)), shrunk(np.where(inside, flair[box], 0).astype(np.float32))


def shrunk(volume: Array) -> Array:
    """A volume on EDGE voxels along each axis, smoothed first."""
    smooth = ndimage.gaussian_filter(volume, [max(0.0, length / EDGE / 2.5) for length in volume.shape])
    scale = [EDGE / length for length in volume.shape]
    return np.asarray(ndimage.zoom(smooth, scale, order=1, grid_mode=True, mode="nearest"))


@cache
def mean_brain() -> tuple[Array, Array]:
    """Shape and FLAIR of the donors' mean brain in its box, the same on both sides, (EDGE, EDGE, EDGE) each."""
    stored = (resources.files("veridice") / "donors" / TEMPLATE).read_bytes()
    with np.load(io.BytesIO(stored)) as arrays:
        return arrays["shape"].astype(np.float32), arrays["flair"].astype(np.float32)
