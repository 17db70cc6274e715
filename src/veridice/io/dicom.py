"""A folder with one DICOM series as a volume, by way of dcm2niix."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import dcm2niix
import numpy as np
import SimpleITK as sitk

from veridice.errors import InputError
from veridice.imaging.volume import Volume
from veridice.io.image_header import is_unfetched_link, require_content

SECONDS = 300
UNEVEN = b"Interslice distance varies"
"""What dcm2niix says of slices that it stacks as if they lay evenly."""
POSITION, DIRECTIONS, SERIES = "0020|0032", "0020|0037", "0020|000e"
NAMED = 8
"""Missing slices whose positions are told."""
UNEVENNESS = 0.1
"""Part of a step by which slices may lie beside their place and the missing ones still be counted."""
MOST_MEMORY = 2**32
"""Bytes that the converter may take: a head at half a millimetre has a tenth of it."""
MOST_FILES = 20_000
"""A series has hundreds of files; a folder with more than this was hardly meant."""


def read_dicom_folder(folder: Path, read: Callable[[Path], Volume]) -> Volume:
    """Convert the one series in ``folder`` (dcm2niix: Li et al. 2016) and read it.

    Only voxels and their place are kept: no tag of the patient leaves the temporary folder, which is deleted.

    Args:
        folder: of one series; folders below it are not looked into.
        read: reads the converted file.

    Raises:
        InputError: there is no series, or more than one, or it cannot be converted.
    """
    if sum(1 for _ in folder.iterdir()) > MOST_FILES:
        raise InputError(f"{folder}: holds more than {MOST_FILES} files; give the folder of one DICOM series")
    with tempfile.TemporaryDirectory(prefix="veridice-") as temporary:
        done = _converted(folder, temporary)
        files = sorted(Path(temporary).glob("*.nii"))
        if len(files) != 1 or UNEVEN in done.stdout:
            # A slice may be only a pointer to content that was not fetched.
            for path in sorted(path for path in folder.iterdir() if path.is_file() or is_unfetched_link(path)):
                require_content(path)
        if not files:
            code = f", dcm2niix says {done.returncode}" if done.returncode else ""
            raise InputError(f"{folder}: holds no DICOM series that can be read{code}; give the folder of one")
        if len(files) > 1 or UNEVEN in done.stdout:
            raise InputError(f"{folder}: {_what_is_wrong(folder, len(files))}")
        try:
            return read(files[0])
        except InputError as error:
            raise type(error)(str(error).replace(str(files[0]), str(folder))) from error


def _converted(folder: Path, temporary: str) -> subprocess.CompletedProcess[bytes]:
    """Let dcm2niix write ``*.nii`` into a folder: no sidecars, nothing compressed, no folders below, slices merged."""
    options = ["-b", "n", "-z", "n", "-d", "0", "-m", "y", "-f", "series-%s", "-o", temporary]
    command = [dcm2niix.bin, *options, str(folder.resolve())]
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL) as process:
            # A small file may hold compressed frames that are not: it ends where an ordinary series never comes.
            with contextlib.suppress(AttributeError, ImportError, OSError):
                import resource

                resource.prlimit(process.pid, resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
            try:
                said, errors = process.communicate(timeout=SECONDS)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(command, process.returncode, said, errors)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{folder}: dcm2niix took over {SECONDS} s; convert the series to .nii.gz") from error
    except OSError as error:
        raise InputError(f"{folder}: dcm2niix cannot be run ({error.strerror}); convert the series to .nii.gz") from error


def _what_is_wrong(folder: Path, volumes: int) -> str:
    """Why one folder is not one volume: of a single series slices are missing, or there are several."""
    series = _slice_positions(folder)
    if len(series) > 1 or (len(series) == 1 and volumes > 1 and not any(map(_gaps, series.values()))):
        return f"holds {len(series) if len(series) > 1 else volumes} DICOM series; give the folder of one"
    gaps = [gap for positions in series.values() for gap in _gaps(positions)]
    if not gaps:
        return "a slice is missing, or they do not lie evenly; copy the whole series"
    places = ", ".join(f"{place:.1f}" for place, _, _ in gaps[:NAMED]) + (", ..." if gaps[NAMED:] else "")
    number = f"{len(gaps)} slices are missing" if len(gaps) > 1 else "a slice is missing"
    low, high = gaps[0][1], gaps[-1][2]
    return (
        f"{number} at {places} mm along the slice direction, between those at {low:.1f} and {high:.1f}; copy the whole series"
    )


def _gaps(positions: list[float]) -> list[tuple[float, float, float]]:
    """Positions (mm) at which slices are missing, with those of the neighbours that are there."""
    places = np.unique(np.round(positions, 2))
    steps = np.diff(places)
    if not steps.size:
        return []
    # Right unless more steps are wide than not.
    step = float(np.median(steps))
    gaps = []
    for low, width in zip(places, steps, strict=False):
        count = round(width / step)
        if count > 1 and abs(width / count - step) < UNEVENNESS * step:
            gaps += [(float(low + width * part / count), float(low), float(low + width)) for part in range(1, count)]
    return gaps


def _slice_positions(folder: Path) -> dict[str, list[float]]:
    """Where the slices of each series lie along their normal (mm), from the headers alone."""
    found: dict[str, list[float]] = {}
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    shown = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        for file in sorted(path for path in folder.iterdir() if path.is_file()):
            with contextlib.suppress(RuntimeError, ValueError):  # no DICOM, or none of a slice
                reader.SetFileName(str(file))
                reader.ReadImageInformation()
                place, directions = (np.array(reader.GetMetaData(tag).split("\\"), float) for tag in (POSITION, DIRECTIONS))
                normal = np.cross(directions[:3], directions[3:])
                found.setdefault(reader.GetMetaData(SERIES), []).append(float(normal @ place))
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(shown)
    return found
