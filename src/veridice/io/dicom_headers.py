"""Headers of the files of a study, grouped into series. Needs the extra ``dicom``.

Nothing of a patient leaves this room but what tells two patients apart.
"""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydicom import config as pydicom_config
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian

from veridice.errors import InputError

MOST_FILES = 20_000
PIXEL_COUNTS = {"Rows": 0, "Columns": 0, "NumberOfFrames": 1, "SamplesPerPixel": 1, "BitsAllocated": 16}
"""Whose product is the size of the pixels in bits, and what counts where one is missing."""
LARGEST_FILE = 2**31
"""Bytes; a FLAIR of a head has a hundredth of it."""
LARGEST_SERIES = 2**30
"""Bytes of a series once its frames are decompressed; a head at half a millimetre has a quarter of it."""


def words(text: str) -> tuple[str, ...]:
    """A table of names, written as a text."""
    return tuple(text.split())


CONTRAST_AGENT = ("ContrastBolusAgent", "ContrastBolusAgentSequence")
WANTED = words(
    "SpecificCharacterSet SOPClassUID SOPInstanceUID StudyInstanceUID SeriesInstanceUID Modality ImageType SeriesNumber "
    "SeriesDescription ProtocolName SequenceName ScanningSequence EchoTime RepetitionTime InversionTime AcquisitionContrast "
    "EchoPulseSequence ContrastBolusAgent ContrastBolusAgentSequence PatientID IssuerOfPatientID PatientBirthDate Rows Columns "
    "NumberOfFrames BitsAllocated SamplesPerPixel PixelSpacing SliceThickness SpacingBetweenSlices ImageOrientationPatient "
    "ManufacturerModelName SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence"
)


@dataclass(frozen=True)
class Image:
    """One file.

    Args:
        path: of it.
        header: the attributes that say what it shows; of the patient, only the number and the date of birth.
    """

    path: Path
    header: Dataset = field(repr=False)

    def value(self, keyword: str) -> Any:
        """An attribute of the root, else of the frames that all share it, else of the first frame; None where there is none."""
        if (value := self.header.get(keyword)) not in (None, ""):
            return value
        for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
            for group in list(self.header.get(groups) or ())[:1]:
                for element in group:
                    if element.VR == "SQ" and element.value and (value := element.value[0].get(keyword)) not in (None, ""):
                        return value
        return None

    def number(self, keyword: str) -> float | None:
        """The same as a number, the first of several."""
        value = self.value(keyword)
        with contextlib.suppress(TypeError, ValueError, IndexError):
            return float(value if isinstance(value, int | float | str) else value[0])
        return None

    def text(self, keyword: str) -> str:
        """The same as text; several values have a backslash between them."""
        value = self.value(keyword)
        several = value is not None and not isinstance(value, str) and hasattr(value, "__iter__")
        return "\\".join(map(str, value)) if several else str(value or "")

    @property
    def frames(self) -> int:
        return int(self.header.get("NumberOfFrames") or 1)

    @property
    def size(self) -> int:
        """Bytes of the pixels once they are decompressed."""
        numbers = [int(self.header.get(name) or standard) for name, standard in PIXEL_COUNTS.items()]
        return math.prod(numbers) // 8

    @property
    def is_cut_short(self) -> bool:
        """Whether the file is smaller than its pixels, which are not compressed."""
        syntax = self.header.file_meta.get("TransferSyntaxUID")
        return (syntax is None or not syntax.is_compressed) and self.path.stat().st_size < self.size

    @property
    def patient(self) -> tuple[str, str, str]:
        return (
            str(self.header.get("PatientID", "")),
            self.text("IssuerOfPatientID"),
            str(self.header.get("PatientBirthDate", "")),
        )


@dataclass(frozen=True)
class Series:
    """Images with one series UID; never none."""

    images: tuple[Image, ...] = field(repr=False)

    @property
    def first(self) -> Image:
        return self.images[0]

    @property
    def uid(self) -> str:
        return self.first.text("SeriesInstanceUID")

    @property
    def number(self) -> int:
        return int(self.first.number("SeriesNumber") or 0)

    @property
    def description(self) -> str:
        return self.first.text("SeriesDescription") or self.first.text("ProtocolName")

    @property
    def frames(self) -> int:
        return sum(image.frames for image in self.images)

    @property
    def size(self) -> int:
        """Bytes of all pixels once they are decompressed."""
        return sum(image.size for image in self.images)

    @property
    def files(self) -> list[Path]:
        return [image.path for image in self.images]

    def __str__(self) -> str:
        return f"series {self.number}"  # a description is what people typed, and goes to no log


def silence_libraries() -> None:
    """What the libraries think of a header holds names and UIDs, and goes to no log of ours."""
    warnings.simplefilter("ignore")
    for name in ("pydicom", "pynetdicom", "highdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def read_study(files: Iterable[Path]) -> list[Series]:
    """Series of one study of one patient, by number.

    Args:
        files: of the study; those that are no DICOM, and folders' own files (DICOMDIR), are passed over.

    Raises:
        InputError: no DICOM, several studies or patients, or something far larger than a study of a head.
    """
    images = [image for path in files if (image := read_header(path)) is not None]
    if not images:
        raise InputError("no DICOM image is there; give the folder of one study")
    if len({image.text("StudyInstanceUID") for image in images}) > 1:
        raise InputError("holds more than one study; give the folder of one")
    if len({image.patient for image in images}) > 1:
        raise InputError("holds images of more than one patient under one study; find out whose they are first")
    series: dict[str, dict[str, Image]] = {}
    for image in images:  # the same image twice counts once
        series.setdefault(image.text("SeriesInstanceUID"), {}).setdefault(image.text("SOPInstanceUID"), image)
    found = [Series(tuple(of_one.values())) for of_one in series.values()]
    return sorted(found, key=lambda one: (one.number, one.uid))


def files_below(folder: Path) -> list[Path]:
    """All files in a folder and those below, in order.

    Raises:
        InputError: no folder, or too many files to be one study.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; give the folder of one DICOM study")
    files = []
    for path in folder.rglob("*"):
        if path.is_file():
            files.append(path)
        if len(files) > MOST_FILES:
            raise InputError(f"{folder}: holds more than {MOST_FILES} files; give the folder of one DICOM study")
    return sorted(files)


def read_header(path: Path) -> Image | None:
    """The header of one file; None where it is no image of a study.

    Raises:
        InputError: its header or its frames are far larger than those of a head.
    """
    if path.stat().st_size > LARGEST_FILE:
        raise InputError(f"{path.name}: is larger than 2 GiB; give the folder of one study of a head")
    try:
        # What is deflated may grow a thousandfold in memory before anything can be said of it.
        if read_file_meta_info(path).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            return None
        header = read_quietly(path, WANTED)
        image = Image(path, header)
        if not all(header.get(name) for name in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")):
            return None
        size = image.size
    except Exception:  # hostile bytes make pydicom raise nearly everything
        return None
    if size > LARGEST_SERIES:
        raise InputError(f"{path.name}: its frames are larger than 1 GiB; give the folder of one study of a head")
    return image


def read_quietly(path: Path, wanted: Sequence[str] | None = None) -> Dataset:
    """A header without pixels. Values that break the rules of their kind are taken as they are: scanners write such.

    Raises:
        Exception: of nearly any kind, as the file is no DICOM or damaged.
    """
    with pydicom_config.disable_value_validation():
        dataset = dcmread(path, stop_before_pixels=True, specific_tags=list(wanted) if wanted else None)
        for element in dataset:  # a damaged value shows when it is looked at
            _ = element.value
        return dataset
