"""A scan with its true lesions, from the files of a manifest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from veridice.case import Case
from veridice.errors import InputError
from veridice.imaging.grid import resample_to
from veridice.imaging.volume import Volume
from veridice.io.nifti import read_image, read_label, read_mask
from veridice.types import Mask


def views(case: Case) -> tuple[bool, ...]:
    """Whether a real scan is taken skull-stripped: as it is and, where there is a brain mask, stripped too."""
    return (False, True) if case.brain_mask is not None else (False,)


def read_second(case: Case, flair: Volume, resample: bool) -> Volume | None:
    """The case's T1w on the FLAIR's grid, or None where there is none.

    Raises:
        GeometryError: it lies on another grid and may not be resampled.
    """
    if case.t1 is None or not resample:
        return read_image(case.t1, flair.geometry) if case.t1 else None
    t1 = read_image(case.t1)
    return t1 if t1.geometry.same_grid(flair.geometry) else resample_to(t1, flair.geometry)


def ignored_voxels(case: Case, flair: Volume, lesion: Mask, rim_mm: float) -> Mask:
    """What counts for nothing (x, y, z): the unlabelled rim, and voxels of the case's ``ignored_label``."""
    ignored = rim(case, flair, lesion, rim_mm)
    if case.ignored_label is not None and case.mask is not None:
        ignored |= read_label(case.mask, flair.geometry, case.ignored_label)
    return ignored


def rim(case: Case, flair: Volume, lesion: Mask, rim_mm: float) -> Mask:
    """Unlabelled voxels within ``rim_mm`` of the case's ventricle mask: nobody said whether they are lesions (x y z)."""
    if case.ventricles is None or rim_mm <= 0:
        return np.zeros(flair.shape, dtype=bool)
    ventricles = read_mask(case.ventricles, flair.geometry).voxels
    distance = ndimage.distance_transform_edt(~ventricles, sampling=flair.geometry.voxel_spacing)
    return np.asarray((distance <= rim_mm) & ~ventricles & ~lesion)


def required_file(case: Case, name: str) -> Path:
    """The file in column ``name`` of a case.

    Raises:
        InputError: it has none.
    """
    path: Path | None = getattr(case, name)
    if path is None:
        raise InputError(f"case {case.id}: training needs a file in column '{name}'")
    return path
