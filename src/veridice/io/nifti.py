"""Image files (NIfTI, MGH, a folder of DICOM) to volumes, volumes to NIfTI. Whatever is wrong with a file is said here, in one
line."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip

from veridice.case import Notice, plain_name
from veridice.errors import GeometryError, InputError
from veridice.imaging.missing import LARGEST_HOLES, MOST_SCATTERED, fill_missing
from veridice.imaging.space import difference
from veridice.imaging.volume import Geometry, Volume
from veridice.io.dicom import read_dicom_folder
from veridice.io.image_file import read_file
from veridice.types import Mask

SMALLEST_CONTRAST, LARGEST_CONTRAST = 1e-30, 1e30
"""Between them float32 can scale an image without running out of range."""
COMPRESSION = 1
"""Level of what is written, 0 to 3: maps come out no larger than by zlib, in a fraction of its time."""


def read_image(path: Path, grid: Geometry | None = None) -> Volume:
    """Read a scan as float32 with its scaling applied; as :func:`read_filled`, without what was said about it."""
    return read_filled(path, grid)[0]


def read_filled(path: Path, grid: Geometry | None = None) -> tuple[Volume, tuple[Notice, ...]]:
    """Read a scan as float32 with its scaling applied, every voxel with a value; and what had to be filled in.

    Args:
        path: NIfTI-1 or -2 (one file or a pair), FreeSurfer's ``.mgz`` or ``.mgh``, compressed or not whatever their names
            say, or a folder with one DICOM series.
        grid: where the scan has to lie, when that matters; its voxels come in the order of this grid.

    Raises:
        InputError: missing, of another kind, damaged, not one real-valued 3D volume, NaN or infinite values within the head,
            constant, or larger than the memory at hand.
        GeometryError: the affine is missing or singular, or the scan lies on another grid.
    """
    volume = read_map(path)
    if grid is not None:
        volume = _on_grid(path, volume, grid, "register and resample it to the FLAIR first (for example with flirt)")
    volume, notices = _filled(path, volume)
    low, high = float(volume.voxels.min()), float(volume.voxels.max())
    if low == high:
        raise InputError(f"{path}: every voxel is {low:g}, the image is empty; export it again")
    if not SMALLEST_CONTRAST < high - low < LARGEST_CONTRAST:
        raise InputError(f"{path}: its values run from {low:g} to {high:g}; scale them to an ordinary range")
    return volume, notices


def _filled(path: Path, volume: Volume) -> tuple[Volume, tuple[Notice, ...]]:
    bad = int(volume.voxels.size - np.count_nonzero(np.isfinite(volume.voxels)))
    if not bad:
        return volume, ()
    mend = "export it again, or replace them (for example: fslmaths -nan)"
    try:
        filled = fill_missing(volume.voxels)
    except InputError as error:
        raise InputError(f"{path}: {bad} voxels are NaN or infinite, and no head is seen in the others; {mend}") from error
    if filled.too_many:
        text = (
            f"{path}: {filled.inside} voxels within the head are NaN or infinite, more than {LARGEST_HOLES:.2%} of it in holes "
            f"or {MOST_SCATTERED:.0%} here and there; {mend}"
        )
        raise InputError(text)
    said, name = [], plain_name(path.name)
    if filled.background:
        text = f"{name}: {filled.background} voxels outside the head's tissue are NaN or infinite; they count as background"
        said.append(Notice("missing_background", text))
    if filled.inside:
        text = f"{name}: {filled.inside} voxels within the head are NaN or infinite; they were filled from their neighbours"
        said.append(Notice("missing_inside", text))
    return volume.with_voxels(filled.voxels), tuple(said)


def read_label(path: Path, grid: Geometry, label: int) -> Mask:
    """Where an image of labels that lies on ``grid`` has this one (x, y, z).

    Raises:
        InputError, GeometryError: as :func:`read_mask`.
    """
    volume = _on_grid(path, read_map(path), grid, "resample it to the FLAIR with nearest neighbour")
    return np.asarray(volume.voxels == label)


def read_mask(path: Path, grid: Geometry, ignored_label: int | None = None) -> Volume:
    """Read a binary lesion mask (values 0 and one other number) that lies on ``grid``, as booleans.

    Voxels of ``ignored_label`` count as background here.

    Raises:
        InputError: as :func:`read_image`, or more than two values.
        GeometryError: another grid than the FLAIR's.
    """
    volume = _on_grid(path, read_map(path), grid, "resample it to the FLAIR with nearest neighbour")
    if ignored_label is not None:
        volume = volume.with_voxels(np.where(volume.voxels == ignored_label, 0, volume.voxels))
    values = np.unique(volume.voxels)
    if len(values) > 2 or (len(values) == 2 and values[0] != 0) or not np.isfinite(values).all() or values[0] < 0:
        shown = ", ".join(f"{v:g}" for v in values[:4])
        raise InputError(f"{path}: not a binary mask, its values are {shown}...; threshold it to 0 and 1 first")
    return volume.with_voxels(volume.voxels > 0)


def write_image(path: Path, volume: Volume) -> None:
    """Write booleans as uint8, small integers as they are and everything else as float32; qform and sform are set."""
    kind = volume.voxels.dtype if volume.voxels.dtype in (np.uint8, np.int16) else np.float32
    kind = np.uint8 if volume.voxels.dtype == bool else kind
    image = nib.Nifti1Image(np.asarray(volume.voxels, dtype=kind), volume.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.affine, code="scanner")
    image.set_qform(volume.affine, code="scanner")
    content = image.to_bytes()
    path.write_bytes(igzip.compress(content, COMPRESSION, mtime=0) if path.name.endswith(".gz") else content)


def _on_grid(path: Path, volume: Volume, grid: Geometry, mend: str) -> Volume:
    """The voxels in the order of ``grid``, which is where they have to lie."""
    placed = volume.on(grid)
    if placed is None:
        raise GeometryError(f"{path}: its grid is not the FLAIR's ({difference(volume.geometry, grid)}); {mend}")
    return placed


def read_map(path: Path) -> Volume:
    """Read a map that was stored by veridice: like :func:`read_image`, but constant maps are welcome."""
    try:
        return read_dicom_folder(path, read_file) if path.is_dir() else read_file(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path and your rights") from error
