"""A scan with its true mask, from the files of a manifest: read as ``check`` reads a scan, whoever asks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from veridice.case import Case
from veridice.config import LESION, Task
from veridice.errors import InputError
from veridice.imaging.foreground import even_image
from veridice.imaging.scan import Scan
from veridice.imaging.volume import Geometry, Volume
from veridice.io.nifti import read_image, read_label, read_mask
from veridice.io.scan_reader import read_scan
from veridice.types import Mask

AROUND, DARK = 2, 0.8
"""Voxels around a ventricle mask that it is compared with, and the most that its median FLAIR may be of theirs: 0.3 to 0.5 in
six clinical scans, 0.94 to 0.98 in three whose masks lie elsewhere."""


@dataclass(frozen=True)
class LabelledScan:
    """A scan whose target is known, on the grid of the task's first contrast.

    Args:
        scan: the contrasts of the task; skull-stripped when that was asked for.
        parts: true mask (x, y, z) of each part of the target.
        valid: voxels that count (x, y, z): somebody said whether they are the target.
        brain: brain mask (x, y, z), where the case has one.
    """

    scan: Scan
    parts: tuple[Mask, ...]
    valid: Mask
    brain: Mask | None

    @property
    def truth(self) -> Mask:
        """All parts together."""
        return np.asarray(np.logical_or.reduce(self.parts))


def read_labelled(case: Case, move_t1: bool, rim_mm: float, stripped: bool = False, task: Task = LESION) -> LabelledScan:
    """Read a labelled scan.

    Args:
        case: its files.
        move_t1: a T1w on another grid is brought to the FLAIR as ``check`` does it; otherwise it is refused.
        rim_mm: see :func:`rim`.
        stripped: whether all but the brain is set to 0.
        task: what is segmented.

    Raises:
        InputError: a file is missing or cannot be read.
        GeometryError: a file lies on another grid and may not be moved.
    """
    first_file, truth_file = required_file(case, task.contrasts[0]), required_file(case, task.truth)
    second = case.t1 if task.contrasts[1:] == ("t1",) else None
    if move_t1:
        scan = read_scan(first_file, second)
    else:
        alone = even_image(read_image(first_file))
        scan = Scan(alone, even_image(read_image(second, alone.geometry)) if second else None)
    flair, t1 = scan.flair, scan.t1
    if not task.whole_head:
        scan = scan.as_crop()
    ignored_label = case.ignored_label if task.truth == "mask" else None
    parts = true_parts(truth_file, flair.geometry, task, ignored_label)
    ignored = np.zeros(flair.shape, dtype=bool)
    if task.name == LESION.name:
        ignored = rim(case, flair, parts[0], rim_mm)
    if ignored_label is not None:
        ignored |= read_label(truth_file, flair.geometry, ignored_label)
    brain = read_mask(case.brain_mask, flair.geometry).voxels if case.brain_mask else None
    if stripped and brain is not None:
        scan = Scan(_stripped(flair, brain), _stripped(t1, brain) if t1 else None)
    return LabelledScan(scan, parts, ~ignored, brain)


def true_parts(path: Path, grid: Geometry, task: Task, ignored_label: int | None = None) -> tuple[Mask, ...]:
    """The mask (x, y, z) of each part of a task's target in a file of labels that lies on ``grid``.

    Raises:
        InputError, GeometryError: as :func:`veridice.io.nifti.read_mask`.
    """
    if not task.parts:
        return (read_mask(path, grid, ignored_label).voxels,)
    return tuple(read_label(path, grid, label) for label in task.parts.values())


def _stripped(image: Volume, brain: Mask) -> Volume:
    return image.with_voxels(np.where(brain, image.voxels, 0))


def views(case: Case) -> tuple[bool, ...]:
    """Whether a real scan is taken skull-stripped: as it is and, where there is a brain mask, stripped too."""
    return (False, True) if case.brain_mask is not None else (False,)


def rim(case: Case, flair: Volume, lesion: Mask, rim_mm: float) -> Mask:
    """Unlabelled voxels within ``rim_mm`` of the case's ventricle mask: nobody said whether they are lesions (x y z).

    Raises:
        InputError: the mask cannot be read, or does not lie on the ventricles.
    """
    if case.ventricles is None or rim_mm <= 0:
        return np.zeros(flair.shape, dtype=bool)
    ventricles = read_mask(case.ventricles, flair.geometry).voxels
    around = ndimage.binary_dilation(ventricles, iterations=AROUND) & ~ventricles
    if ventricles.any() and np.median(flair.voxels[ventricles]) > DARK * np.median(flair.voxels[around]):
        raise InputError(
            f"{case.ventricles}: not on the ventricles, which are dark on a FLAIR; register it to the FLAIR, or leave it out"
        )
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
