"""Image files (NIfTI, MGH, a folder of DICOM) to volumes, volumes to NIfTI. Whatever is wrong with a file is said here, in one
line."""

from __future__ import annotations

import contextlib
import gzip
import os
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.freesurfer.mghformat import MGHError
from nibabel.spatialimages import HeaderDataError

from veridice.case import Notice, plain_name
from veridice.errors import GeometryError, InputError
from veridice.imaging.missing import LARGEST_HOLES, MOST_SCATTERED, fill_missing
from veridice.imaging.volume import Geometry, Volume
from veridice.io.dicom import read_dicom_folder
from veridice.types import Mask

SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh")
ZIPPED = (".gz", ".mgz")
MAXIMUM_DEFLATE_RATIO = 1032
"""No deflate stream grows more than this; a header that promises more than that lies about its size."""
BYTES_PER_VOXEL_IN_MEMORY = 4
WORKING_COPIES = 20
"""Float copies of a scan that exist at once while it is judged; 19.5 were measured for 497x455x279 voxels."""
MOST_MEMORY = 6 * 2**30
"""Bytes that no scan may take: a whole head at 0.5 mm, cut to it, stays below."""
MGH_PLACED = slice(28, 30)
"""Bytes of an MGH file that say whether its place in space is known; nibabel fills in a guess where it is not."""
TRAILING_BYTES = 2**20
"""Room for the header, its extensions and padding beside the voxels of a compressed file."""
PADDING_BYTES = 4096
"""What may follow the voxels of a NIfTI file; a whole slice more than that is one that the header does not speak of."""
SMALLEST_EDGE_MM, LONGEST_EDGE_MM = 0.01, 100.0
"""Of a voxel; outside them the header's lengths are no millimetres."""
SMALLEST_CONTRAST, LARGEST_CONTRAST = 1e-30, 1e30
"""Between them float32 can scale an image without running out of range."""
APART_MM = 1.0
"""Two places of a header that differ by more than this somewhere in the image contradict each other."""
UNITS = {1: "metres", 3: "micrometres"}


def read_image(path: Path, grid: Geometry | None = None) -> Volume:
    """Read a scan as float32 with its scaling applied; as :func:`read_filled`, without what was said about it."""
    return read_filled(path, grid)[0]


def read_filled(path: Path, grid: Geometry | None = None) -> tuple[Volume, tuple[Notice, ...]]:
    """Read a scan as float32 with its scaling applied, every voxel with a value; and what had to be filled in.

    Args:
        path: NIfTI-1 or -2 (``.nii``, ``.nii.gz``), FreeSurfer's ``.mgz`` or ``.mgh``, or a folder with one DICOM series.
        grid: where the scan has to lie, when that matters.

    Raises:
        InputError: missing, of another kind, damaged, not one real-valued 3D volume, NaN or infinite values within the head,
            constant, or larger than the memory at hand.
        GeometryError: the affine is missing or singular, or the scan lies on another grid.
    """
    volume = _read(path)
    _require_grid(path, volume, grid, "register and resample it to the FLAIR first (for example with flirt)")
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


def header_doubts(path: Path) -> tuple[Notice, ...]:
    """Where the header of a file that can be read contradicts itself, in plain words."""
    if path.is_dir():
        return ()
    try:
        image = nib.load(path, mmap=False)
    except (ImageFileError, OSError) as error:
        raise InputError(f"{path}: was changed while it was read; wait until it is written, then try again") from error
    if not isinstance(image, nib.Nifti1Image):
        return ()
    said: list[Notice] = []
    header, name = image.header, plain_name(path.name)
    if int(header["sform_code"]) and int(header["qform_code"]):
        try:
            apart = Geometry(image.shape[:3], header.get_qform()).distance(Geometry(image.shape[:3], header.get_sform()))
        except (HeaderDataError, ValueError, GeometryError):
            said.append(Notice("qform", f"{name}: its qform cannot be used; it lies where the sform puts it"))
        else:
            if apart > APART_MM:
                text = f"{name}: qform and sform put it up to {apart:.1f} mm apart; the sform was taken: check the sides"
                said.append(Notice("qform", text))
    units = UNITS.get(int(header["xyzt_units"]) % 8)
    if units:
        said.append(Notice("units", f"{name}: its header gives lengths in {units}; they were taken for millimetres"))
    return tuple(said)


