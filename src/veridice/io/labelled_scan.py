"""A scan with its true lesions, from the files of a manifest: read as ``check`` reads a scan, whoever asks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from veridice.case import Case
from veridice.errors import InputError
from veridice.imaging.foreground import even_image
from veridice.imaging.scan import Scan
from veridice.imaging.volume import Volume
from veridice.io.nifti import read_image, read_label, read_mask
from veridice.io.scan_reader import read_scan
from veridice.types import Mask


@dataclass(frozen=True)
class LabelledScan:
    """A scan whose lesions are known, on its FLAIR's grid.

    Args:
        scan: FLAIR and T1w; skull-stripped when that was asked for.
        truth: lesions (x, y, z).
        valid: voxels that count (x, y, z): somebody said whether they are lesions.
        brain: brain mask (x, y, z), where the case has one.
    """

    scan: Scan
    truth: Mask
    valid: Mask
    brain: Mask | None


def read_labelled(case: Case, move_t1: bool, rim_mm: float, stripped: bool = False) -> LabelledScan:
    """Read a labelled scan.

    Args:
        case: its files.
        move_t1: a T1w on another grid is brought to the FLAIR as ``check`` does it; otherwise it is refused.
        rim_mm: see :func:`rim`.
        stripped: whether all but the brain is set to 0.

    Raises:
        InputError: a file is missing or cannot be read.
        GeometryError: a file lies on another grid and may not be moved.
    """
    flair_file, mask_file = required_file(case, "flair"), required_file(case, "mask")
    if move_t1:
        scan = read_scan(flair_file, case.t1)
    else:
        alone = even_image(read_image(flair_file))
        scan = Scan(alone, even_image(read_image(case.t1, alone.geometry)) if case.t1 else None)
    flair, t1 = scan.flair, scan.t1
    truth = read_mask(mask_file, flair.geometry, case.ignored_label).voxels
    ignored = rim(case, flair, truth, rim_mm)
    if case.ignored_label is not None:
        ignored |= read_label(mask_file, flair.geometry, case.ignored_label)
    brain = read_mask(case.brain_mask, flair.geometry).voxels if case.brain_mask else None
    if stripped and brain is not None:
        scan = Scan(_stripped(flair, brain), _stripped(t1, brain) if t1 else None)
    return LabelledScan(scan, truth, ~ignored, brain)


def _stripped(image: Volume, brain: Mask) -> Volume:
    return image.with_voxels(np.where(brain, image.voxels, 0))


def views(case: Case) -> tuple[bool, ...]:
    """Whether a real scan is taken skull-stripped: as it is and, where there is a brain mask, stripped too."""
    return (False, True) if case.brain_mask is not None else (False,)


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
        raise InputError(f"case {case.id}: a file is needed in column '{name}'")
    return path
