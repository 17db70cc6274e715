"""A volume as the DICOM series of a scanner that does not exist, for demonstrations and tests. Needs the extra ``dicom``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
from pydicom import config as pydicom_config
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from veridice.imaging.volume import Volume

Orientation = Literal["axial", "coronal", "sagittal"]
STORED_AXES = {"axial": "LPS", "coronal": "LIP", "sagittal": "PIL"}
"""Where column, row and slice numbers grow to, as scanners store them."""
FLAIR = {
    "ScanningSequence": ["SE", "IR"],
    "EchoTime": 120.0,
    "RepetitionTime": 9000.0,
    "InversionTime": 2500.0,
    "FlipAngle": 150.0,
}
T1W = {"ScanningSequence": ["GR", "IR"], "EchoTime": 3.0, "RepetitionTime": 2300.0, "InversionTime": 900.0, "FlipAngle": 9.0}
LARGEST = 4000
NOBODY = {
    "PatientName": "Simulated^Header",
    "PatientID": "VERIDICE-DEMO",
    "PatientBirthDate": "19800101",
    "PatientSex": "F",
    "StudyDate": "20260101",
    "StudyTime": "120000",
    "AccessionNumber": "A1",
    "StudyID": "1",
    "ReferringPhysicianName": "",
}


def write_mr_series(
    folder: Path,
    volume: Volume,
    attributes: Mapping[str, Any],
    *,
    study: str,
    number: int,
    description: str,
    orientation: Orientation = "axial",
    patient: Mapping[str, Any] = NOBODY,
    frame_of_reference: str | None = None,
    transfer_syntax: UID = ExplicitVRLittleEndian,
) -> list[Path]:
    """Write one file a slice (MR Image Storage).

    Args:
        folder: gets the files; made when absent.
        volume: finite voxels, in any order; they become whole numbers up to 4,000.
        attributes: of the sequence, such as :data:`FLAIR`; more of them replace those of here.
        study: its UID, from which those of series and images follow.
        number, description: of the series.
        orientation: how it is cut.
        patient: attributes of patient and study.
        frame_of_reference: its UID; one for the study when absent.
        transfer_syntax: how pixels are stored.

    Returns:
        Paths in the order of the slices.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = nib.orientations.axcodes2ornt(STORED_AXES[orientation])
    turned = nib.Nifti1Image(volume.voxels.astype(np.float32), volume.affine)
    image = turned.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(volume.affine), wanted))
    voxels = np.asarray(image.dataobj)
    voxels = np.round((voxels - voxels.min()) * (LARGEST / max(float(np.ptp(voxels)), 1e-6))).astype(np.uint16)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine  # millimetres of DICOM grow to the left and to the back
    common = _common(affine, voxels.shape, study, number, description, patient, frame_of_reference) | dict(attributes)
    paths = []
    for index in range(voxels.shape[2]):
        place = affine @ [0, 0, index, 1]
        image_uid = generate_uid(entropy_srcs=[study, str(number), str(index)])
        paths.append(folder / f"{number:03d}-{index:04d}.dcm")
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = MRImageStorage, image_uid
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset = FileDataset(str(paths[-1]), {}, file_meta=meta, preamble=b"\0" * 128)
        _fill(dataset, common)
        dataset.SOPInstanceUID, dataset.InstanceNumber = image_uid, index + 1
        dataset.ImagePositionPatient = _decimals(place[:3])
        dataset.PixelData = np.ascontiguousarray(voxels[:, :, index].T).tobytes()
        if transfer_syntax != ExplicitVRLittleEndian:
            dataset.compress(transfer_syntax, generate_instance_uid=False)
        dataset.save_as(paths[-1], enforce_file_format=True)
    return paths


def _common(
    affine: np.ndarray[Any, Any],
    shape: tuple[int, ...],
    study: str,
    number: int,
    description: str,
    patient: Mapping[str, Any],
    frame_of_reference: str | None,
) -> dict[str, Any]:
    steps = np.linalg.norm(affine[:3, :3], axis=0)
    directions = (affine[:3, :3] / steps).T
    return {
        **patient,
        "SOPClassUID": MRImageStorage,
        "StudyInstanceUID": study,
        "SeriesInstanceUID": generate_uid(entropy_srcs=[study, str(number)]),
        "FrameOfReferenceUID": frame_of_reference or generate_uid(entropy_srcs=[study, "frame"]),
        "PositionReferenceIndicator": "",
        "Modality": "MR",
        "PatientPosition": "HFS",
        "BodyPartExamined": "BRAIN",
        "Manufacturer": "veridice, simulated header",
        "ImageType": ["ORIGINAL", "PRIMARY", "M"],
        "SequenceVariant": "SK",
        "ScanOptions": "",
        "MRAcquisitionType": "3D",
        "EchoTrainLength": 1,
        "SeriesNumber": number,
        "SeriesDescription": description,
        "SliceThickness": _decimals(steps[2:])[0],
        "SpacingBetweenSlices": _decimals(steps[2:])[0],
        "PixelSpacing": _decimals(steps[1::-1]),
        "ImageOrientationPatient": _decimals([*directions[0], *directions[1]]),
        "Rows": shape[1],
        "Columns": shape[0],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
    }


def _fill(dataset: Dataset, attributes: Mapping[str, Any]) -> None:
    with pydicom_config.disable_value_validation():  # a header with a fault is what some tests ask for
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)


def _decimals(numbers: Any) -> list[str]:
    """Decimal strings of DICOM have at most 16 characters."""
    return [f"{number:.10g}"[:16] for number in numbers]
