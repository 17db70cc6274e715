"""Between voxels and the frames of a DICOM series: which pixel of which image a voxel is. Needs the extra ``dicom``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from highdicom import SpecificCharacterSetValues
from highdicom.spatial import get_volume_positions
from pydicom.dataset import Dataset, FileMetaDataset

from veridice.errors import GeometryError, InputError
from veridice.imaging.volume import Geometry, Volume
from veridice.io.dicom_headers import read_quietly, words

FORMS = {
    "PatientSex": re.compile("[MFO]?"),
    "PatientBirthDate": re.compile(r"(?!0{8})(\d{8})?"),
    "StudyDate": re.compile(r"(?!0{8})(\d{8})?"),
    "StudyTime": re.compile(r"(\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?)?"),
}
"""Values of another form, which scanners write all the same, are left out."""
RAS_OF_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Millimetres of DICOM grow to the left and to the back, those of NIfTI to the right and to the front."""
PATIENT = words(
    "SpecificCharacterSet PatientName PatientID IssuerOfPatientID TypeOfPatientID PatientBirthDate PatientSex "
    "PatientIdentityRemoved DeidentificationMethod DeidentificationMethodCodeSequence "
)
STUDY = words("StudyInstanceUID StudyDate StudyTime StudyID AccessionNumber ")
"""What an archive files an object by."""
IMAGE = words(
    "SOPClassUID SOPInstanceUID SeriesInstanceUID FrameOfReferenceUID PositionReferenceIndicator Modality ImageType "
    "InstanceNumber Rows Columns NumberOfFrames PixelSpacing SliceThickness SpacingBetweenSlices "
    "ImagePositionPatient ImageOrientationPatient SharedFunctionalGroupsSequence PerFrameFunctionalGroupsSequence "
    "DimensionOrganizationSequence DimensionIndexSequence "
)
GROUPS = {
    "PixelMeasuresSequence": words("PixelSpacing SliceThickness SpacingBetweenSlices"),
    "PlanePositionSequence": words("ImagePositionPatient"),
    "PlaneOrientationSequence": words("ImageOrientationPatient"),
    "FrameContentSequence": words("StackID InStackPositionNumber DimensionIndexValues"),
    "DimensionOrganizationSequence": words("DimensionOrganizationUID"),
    "DimensionIndexSequence": words("DimensionIndexPointer FunctionalGroupPointer DimensionOrganizationUID"),
    "DeidentificationMethodCodeSequence": words("CodeValue CodingSchemeDesignator CodeMeaning"),
}
"""What is kept of the items of a sequence; nothing of any other sequence."""
FUNCTIONAL_GROUPS = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
TYPE_2 = (*PATIENT[1:3], *PATIENT[5:7], *STUDY[1:], "PositionReferenceIndicator", "InstanceNumber")
"""Of those above, what has to be there, empty if need be."""


@dataclass(frozen=True)
class SourceImages:
    """The images of a series, by the place of their slices, without pixels.

    Args:
        datasets: one a slice in the order of the slices, or one with many frames. Of the patient they have what an archive
            files an object by, and nothing else.
        grid: axes are column, row and slice.
        slice_of_frame: the slice that each frame shows.
    """

    datasets: list[Dataset]
    grid: Geometry
    slice_of_frame: tuple[int, ...]

    def frames(self, volume: Volume) -> np.ndarray[Any, Any]:
        """Voxels as pixels, shape (frame, row, column), in the order of the frames.

        Raises:
            GeometryError: the volume does not lie on these images.
        """
        placed = volume.on(self.grid)
        if placed is None:
            raise GeometryError(f"a map of {volume.geometry.describe()} does not lie on the images, {self.grid.describe()}")
        return np.ascontiguousarray(placed.voxels.transpose(2, 1, 0)[list(self.slice_of_frame)])


def read_sources(files: Sequence[Path]) -> SourceImages:
    """Headers of the files of one series.

    Raises:
        InputError: they are several images in one place, or state no place.
        GeometryError: the slices do not lie evenly behind each other.
    """
    datasets = [_lean(_header(path)) for path in files]
    try:
        positions, directions, spacing = _places(datasets)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise InputError(f"{files[0].name}: does not state where its pixels lie ({error})") from error
    step, slices = get_volume_positions(positions, directions, rtol=0.01, index_convention="RD")
    if slices is None or step is None:
        raise GeometryError("slices lie unevenly, or several in one place; results cannot be laid on such images")
    order = list(np.argsort(slices))
    first, last = np.array(positions[order[0]]), np.array(positions[order[-1]])
    across, down = np.array(directions[:3]), np.array(directions[3:])
    normal = (last - first) / max(np.linalg.norm(last - first), 1e-9) if len(order) > 1 else np.cross(across, down)
    affine = np.eye(4)
    affine[:3] = np.stack([across * spacing[1], down * spacing[0], normal * step, first], axis=1)
    shape = (int(datasets[0].Columns), int(datasets[0].Rows), len(order))
    grid = Geometry(shape, RAS_OF_LPS @ affine)
    if len(datasets) == 1:
        return SourceImages(datasets, grid, tuple(slices))
    return SourceImages([datasets[index] for index in order], grid, tuple(range(len(order))))