def read_label(path: Path, grid: Geometry, label: int) -> Mask:
    """Where an image of labels that lies on ``grid`` has this one (x, y, z).

    Raises:
        InputError, GeometryError: as :func:`read_mask`.
    """
    volume = _read(path)
    _require_grid(path, volume, grid, "resample it to the FLAIR with nearest neighbour")
    return np.asarray(volume.voxels == label)


def read_mask(path: Path, grid: Geometry, ignored_label: int | None = None) -> Volume:
    """Read a binary lesion mask (values 0 and one other number) that lies on ``grid``, as booleans.

    Voxels of ``ignored_label`` count as background here.

    Raises:
        InputError: as :func:`read_image`, or more than two values.
        GeometryError: another grid than the FLAIR's.
    """
    volume = _read(path)
    _require_grid(path, volume, grid, "resample it to the FLAIR with nearest neighbour")
    if ignored_label is not None:
        volume = volume.with_voxels(np.where(volume.voxels == ignored_label, 0, volume.voxels))
    values = np.unique(volume.voxels)
    if len(values) > 2 or (len(values) == 2 and values[0] != 0) or not np.isfinite(values).all() or values[0] < 0:
        shown = ", ".join(f"{v:g}" for v in values[:4])
        raise InputError(f"{path}: not a binary mask, its values are {shown}...; threshold it to 0 and 1 first")
    return volume.with_voxels(volume.voxels > 0)


def read_map(path: Path) -> Volume:
    """Read a map that was stored by veridice: like :func:`read_image`, but constant maps are welcome."""
    return _read(path)


