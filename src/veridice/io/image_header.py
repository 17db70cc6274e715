"""What an image file is, by what it holds and not by its name: format, header, and the files that belong to it."""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib

from veridice.errors import InputError

SUFFIXES = (".nii", ".nii.gz", ".mgz", ".mgh")
PAIR_SUFFIXES = (".hdr", ".img", ".hdr.gz", ".img.gz")
GZIP = b"\x1f\x8b"
ANALYZE_SIZE, NIFTI_2_SIZE = 348, 540
HEAD_BYTES = 1024
"""More than the header of every format."""
MGH_VERSION = b"\0\0\0\1"
POINTERS = {
    b"/annex/objects/": "datalad get",
    b"version https://git-lfs.github.com/": "git lfs pull --include",
}
"""How files begin that stand for content that lies elsewhere, and what fetches it."""
ANNEX = ".git/annex/"
SINGLE, SINGLE_2, PAIR, PAIR_2 = b"n+1", b"n+2", b"ni1", b"ni2"
PAIRS = (nib.Nifti1Pair, nib.Nifti2Pair)
"""Classes of nibabel for headers whose voxels lie in a file of their own."""


@dataclass(frozen=True)
class ImageHeader:
    """Header of an image file that was not read further.

    Args:
        path: as it was given.
        kind: class of nibabel that reads it.
        header: put right by nibabel where it is wrong.
        raw: its first bytes, as they are.
        header_file, voxel_file: the same file but for NIfTI pairs.
        zipped: whether the voxels are compressed.
    """

    path: Path
    kind: Any
    header: Any
    raw: bytes
    header_file: Path
    voxel_file: Path
    zipped: bool

    @property
    def is_nifti(self) -> bool:
        return self.kind is not nib.MGHImage

    @property
    def is_pair(self) -> bool:
        return self.header_file != self.voxel_file


def require_content(path: Path) -> None:
    """Make sure that a file is there, and not only a stand-in of git-annex or Git LFS for content that was not fetched.

    Raises:
        InputError: it is not.
    """
    if is_unfetched_link(path):
        raise _not_fetched(path, POINTERS[b"/annex/objects/"])
    if not path.exists():
        raise InputError(f"{path}: no such file; check the path")
    if path.is_dir():
        return
    if not path.is_file():
        raise InputError(f"{path}: is a device or a pipe; give one image file ({', '.join(SUFFIXES)}) or a DICOM folder")
    with path.open("rb") as stream:
        begin = stream.read(64)
    for pointer, command in POINTERS.items():
        if begin.startswith(pointer):
            raise _not_fetched(path, command)


def is_unfetched_link(path: Path) -> bool:
    """Whether a path is a link into a git-annex, by one step or several, whose content is not there."""
    try:
        if not path.is_symlink() or path.exists():
            return False
        return ANNEX in path.readlink().as_posix() or ANNEX in Path(os.path.realpath(path)).as_posix()
    except OSError:
        return False


def _not_fetched(path: Path, command: str) -> InputError:
    return InputError(f"{path}: its content was not fetched, only a pointer to it is there; fetch it: {command} {path.name}")


def read_header(path: Path) -> ImageHeader:
    """Find out what a file is.

    Raises:
        InputError: absent, or no NIfTI or MGH.
        OSError: it cannot be read.
        HeaderDataError, MGHError, KeyError, ValueError, zlib.error: it is one, but damaged.
    """
    require_content(path)
    head, zipped = _head(path)
    kind, header_file, voxel_file = _kind(head), path, path
    if kind in PAIRS:
        voxel_file = _partner(path, "img")
        zipped = _head(voxel_file)[1]
    elif kind is None and _suffix(path) in (".img", ".img.gz"):
        header_file = _partner(path, "hdr")
        head = _head(header_file)[0]
        kind = _kind(head) if _kind(head) in PAIRS else None
    if kind is None:
        raise _unknown(path, head)
    size = None if kind is nib.MGHImage else kind.header_class.template_dtype.itemsize
    return ImageHeader(path, kind, kind.header_class(head[:size]), head, header_file, voxel_file, zipped)


def _kind(head: bytes) -> Any:
    """Class of nibabel for a file that begins so; None for what is neither NIfTI nor MGH."""
    one, two, size = head[344:347], head[4:7], head[:4]
    # The size also says which byte comes first; NIfTI-1 has another sign of that.
    if two in (SINGLE_2, PAIR_2) and NIFTI_2_SIZE in (int.from_bytes(size, "little"), int.from_bytes(size, "big")):
        return nib.Nifti2Image if two == SINGLE_2 else nib.Nifti2Pair
    if one in (SINGLE, PAIR):
        return nib.Nifti1Image if one == SINGLE else nib.Nifti1Pair
    return nib.MGHImage if head.startswith(MGH_VERSION) else None


def _unknown(path: Path, head: bytes) -> InputError:
    if head[128:132] == b"DICM":
        return InputError(f"{path}: is one file of a DICOM series; of DICOM give the folder of one series")
    if ANALYZE_SIZE in (int.from_bytes(head[:4], "little"), int.from_bytes(head[:4], "big")):
        return InputError(f"{path}: Analyze does not say for certain what is left and right; convert the scan to .nii.gz")
    if head and not path.name.endswith((*SUFFIXES, *PAIR_SUFFIXES)):
        return InputError(f"{path}: no image file ({', '.join(SUFFIXES)}); of DICOM give the folder of one series")
    return InputError(f"{path}: not a readable image file (neither NIfTI nor MGH); export or convert it again")


def _head(path: Path) -> tuple[bytes, bool]:
    """The first bytes, decompressed, and whether they were compressed."""
    with path.open("rb") as stream:
        begin = stream.read(HEAD_BYTES)
        if not begin.startswith(GZIP):
            return begin, False
        # Not gzip.open: it would read further than what is asked for.
        unzip = zlib.decompressobj(wbits=31)
        head = unzip.decompress(begin, HEAD_BYTES)
        while len(head) < HEAD_BYTES and not unzip.eof and (more := unzip.unconsumed_tail or stream.read(HEAD_BYTES)):
            head += unzip.decompress(more, HEAD_BYTES - len(head))
        return head, True


def _suffix(path: Path) -> str:
    return next((suffix for suffix in (*PAIR_SUFFIXES, *SUFFIXES) if path.name.endswith(suffix)), "")


def _partner(path: Path, ending: str) -> Path:
    """The other file of a NIfTI pair, compressed or not."""
    stem = path.name.removesuffix(_suffix(path))
    names = [f"{stem}.{ending}{zipped}" for zipped in ("", ".gz")]
    for name in names:
        if (partner := path.with_name(name)).exists() or partner.is_symlink():
            require_content(partner)
            return partner
    missing = "voxels" if ending == "img" else "header"
    raise InputError(f"{path}: is one file of a pair, its {missing} {names[0]} is missing; put both side by side")
