"""A folder with one DICOM series as a volume, by way of dcm2niix."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import dcm2niix

from veridice.errors import InputError
from veridice.imaging.volume import Volume

SECONDS = 300
UNEVEN = b"Interslice distance varies"
"""What dcm2niix says of slices that it stacks as if they lay evenly."""
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
        command = [
            dcm2niix.bin,
            "-b",
            "n",
            "-z",
            "n",
            "-d",
            "0",
            "-m",
            "y",
            "-f",
            "series-%s",
            "-o",
            temporary,
            str(folder.resolve()),
        ]
        try:
            done = subprocess.run(command, capture_output=True, timeout=SECONDS, check=False, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired as error:
            raise InputError(f"{folder}: dcm2niix took over {SECONDS} s; convert the series to .nii.gz") from error
        except OSError as error:
            raise InputError(f"{folder}: dcm2niix cannot be run ({error.strerror}); convert the series to .nii.gz") from error
        files = sorted(Path(temporary).glob("*.nii"))
        if not files:
            code = f", dcm2niix says {done.returncode}" if done.returncode else ""
            raise InputError(f"{folder}: holds no DICOM series that can be read{code}; give the folder of one")
        if len(files) > 1:
            raise InputError(f"{folder}: holds {len(files)} DICOM series; give the folder of one")
        if UNEVEN in done.stdout:
            raise InputError(f"{folder}: a slice is missing, or they do not lie evenly; copy the whole series")
        try:
            return read(files[0])
        except InputError as error:
            raise type(error)(str(error).replace(str(files[0]), str(folder))) from error
