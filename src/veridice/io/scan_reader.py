"""The files of one scan, all brought onto the FLAIR's grid; what was done to them is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from veridice.case import Notice, plain_name
from veridice.config import Task
from veridice.errors import GeometryError, InputError
from veridice.imaging.foreground import even_image
from veridice.imaging.grid import resample_to
from veridice.imaging.registration import align, resample_aligned, tolerance
from veridice.imaging.scan import GivenMask, Scan
from veridice.imaging.space import difference, require_no_template, require_one_space, share_inside
from veridice.imaging.volume import Geometry, Volume
from veridice.io.image_file import header_doubts
from veridice.io.mask_values import HALF, MaskLabel, as_brain_mask, as_mask
from veridice.io.nifti import read_filled, read_map

MOST_OUTSIDE, WORTH_A_WORD = 0.5, 0.005
"""Parts of what a mask marks that may lie outside the FLAIR: at most, and without a word."""
RESAMPLED = "the T1w was resampled to the FLAIR's grid; it lies where its header puts it, to half a voxel"


def read_scan(flair: Path, t1: Path | None = None, brain: Path | None = None, registration: bool = True) -> Scan:
    """Read FLAIR, T1w and brain mask.

    Args:
        flair: decides the grid.
        t1: on any grid; registered rigidly where it lies elsewhere or is seen to be moved.
        brain: mask on the FLAIR's grid, on the T1w's, or on another one of the same space.
        registration: False believes the headers; the T1w is resampled at most.

    Raises:
        InputError: a file cannot be read.
        GeometryError: T1w or brain mask lie in another space.
    """
    image, filled = read_filled(flair)
    scan = Scan(even_image(image), warnings=(*header_doubts(flair), *filled))
    if t1 is not None:
        scan = _with_t1(scan, t1, registration)
    if brain is not None:
        mask, warnings = as_brain_mask(brain, read_map(brain))
        placed, moved = _on_flair(brain, scan, mask)
        scan = _noted(scan, (*header_doubts(brain), *warnings, *moved), brain=placed)
    return scan


def _with_t1(scan: Scan, path: Path, registration: bool) -> Scan:
    image, filled = read_filled(path)
    # On the FLAIR's own grid where it lies there, whatever the order of its voxels.
    placed = image.on(scan.flair.geometry)
    if placed is None:
        require_no_template(str(path), image.geometry, scan.flair.geometry)
    scan = _placed(_noted(scan, (*header_doubts(path), *filled)), even_image(placed or image), registration)
    if scan.t1 is not None and scan.t1.voxels.min() == scan.t1.voxels.max():
        raise GeometryError(f"{path}: does not meet the FLAIR where its header puts it; check that both are of one scan")
    return scan


def _placed(scan: Scan, t1: Volume, registration: bool) -> Scan:
    flair, same = scan.flair, t1.geometry.same_grid(scan.flair.geometry)
    shown = t1 if same else resample_to(t1, flair.geometry, float(t1.voxels.min()))
    resampled = () if same else (Notice("t1_resampled", RESAMPLED),)
    if not registration:
        said = "the T1w was resampled to the FLAIR's grid where its header puts it, without registration"
        return _noted(scan, () if same else (Notice("t1_resampled", said),), t1=shown, t1_geometry=t1.geometry)
    found = align(flair, t1)
    if found.doubt:
        where = "it stays" if same else "it was resampled"
        said = (
            f"the T1w cannot be registered to the FLAIR ({found.doubt}): {where} where its header puts it; check that it is one"
        )
        return replace(scan, doubts=(*scan.doubts, Notice("t1_not_registered", said)), t1=shown, t1_geometry=t1.geometry)
    if found.distance == 0 or (same and found.distance <= tolerance(flair, t1)):
        return _noted(scan, resampled, t1=shown, t1_geometry=t1.geometry)
    said = f"the T1w was registered to the FLAIR: moved by up to {found.distance:.1f} mm, turned by {found.degrees:.1f} degrees"
    notices = (Notice("t1_registered", said),) if found.distance >= HALF * max(flair.geometry.voxel_spacing) else resampled
    moved = resample_aligned(t1, found, flair.geometry)
    record = {**scan.record, "t1_alignment": found.record()}
    return _noted(scan, notices, t1=moved, t1_geometry=t1.geometry, alignment=found, record=record)


def _noted(scan: Scan, warnings: tuple[Notice, ...], **changes: Any) -> Scan:
    return replace(scan, warnings=(*scan.warnings, *warnings), **changes)


def read_given_mask(path: Path, scan: Scan, threshold: float | None = None, label: MaskLabel | None = None) -> GivenMask:
    """Read a mask or probability map that is to be judged.

    Args:
        path: on the FLAIR's grid, on the T1w's as it came, or on another one of the same space.
        scan: whose FLAIR decides the grid.
        threshold: from which value on a voxel belongs to the mask; None: binary masks as they are, probabilities from 0.5.
        label: value of lesions in a file of many labels, or ``all``; goes before ``threshold``.

    Raises:
        InputError: neither mask nor probabilities, and neither ``threshold`` nor ``label`` given.
        GeometryError: it lies in another space.
    """
    mask, warnings = as_mask(path, read_map(path), threshold, label)
    placed, moved = _on_flair(path, scan, mask)
    return GivenMask(plain_name(path.name), placed, (*header_doubts(path), *warnings, *moved))


def read_given_parts(path: Path, scan: Scan, task: Task) -> GivenMask:
    """Read a mask of several parts that is to be judged: a file with the labels that the task names, and 0.

    Raises:
        InputError: it has other values.
        GeometryError: it lies in another space.
    """
    values, known = read_map(path), {0.0, *map(float, task.parts.values())}
    found = np.unique(values.voxels)
    if not set(found.tolist()) <= known:
        labels = ", ".join(f"{label} {name}" for name, label in task.parts.items())
        shown = ", ".join(f"{value:g}" for value in found[:4])
        raise InputError(
            f"{path}: its values are {shown}{'...' if len(found) > 4 else ''}; a mask for this task has 0, {labels}"
        )
    placed = [_on_flair(path, scan, values.with_voxels(values.voxels == label)) for label in task.parts.values()]
    parts = tuple(volume.voxels for volume, _ in placed)
    union = scan.flair.with_voxels(np.logical_or.reduce(parts))
    return GivenMask(plain_name(path.name), union, (*header_doubts(path), *placed[0][1]), parts)


def _on_flair(path: Path, scan: Scan, mask: Volume) -> tuple[Volume, tuple[Notice, ...]]:
    """A mask (boolean) on the FLAIR's grid, and what was done for it.

    Raises:
        GeometryError: it lies on a template, hardly overlaps the FLAIR, or its header fits other voxels.
    """
    flair, name = scan.flair.geometry, plain_name(path.name)
    if (same := mask.on(flair)) is not None:
        return same, ()
    if scan.t1_geometry is not None and mask.geometry.order_in(scan.t1_geometry) is not None:
        said, alignment = f"{name} lies on the T1w's grid: resampled to the FLAIR's", scan.alignment
    else:
        require_one_space(str(path), mask.geometry, flair)
        outside = _share_outside(path, mask, flair)
        lost = f"; {outside:.0%} of what it marks lies outside the FLAIR" if outside >= WORTH_A_WORD else ""
        differs = difference(mask.geometry, flair)
        said, alignment = f"{name} was resampled to the FLAIR's grid, from which its own differs: {differs}{lost}", None
    # Shares of voxels, smoothed to the width of the FLAIR's where these are wider: thick slices are averages.
    step = np.abs(np.linalg.inv(mask.affine[:3, :3]) @ flair.affine[:3, :3]).max(axis=1)
    share = mask.with_voxels(ndimage.gaussian_filter(mask.voxels.astype(np.float32), np.maximum(0, (step - 1) / 2)))
    moved = resample_to(share, flair) if alignment is None else resample_aligned(share, alignment, flair)
    return Volume(moved.voxels >= HALF, flair), (Notice("mask_resampled", said),)


def _share_outside(path: Path, mask: Volume, flair: Geometry) -> float:
    """Part of what a mask marks that lies outside the FLAIR.

    Raises:
        GeometryError: most of it does.
    """
    marked = np.argwhere(mask.voxels).T
    outside = 1 - share_inside(mask.affine[:3, :3] @ marked + mask.affine[:3, 3:], flair)
    if outside > MOST_OUTSIDE:
        raise GeometryError(
            f"{path}: {outside:.0%} of what it marks lies outside the FLAIR ({difference(mask.geometry, flair)}); "
            "check that both are of one scan"
        )
    return outside
