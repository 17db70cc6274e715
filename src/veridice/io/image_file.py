"""One image file to a volume: every promise of its header is checked before a voxel is decompressed, every checksum after."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.freesurfer.mghformat import MGHError
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from veridice.case import Notice, plain_name
from veridice.errors import GeometryError, InputError
from veridice.imaging.space import named_template
from veridice.imaging.volume import Geometry, Volume
from veridice.io.image_header import GZIP, ImageHeader, read_header
from veridice.io.memory import available_memory, memory_ran_out

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
CHUNK, MOST_AT_ONCE = 2**20, 2**26
SMALLEST_EDGE_MM, LONGEST_EDGE_MM = 0.01, 100.0
"""Of a voxel; outside them the header's lengths are no millimetres."""
MOST_SHEAR_DEGREES = 0.5
"""By which axes may miss a right angle: more than rounding, and too little to matter for a volume or a distance."""
APART_MM = 1.0
"""Two places of a header that differ by more than this somewhere in the image contradict each other."""
UNITS = {1: "metres", 3: "micrometres"}
TEMPLATE_CODES = {3: "Talairach", 4: "MNI", 5: "another template"}


def read_file(path: Path) -> Volume:
    """Read one NIfTI or MGH file, whatever its name, as float32 with its scaling applied (x, y, z).

    Raises:
        InputError: missing, of another kind, damaged, not one real-valued 3D volume, or larger than the memory at hand.
        GeometryError: it does not say where it lies, or its axes are of no use.
        OSError: it cannot be opened.
    """
    with _in_one_line(path):
        found = read_header(path)
        before = [(file, file.stat()) for file in {found.header_file, found.voxel_file}]
        try:
            promised = _check_header(found)
            with _opened(found, promised) as files:
                image = found.kind.from_file_map(files, mmap=False)
                voxels = np.asarray(image.dataobj, dtype=np.float32)
        finally:
            for file, state in before:
                _require_unchanged(file, state)
    geometry = _geometry(path, image)
    return Volume(voxels.reshape(geometry.shape), geometry)


