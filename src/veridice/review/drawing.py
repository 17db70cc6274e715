"""Corrected masks: what the browser sends, checked; the file that comes of it, and what it says of itself."""

from __future__ import annotations

import os
import shutil
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from veridice._version import __version__
from veridice.errors import InputError, OutputError
from veridice.imaging.volume import Geometry, Volume
from veridice.io.atomic import replaced, write_json
from veridice.io.bids import MAPS
from veridice.io.nifti import read_image, read_mask, write_image
from veridice.metrics.overlap import dice
from veridice.review.store import FOLDER
from veridice.review.studied import StudiedScan

EDITED = f"_{MAPS['edited_mask'][0]}.nii.gz"
STAGE = "making"
"""Folder of what is being made, in that of the desk."""
LARGEST_UPLOAD = 32 * 2**20
"""Bytes, compressed; a mask of 512 × 512 × 512 voxels has less than one million."""


def unpack_drawing(content: bytes, geometry: Geometry) -> Volume:
    """A mask from the bytes of a drawing.

    Args:
        content: gzip of one byte a voxel, 0 or 1, in the order of the FLAIR's file (the first axis runs fastest).
        geometry: of the FLAIR.

    Raises:
        InputError: it is no such thing.
    """
    size = int(np.prod(geometry.shape))
    try:
        # Not a byte more than there are voxels: a small upload may unpack to very much.
        machine = zlib.decompressobj(zlib.MAX_WBITS | 16)
        voxels = machine.decompress(content, size + 1)
    except zlib.error as error:
        raise InputError("the drawing is no gzip file; send one byte a voxel, compressed") from error
    if len(voxels) != size or not machine.eof:
        raise InputError(f"the drawing has another number of voxels than the FLAIR, which has {size}; open the scan again")
    mask = np.frombuffer(voxels, np.uint8)
    if mask.max(initial=0) > 1:
        raise InputError("the drawing has values other than 0 and 1; send a binary mask")
    return Volume(mask.reshape(geometry.shape, order="F") > 0, geometry)


def compared(scan: StudiedScan, drawn: Volume) -> tuple[float, float]:
    """Dice of a drawing with the judged mask, and its volume in millilitres.

    Raises:
        InputError: the judged mask cannot be read.
    """
    judged = read_mask(scan.layers["judged_mask"], drawn.geometry)
    volume = float(drawn.voxels.sum()) * abs(float(np.linalg.det(drawn.affine[:3, :3]))) / 1000
    return dice(drawn.voxels, judged.voxels).dice, volume


def flair_geometry(scan: StudiedScan) -> Geometry:
    """Grid of the FLAIR, which drawings lie on.

    Raises:
        InputError: it cannot be read.
    """
    return _geometry(scan.layers["flair"], scan.looks.get("flair"))


@lru_cache(maxsize=64)
def _geometry(path: Path, _look: tuple[int, int] | None) -> Geometry:
    """Of a file that has not changed: every pause in drawing asks for it."""
    return read_image(path).geometry


def keep(path: Path, drawn: Volume) -> None:
    """Write a drawing and wait until it is on the disk.

    Raises:
        OutputError: that cannot be done.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as temporary:
            write_image(temporary, drawn)
            _to_disk(temporary)
        _to_disk(path.parent)
    except OSError as error:
        raise OutputError(f"{path.name}: the drawing cannot be kept ({error.strerror or error}); free some space") from error


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish_edited(output: Path, scan: StudiedScan, kept: Path | None, facts: dict[str, Any]) -> None:
    """Put the drawing that counts beside the results of the scan, or take the file away where there is none any more.

    Args:
        output: the study's folder.
        scan: whose it is.
        kept: the drawing; None: none counts.
        facts: who drew it when, and what it is like.

    Raises:
        OutputError: nothing can be written there.
    """
    place = output / scan.folder / f"{scan.name}{EDITED}"
    sidecar = place.with_name(place.name.replace(".nii.gz", ".json"))
    try:
        if kept is None:
            place.unlink(missing_ok=True)
            sidecar.unlink(missing_ok=True)
            return
        made_by = [{"Name": "veridice review", "Version": __version__}]
        _, meaning, unit = MAPS["edited_mask"]
        about = {"Description": meaning, "Units": unit, "SpatialReference": "orig"}
        # Made beside the drawings, where the next desk sweeps away what a killed one left.
        stage = output / FOLDER / STAGE
        stage.mkdir(exist_ok=True)
        write_json(stage / sidecar.name, {**about, **facts, "GeneratedBy": made_by})
        shutil.copyfile(kept, stage / place.name)
        (stage / sidecar.name).replace(sidecar)
        (stage / place.name).replace(place)
    except OSError as error:
        raise OutputError(f"{place.name}: cannot be written ({error.strerror or error}); free some space") from error


def sweep(output: Path) -> None:
    """Remove what a killed desk had half made; only while no other desk has the study open."""
    shutil.rmtree(output / FOLDER / STAGE, ignore_errors=True)
    for left in (output / FOLDER).rglob(".*.tmp*"):
        left.unlink(missing_ok=True)
