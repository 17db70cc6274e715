"""The files of one scan, all brought onto the FLAIR's grid; what was done to them is said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from veridice.case import Notice, plain_name
from veridice.errors import GeometryError, InputError
from veridice.imaging.foreground import evened
from veridice.imaging.grid import resample_to
from veridice.imaging.registration import align, resample_aligned, tolerance
from veridice.imaging.scan import GivenMask, Scan
from veridice.imaging.volume import Geometry, Volume
from veridice.io.nifti import header_doubts, read_filled, read_map

HALF = 0.5
RESAMPLED = "the T1w was resampled to the FLAIR's grid; it lies where its header puts it, to half a voxel"
MEND = "give --mask-threshold, or --mask-label for that of the lesions"


def read_scan(flair: Path, t1: Path | None = None, brain: Path | None = None, registration: bool = True) -> Scan:
    """Read FLAIR, T1w and brain mask.

    Args:
        flair: decides the grid.
        t1: on any grid; registered rigidly where it lies elsewhere or is seen to be moved.
        brain: mask on the FLAIR's grid, or on the T1w's.
        registration: False believes the headers; the T1w is resampled at most.

    Raises:
        InputError: a file cannot be read.
        GeometryError: the brain mask lies on neither grid.
    """
    image, filled = read_filled(flair)
    scan = Scan(image, warnings=(*header_doubts(flair), *filled))
    if t1 is not None:
        scan = _with_t1(scan, t1, registration)
    if brain is not None:
        mask, warnings = _on_flair(brain, scan, mend="give a mask of zeros and ones (for example: fslmaths -bin)")
        if not mask.voxels.any():
            raise InputError(f"{brain}: the brain mask is empty; give one that marks the brain, or none")
        scan = _noted(scan, (*header_doubts(brain), *warnings), brain=mask)
    return scan


def _with_t1(scan: Scan, path: Path, registration: bool) -> Scan:
    image, filled = read_filled(path)
    t1 = image.with_voxels(evened(image.voxels))
    scan = _placed(_noted(scan, (*header_doubts(path), *filled)), t1, registration)
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


def read_given_mask(path: Path, scan: Scan, threshold: float | None = None, label: int | None = None) -> GivenMask:
    """Read a mask or probability map that is to be judged.

    Args:
        path: on the FLAIR's grid or on the T1w's as it came.
        scan: whose FLAIR decides the grid.
        threshold: from which value on a voxel belongs to the mask; None: binary masks as they are, probabilities from 0.5.
        label: value of lesions in a file of many labels; goes before ``threshold``.

    Raises:
        InputError: neither mask nor probabilities, and no ``threshold`` given.
        GeometryError: it lies on neither grid.
    """
    volume, warnings = _on_flair(path, scan, threshold, label)
    return GivenMask(plain_name(path.name), volume, (*header_doubts(path), *warnings))


def _on_flair(
    path: Path, scan: Scan, threshold: float | None = None, label: int | None = None, mend: str = MEND
) -> tuple[Volume, tuple[Notice, ...]]:
    values = read_map(path)
    if label is None:
        mask, warnings = _thresholded(path, values, threshold, mend)
    else:
        mask, warnings = (
            values.with_voxels(values.voxels == label),
            (Notice("mask_label", f"lesions are label {label} of {path.name}"),),
        )
    if mask.geometry.same_grid(scan.flair.geometry):
        return mask, warnings
    if scan.t1_geometry is None or not mask.geometry.same_grid(scan.t1_geometry):
        other = f" and the T1w's is {scan.t1_geometry.describe()}" if scan.t1_geometry else ""
        raise GeometryError(
            f"{path}: its grid is {mask.geometry.describe()}, the FLAIR's is {scan.flair.geometry.describe()}{other}; "
            "resample it to one of them with nearest neighbour"
        )
    share = _averaged(mask, scan.flair.geometry)
    if scan.alignment is None:
        moved = resample_to(share, scan.flair.geometry)
    else:
        moved = resample_aligned(share, scan.alignment, scan.flair.geometry)
    said = f"{plain_name(path.name)} lies on the T1w's grid: resampled to the FLAIR's"
    return moved.with_voxels(moved.voxels >= HALF), (*warnings, Notice("mask_resampled", said))


def _averaged(mask: Volume, coarser: Geometry) -> Volume:
    """Shares of voxels, smoothed to the width of those of ``coarser`` where they are wider: thick slices are averages."""
    step = np.abs(np.linalg.inv(mask.affine[:3, :3]) @ coarser.affine[:3, :3]).max(axis=1)
    return mask.with_voxels(ndimage.gaussian_filter(mask.voxels.astype(np.float32), np.maximum(0, (step - 1) / 2)))


def _thresholded(path: Path, values: Volume, threshold: float | None, mend: str) -> tuple[Volume, tuple[Notice, ...]]:
    voxels, name = values.voxels, plain_name(path.name)
    if not np.isfinite(voxels).all():
        raise InputError(f"{path}: holds NaN or infinite values; replace them (for example: fslmaths -nan)")
    if threshold is not None:
        if voxels.min() >= threshold:
            raise InputError(f"{path}: every voxel is {threshold:g} or more; give a --mask-threshold above the background")
        return values.with_voxels(voxels >= threshold), (Notice("mask_threshold", f"{name} was cut at {threshold:g}"),)
    found = np.unique(voxels)
    whole = bool((found == np.round(found)).all())
    if len(found) <= 2 and (found[0] == 0 or (len(found) == 1 and found[0] > 0)):
        text = f"{name} holds {found[-1]:g} alone: every voxel that has it is the mask"
        return values.with_voxels(voxels > 0), () if whole else (Notice("mask_value", text),)
    if found[0] >= 0 and found[-1] <= 1 and not whole:
        return values.with_voxels(voxels >= HALF), (Notice("mask_threshold", f"{name} holds probabilities: cut at {HALF}"),)
    shown = ", ".join(f"{v:g}" for v in found[:4])
    raise InputError(f"{path}: neither a binary mask nor probabilities from 0 to 1, its values are {shown}...; {mend}")