def write_image(path: Path, volume: Volume) -> None:
    """Write booleans as uint8, small integers as they are and everything else as float32; qform and sform are set."""
    kind = volume.voxels.dtype if volume.voxels.dtype in (np.uint8, np.int16) else np.float32
    kind = np.uint8 if volume.voxels.dtype == bool else kind
    image = nib.Nifti1Image(np.asarray(volume.voxels, dtype=kind), volume.affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(volume.affine, code="scanner")
    image.set_qform(volume.affine, code="scanner")
    nib.save(image, path)


def _require_grid(path: Path, volume: Volume, grid: Geometry | None, mend: str) -> None:
    if grid is not None and not volume.geometry.same_grid(grid):
        raise GeometryError(f"{path}: its grid is {volume.geometry.describe()}, the FLAIR's is {grid.describe()}; {mend}")


def _read(path: Path) -> Volume:
    try:
        return read_dicom_folder(path, _read_file) if path.is_dir() else _read_file(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); check the path and your rights") from error


def _read_file(path: Path) -> Volume:
    if not path.exists():
        raise InputError(f"{path}: no such file; check the path")
    if not path.is_file():
        raise InputError(f"{path}: is a device or a pipe; give one image file ({', '.join(SUFFIXES)}) or a DICOM folder")
    if path.name.endswith((".hdr", ".img")):
        raise InputError(f"{path}: Analyze and NIfTI pairs do not say for certain what is left and right; give one .nii.gz")
    if not path.name.endswith(SUFFIXES):
        raise InputError(f"{path}: no image file ({', '.join(SUFFIXES)}); of DICOM give the folder of one series")
    before = path.stat()
    try:
        # Not mapped: a mapped file that somebody cuts short ends the process.
        image = nib.load(path, mmap=False)
        if not isinstance(image, nib.Nifti1Image | nib.MGHImage):
            raise InputError(f"{path}: is {type(image).__name__}, not NIfTI; convert it to .nii.gz")
        promised = _check_header(path, image)
        if path.name.endswith(ZIPPED):
            content = _decompressed(path, promised)
            image = type(image).from_bytes(content)
        _require_no_more(path, image, promised, len(content) if path.name.endswith(ZIPPED) else before.st_size)
        voxels = np.asarray(image.dataobj, dtype=np.float32)
    except (ImageFileError, HeaderDataError, MGHError, KeyError) as error:
        raise InputError(f"{path}: not a readable image file ({_one_line(error)}); export or convert it again") from error
    except PermissionError:
        raise
    except (gzip.BadGzipFile, zlib.error, EOFError, OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: damaged or cut short ({_one_line(error)}); copy or download it again") from error
    except (MemoryError, OverflowError) as error:
        raise InputError(f"{path}: larger than this machine's memory; crop or resample it") from error
    finally:
        _require_unchanged(path, before)
    geometry = _geometry(path, image)
    return Volume(voxels.reshape(geometry.shape), geometry)


def _geometry(path: Path, image: Any) -> Geometry:
    try:
        geometry = Geometry(image.shape[:3], image.affine)
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error
    edges = geometry.voxel_spacing
    if min(edges) < SMALLEST_EDGE_MM or max(edges) > LONGEST_EDGE_MM:
        size = " x ".join(f"{edge:g}" for edge in edges)
        raise GeometryError(f"{path}: its voxels measure {size} mm; repair the header, whose lengths should be millimetres")
    return geometry


def _require_unchanged(path: Path, before: os.stat_result) -> None:
    after = path.stat()
    if (after.st_mtime_ns, after.st_size, after.st_ino) != (before.st_mtime_ns, before.st_size, before.st_ino):
        raise InputError(f"{path}: was changed while it was read; wait until it is written, then try again")


def _require_no_more(path: Path, image: Any, promised: int, size: int) -> None:
    """NIfTI only: what follows the voxels in MGH files are tags of any length."""
    if isinstance(image, nib.MGHImage):
        return
    slice_bytes = promised // max(image.shape[:3])
    if size - image.dataobj.offset - promised >= max(slice_bytes, PADDING_BYTES):
        raise InputError(f"{path}: holds more voxels than its header promises; convert it again")


def _decompressed(path: Path, promised: int) -> bytes:
    """The whole stream, read to its end: only there gzip compares its checksum, which nibabel never reaches."""
    with gzip.open(path) as stream:
        content = stream.read(promised + TRAILING_BYTES)
        if stream.read(1):
            raise InputError(f"{path}: holds much more than its header promises; convert it again")
    return content


def _check_header(path: Path, image: Any) -> int:
    """Refuse everything that can be refused before a voxel is decompressed; returns the bytes of all voxels."""
    header, shape = image.header, image.shape
    if min(shape, default=0) < 1 or len(shape) < 3 or min(shape[:3]) < 2:
        raise InputError(f"{path}: has shape {shape}; a three-dimensional scan is needed")
    if any(n > 1 for n in shape[3:]):
        raise InputError(
            f"{path}: holds {int(np.prod(shape[3:]))} volumes; extract one (for example: fslroi {path.name} out 0 1)"
        )
    if header.get_data_dtype().kind not in "iuf":
        raise InputError(f"{path}: voxels are {_type_name(header)}; one real number a voxel is needed: convert it")
    if not _is_placed(path, header):
        raise GeometryError(f"{path}: its header does not say where it lies in space; convert from DICOM again")
    if isinstance(image, nib.Nifti1Image) and image.dataobj.offset < header.single_vox_offset:
        raise InputError(f"{path}: says that its voxels begin within the header; convert it again")
    count = int(np.prod([int(n) for n in shape], dtype=object))
    promised = count * header.get_data_dtype().itemsize
    room = path.stat().st_size * (MAXIMUM_DEFLATE_RATIO if path.name.endswith(ZIPPED) else 1)
    if promised > room:
        raise InputError(
            f"{path}: the header promises {promised:,} bytes of voxels, more than the file can hold; copy it again"
        )
    needed, free = count * BYTES_PER_VOXEL_IN_MEMORY * WORKING_COPIES, available_memory()
    if needed > min(free, MOST_MEMORY):
        limit = f"{free / 2**30:.1f} are free" if free < MOST_MEMORY else f"more than {MOST_MEMORY / 2**30:.0f} are never taken"
        raise InputError(
            f"{path}: {count:,} voxels need about {needed / 2**30:.1f} GiB of memory, {limit}; "
            "cut it to the head, or resample it to 0.5 mm or coarser"
        )
    return promised


def _is_placed(path: Path, header: Any) -> bool:
    with gzip.open(path) if path.name.endswith(ZIPPED) else path.open("rb") as stream:
        if "sform_code" not in header:
            return bool(any(stream.read(MGH_PLACED.stop)[MGH_PLACED]))
        # nibabel makes up voxel sizes where they are 0 or negative; only the qform needs them.
        sizes = type(header).from_fileobj(stream, check=False)["pixdim"][1:4]
    return bool(int(header["sform_code"]) or (int(header["qform_code"]) and sizes.min() > 0))


def _type_name(header: Any) -> str:
    dtype = header.get_data_dtype()
    return "RGB colours" if dtype.fields else "complex numbers" if dtype.kind == "c" else str(dtype)


def available_memory() -> int:
    """Bytes; with what the system only keeps to read files faster, where it says so."""
    with contextlib.suppress(OSError, StopIteration), Path("/proc/meminfo").open() as lines:
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
