"""Small DICOM studies: classic and enhanced, with a localiser, derived images, and another tool's segmentation."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from highdicom import seg
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, generate_uid

from veridice.imaging.volume import Volume
from veridice.io.dicom_headers import words
from veridice.simulate.dicom_study import FLAIR, NOBODY, T1W, write_mr_series

STUDY = generate_uid(entropy_srcs=["a study for tests"])
SECRETS = {
    "PatientName": "Secret^Sally",
    "PatientID": "SECRET-4711",
    "PatientBirthDate": "19771231",
    "ReferringPhysicianName": "Secret^Doctor",
    "InstitutionName": "Secret Hospital",
    "PatientComments": "secret comment",
    "StudyDescription": "secret description",
    "OperatorsName": "Secret^Operator",
    "PatientAddress": "Secret Street 1",
    "DeviceSerialNumber": "secret-serial",
}
COPIED = words(
    "StudyInstanceUID SeriesInstanceUID FrameOfReferenceUID Modality Manufacturer ImageType Rows Columns SamplesPerPixel "
    "PhotometricInterpretation BitsAllocated BitsStored HighBit PixelRepresentation SeriesNumber SeriesDescription "
    "PatientPosition BodyPartExamined"
)


def make_study(folder: Path, scan: Mapping[str, Volume], study: str = STUDY, **patient: Any) -> dict[str, list[Path]]:
    """Files of a study with FLAIR, T1w, localiser and derived images, by what they are."""
    common = {"study": study, "patient": {**NOBODY, **SECRETS, **patient}}
    flair = scan["flair"]
    few = Volume(flair.voxels[:, :, :3], type(flair.geometry)((*flair.shape[:2], 3), flair.affine))
    derived = {**FLAIR, "ImageType": ["DERIVED", "SECONDARY", "MPR"]}
    return {
        "localiser": write_mr_series(folder, few, FLAIR, number=1, description="loc", **common),
        "flair": write_mr_series(folder, flair, FLAIR, number=2, description="t2 space dark-fluid", **common),
        "t1": write_mr_series(folder, scan["t1"], T1W, number=3, description="mprage", **common),
        "derived": write_mr_series(folder, flair, derived, number=4, description="flair mpr cor", **common),
    }


def as_enhanced(files: Sequence[Path], path: Path, shuffle: bool = True) -> Path:
    """A classic series as one image with many frames, in an order that is not that of the slices."""
    images = [dcmread(file) for file in files]
    if shuffle:
        images = [images[index] for index in np.random.default_rng(0).permutation(len(images))]
    first = images[0]
    made = Dataset()
    for keyword in (*NOBODY, *COPIED):
        if keyword in first:
            made[keyword] = first[keyword]
    made.SOPClassUID, made.SOPInstanceUID = EnhancedMRImageStorage, generate_uid(entropy_srcs=["enhanced", str(path.name)])
    made.ManufacturerModelName, made.MagneticFieldStrength, made.NumberOfFrames = "simulated", 3.0, len(images)
    made.AcquisitionContrast = "FLUID_ATTENUATED"
    orientation, measures, echo = Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = first.ImageOrientationPatient
    measures.PixelSpacing, measures.SliceThickness = first.PixelSpacing, first.SliceThickness
    echo.EffectiveEchoTime = float(first.EchoTime)
    shared = Dataset()
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence, shared.MREchoSequence = [orientation], [measures], [echo]
    made.SharedFunctionalGroupsSequence = [shared]
    frames = []
    for number, image in enumerate(images, start=1):
        place, content, frame = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = image.ImagePositionPatient
        content.StackID, content.InStackPositionNumber = "1", int(image.InstanceNumber)
        content.DimensionIndexValues = [1, int(image.InstanceNumber)]
        frame.PlanePositionSequence, frame.FrameContentSequence = [place], [content]
        frames.append(frame)
        content.FrameAcquisitionNumber = number
    made.PerFrameFunctionalGroupsSequence = frames
    made.PixelData = b"".join(image.PixelData for image in images)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = made.SOPClassUID, made.SOPInstanceUID
    made.save_as(path, enforce_file_format=True)
    return path


def other_segmentation(
    files: Sequence[Path],
    frames: np.ndarray,
    path: Path,
    kind: str = "BINARY",
    labels: Sequence[str] = ("WMH",),
    **options: Any,
) -> Path:
    """A segmentation by another tool: frames (frame, row, column[, segment]) in the order of the files."""
    sources = [dcmread(file) for file in files]
    lesion, brain = (codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Lesion), (codes.SCT.Organ, codes.SCT.Brain)
    described = []
    for number, label in enumerate(labels, start=1):
        category, what = brain if "brain" in label.lower() else lesion
        what = Code("1", "99OTHER", label) if "thing" in label else what
        described.append(seg.SegmentDescription(number, label, category, what, seg.SegmentAlgorithmTypeValues.MANUAL))
    made = seg.Segmentation(
        sources, frames, kind, described, generate_uid(entropy_srcs=["other", path.name]), 900, generate_uid(), 1,
        "Other Company", "WMH-Finder", "1", "7", **options,
    )  # fmt: skip
    made.preamble = b"\0" * 128
    made.save_as(path, enforce_file_format=True)
    return path


def in_file_order(files: Sequence[Path], volume: Volume) -> np.ndarray:
    """Voxels of a volume as frames (frame, row, column) in the order of the files: slowly, pixel by pixel, by the headers."""
    frames = []
    for file in files:
        header = dcmread(file, stop_before_pixels=True)
        rows, columns = np.mgrid[: header.Rows, : header.Columns]
        across, down = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
        spacing = [float(s) for s in header.PixelSpacing]
        place = np.array(header.ImagePositionPatient, float)
        points = place + columns[..., None] * spacing[1] * across + rows[..., None] * spacing[0] * down
        ras = np.concatenate([points * [-1, -1, 1], np.ones((*rows.shape, 1))], axis=-1)
        indices = np.rint(ras @ np.linalg.inv(volume.affine).T)[..., :3].astype(int)
        frames.append(volume.voxels[tuple(indices[..., axis] for axis in range(3))])
    return np.stack(frames)


def errors_of(path: Path) -> list[str]:
    """What dciodvfy calls an error."""
    done = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False, timeout=60)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def values_of(path: Path, keep: Callable[[str], bool] = lambda _: True) -> list[str]:
    """All texts in an object, with those in its sequences."""
    found: list[str] = []
    dcmread(path).walk(lambda _, element: found.append(str(element.value)) if element.VR not in ("SQ", "OB", "OW") else None)
    return [text for text in found if keep(text)]