def _header(path: Path) -> Dataset:
    try:
        return read_quietly(path, (*PATIENT, *STUDY, *IMAGE))
    except Exception as error:  # damaged bytes make pydicom raise nearly everything
        raise InputError(f"{path.name}: its header is damaged; send or copy the image once more") from error


def _places(datasets: list[Dataset]) -> tuple[list[list[float]], list[float], list[float]]:
    """Positions of all frames, their directions and the spacing of rows and columns (mm)."""
    first = datasets[0]
    if "PerFrameFunctionalGroupsSequence" not in first:
        faced = [_numbers(dataset.ImageOrientationPatient) for dataset in datasets]
        if np.ptp(np.array(faced), axis=0).max() > 1e-3:
            raise ValueError("its slices face several directions")
        positions = [_numbers(dataset.ImagePositionPatient) for dataset in datasets]
        return positions, faced[0], _numbers(first.PixelSpacing)
    shared, frames = first.SharedFunctionalGroupsSequence[0], first.PerFrameFunctionalGroupsSequence

    def group(name: str) -> Dataset:
        return (shared.get(name) or frames[0][name].value)[0]

    positions = [_numbers(frame.PlanePositionSequence[0].ImagePositionPatient) for frame in frames]
    directions = _numbers(group("PlaneOrientationSequence").ImageOrientationPatient)
    return positions, directions, _numbers(group("PixelMeasuresSequence").PixelSpacing)


def _numbers(values: Any) -> list[float]:
    return [float(value) for value in values]


def _lean(dataset: Dataset) -> Dataset:
    """What an object made of the image needs; the rest of its header stays behind.

    Raises:
        InputError: it states no frame of reference, so that nothing can be laid on it.
    """
    lean = kept(dataset, (*PATIENT, *STUDY, *IMAGE))
    for keyword in TYPE_2:
        if keyword not in lean:
            setattr(lean, keyword, None if keyword != "InstanceNumber" else 1)
    if not lean.get("FrameOfReferenceUID"):
        raise InputError("its images state no frame of reference, so results cannot be laid on them")
    _in_known_letters(lean)
    for keyword, form in FORMS.items():
        if not form.fullmatch(str(lean.get(keyword) or "")):
            setattr(lean, keyword, None)
    return lean


def _in_known_letters(lean: Dataset) -> None:
    """Some character sets, such as those of Japan and Korea as they are usually stated, are unknown to highdicom."""
    stated = lean.get("SpecificCharacterSet") or []
    stated = [stated] if isinstance(stated, str) else list(stated)
    if stated and not set(stated) <= {known.value for known in SpecificCharacterSetValues}:
        lean.decode()
        for keyword in ("PatientName", "PatientID", "IssuerOfPatientID", "StudyID", "AccessionNumber"):
            if keyword in lean:
                setattr(lean, keyword, str(lean[keyword].value or ""))
        lean.SpecificCharacterSet = "ISO_IR 192"


def kept(dataset: Dataset, wanted: Iterable[str], groups: Mapping[str, Sequence[str]] = GROUPS) -> Dataset:
    """Attributes of a header that are wanted, and of their sequences what ``groups`` says; private ones never."""
    made = Dataset()
    # The rest of the file's own header is of the station that wrote it.
    made.file_meta, made.preamble = FileMetaDataset(), b"\0" * 128
    made.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    for keyword in wanted:
        if keyword in FUNCTIONAL_GROUPS:
            items = [_kept_group(group, groups) for group in dataset.get(keyword) or ()]
            if items:
                setattr(made, keyword, items)
        elif keyword in dataset and keyword in groups:
            setattr(made, keyword, [_kept_item(item, groups[keyword]) for item in dataset[keyword].value])
        elif keyword in dataset and dataset[keyword].VR != "SQ":
            made[keyword] = dataset[keyword]
    return made


def _kept_group(group: Dataset, groups: Mapping[str, Sequence[str]]) -> Dataset:
    made = Dataset()
    for keyword, wanted in groups.items():
        if keyword in group:
            setattr(made, keyword, [_kept_item(item, wanted) for item in group[keyword].value])
    return made


def _kept_item(item: Dataset, wanted: Sequence[str]) -> Dataset:
    made = Dataset()
    for keyword in wanted:
        if keyword in item:
            made[keyword] = item[keyword]
    return made