@contextmanager
def _in_one_line(path: Path) -> Iterator[None]:
    """What nibabel and zlib raise becomes one line that names the file."""
    try:
        yield
    except (ImageFileError, HeaderDataError, MGHError, KeyError) as error:
        raise InputError(f"{path}: not a readable image file ({_one_line(error)}); export or convert it again") from error
    except (WrapStructError, zlib.error, EOFError, ValueError, TypeError, OverflowError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputError(f"{path}: damaged or cut short ({_one_line(error)}); copy or download it again") from error
    except MemoryError as error:
        raise InputError(f"{path}: {memory_ran_out(error)}") from error


@contextmanager
def _opened(found: ImageHeader, promised: int) -> Iterator[Any]:
    """nibabel's map of the files, open: never mapped, since a mapped file that somebody cuts short ends the process."""
    files = found.kind.make_file_map()
    with ExitStack() as stack:
        for name, holder in files.items():
            path = found.header_file if name == "header" else found.voxel_file
            stream: IO[bytes] = stack.enter_context(path.open("rb"))
            if stream.read(2) == GZIP:
                stream = _decompressed(path, stream, promised if path == found.voxel_file else 0)
            if path == found.voxel_file:
                _require_no_more(found, promised, stream.seek(0, os.SEEK_END))
            stream.seek(0)
            holder.fileobj = stream
        yield files


def _decompressed(path: Path, stream: IO[bytes], promised: int) -> BytesIO:
    """Whole gzip members, each to its end, where its checksum is; what follows the last one is no gzip and is left.

    Raises:
        InputError: it holds much more than promised.
        EOFError, zlib.error: it ends too early, or a checksum is wrong.
    """
    stream.seek(0)
    # Written to and not joined: no copy of it is made.
    content, room, rest = BytesIO(), promised + TRAILING_BYTES, stream.read(CHUNK)
    while rest.startswith(GZIP):
        unzip = zlib.decompressobj(wbits=31)
        while not unzip.eof:
            if not (rest := rest or stream.read(CHUNK)):
                raise EOFError("the compressed stream ends too early")
            content.write(unzip.decompress(rest, min(room - content.tell() + 1, MOST_AT_ONCE)))
            if content.tell() > room:
                raise InputError(f"{path}: holds much more than its header promises; convert it again")
            rest = unzip.unconsumed_tail
        rest = unzip.unused_data
        if len(rest) < len(GZIP):
            rest += stream.read(CHUNK)
    return content


def _check_header(found: ImageHeader) -> int:
    """Refuse everything that can be refused before a voxel is decompressed; returns the bytes of all voxels."""
    path, header, shape = found.path, found.header, found.header.get_data_shape()
    if min(shape, default=0) < 1 or len(shape) < 3 or min(shape[:3]) < 2:
        raise InputError(f"{path}: has shape {tuple(int(n) for n in shape)}; a three-dimensional scan is needed")
    if any(n > 1 for n in shape[3:]):
        raise InputError(
            f"{path}: holds {int(np.prod(shape[3:]))} volumes; extract one (for example: fslroi {path.name} out 0 1)"
        )
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf":
        name = "RGB colours" if dtype.fields else "complex numbers" if dtype.kind == "c" else str(dtype)
        raise InputError(f"{path}: voxels are {name}; one real number a voxel is needed: convert it")
    if not _is_placed(found):
        raise GeometryError(f"{path}: its header does not say where it lies in space; convert from DICOM again")
    if found.is_nifti and not found.is_pair and header.get_data_offset() < header.single_vox_offset:
        raise InputError(f"{path}: says that its voxels begin within the header; convert it again")
    count = int(np.prod([int(n) for n in shape], dtype=object))
    promised = count * dtype.itemsize
    room = found.voxel_file.stat().st_size * (MAXIMUM_DEFLATE_RATIO if found.zipped else 1)
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


def _is_placed(found: ImageHeader) -> bool:
    if not found.is_nifti:
        return any(found.raw[MGH_PLACED])
    # nibabel makes up voxel sizes where they are 0 or negative; only the qform needs them.
    kind = type(found.header)
    sizes = kind(found.raw[: kind.template_dtype.itemsize], check=False)["pixdim"][1:4]
    return bool(int(found.header["sform_code"]) or (int(found.header["qform_code"]) and sizes.min() > 0))


def _require_no_more(found: ImageHeader, promised: int, size: int) -> None:
    """NIfTI only: what follows the voxels in MGH files are tags of any length."""
    if not found.is_nifti:
        return
    slice_bytes = promised // max(found.header.get_data_shape()[:3])
    if size - found.header.get_data_offset() - promised >= max(slice_bytes, PADDING_BYTES):
        raise InputError(f"{found.path}: holds more voxels than its header promises; convert it again")


def _require_unchanged(path: Path, before: os.stat_result) -> None:
    after = path.stat()
    if (after.st_mtime_ns, after.st_size, after.st_ino) != (before.st_mtime_ns, before.st_size, before.st_ino):
        raise InputError(f"{path}: was changed while it was read; wait until it is written, then try again")


def _geometry(path: Path, image: Any) -> Geometry:
    try:
        geometry = Geometry(image.shape[:3], image.affine, _space(image.header) or named_template(path.name))
    except GeometryError as error:
        raise GeometryError(f"{path}: {error}") from error
    edges = geometry.voxel_spacing
    if min(edges) < SMALLEST_EDGE_MM or max(edges) > LONGEST_EDGE_MM:
        size = " x ".join(f"{edge:g}" for edge in edges)
        raise GeometryError(f"{path}: its voxels measure {size} mm; repair the header, whose lengths should be millimetres")
    if (shear := geometry.farthest_from_right_angles) > MOST_SHEAR_DEGREES:
        raise GeometryError(
            f"{path}: its axes are not at right angles ({shear:.1f} degrees off), so volumes and distances would be wrong; "
            "resample it, and all that lies on its grid, to right angles (for example with mri_convert)"
        )
    return geometry


def _space(header: Any) -> str:
    """The template that the code of the used affine names."""
    if "sform_code" not in header:
        return ""
    return TEMPLATE_CODES.get(int(header["sform_code"]) or int(header["qform_code"]), "")


def header_doubts(path: Path) -> tuple[Notice, ...]:
    """Where the header of a file that can be read contradicts itself, in plain words; none of a folder of DICOM.

    Raises:
        InputError: it was changed since it was read.
    """
    if path.is_dir():
        return ()
    try:
        with _in_one_line(path):
            found = read_header(path)
    except OSError as error:
        raise InputError(f"{path}: was changed while it was read; wait until it is written, then try again") from error
    if not found.is_nifti:
        return ()
    said: list[Notice] = []
    header, name, shape = found.header, plain_name(path.name), found.header.get_data_shape()[:3]
    if int(header["sform_code"]) and int(header["qform_code"]):
        try:
            apart = Geometry(shape, header.get_qform()).distance(Geometry(shape, header.get_sform()))
        except (HeaderDataError, ValueError, GeometryError):
            said.append(Notice("qform", f"{name}: its qform cannot be used; it lies where the sform puts it"))
        else:
            if apart > APART_MM:
                text = f"{name}: qform and sform put it up to {apart:.1f} mm apart; the sform was taken: check the sides"
                said.append(Notice("qform", text))
    if units := UNITS.get(int(header["xyzt_units"]) % 8):
        said.append(Notice("units", f"{name}: its header gives lengths in {units}; they were taken for millimetres"))
    return tuple(said)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120]
