"""Objects that may leave the house: no name, number, date or UID of the patient, and each still points at the other.

Needs the extra ``dicom``. dicognito replaces what names somebody, the same by the same, in a way that cannot be followed back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from dicognito.anonymizer import Anonymizer
from pydicom import dcmread
from pydicom.dataset import Dataset

from veridice.io.dicom_frames import GROUPS, IMAGE, PATIENT, STUDY
from veridice.io.dicom_headers import words

PIXELS = words(
    "SamplesPerPixel PhotometricInterpretation BitsAllocated BitsStored HighBit PixelRepresentation RescaleSlope "
    "RescaleIntercept RescaleType WindowCenter WindowWidth PixelData SmallestImagePixelValue LossyImageCompression "
    "LossyImageCompressionRatio SeriesNumber ScanningSequence SequenceVariant ScanOptions MRAcquisitionType EchoTime "
    "RepetitionTime InversionTime FlipAngle EchoTrainLength MagneticFieldStrength Manufacturer "
)
"""What is kept of an image beside its place: how its pixels are read, and the sequence."""


def images_to_share(files: Sequence[Path]) -> list[Dataset]:
    """Images with their pixels and nothing of their headers but what is on the list above.

    Raises:
        Exception: of nearly any kind, as a file is damaged.
    """
    shared = []
    for path in files:
        read = dcmread(path)
        kept = Dataset()
        kept.file_meta, kept.preamble = read.file_meta, b"\0" * 128
        for keyword in (*PATIENT, *STUDY, *IMAGE, *PIXELS):
            if keyword in read:
                kept[keyword] = read[keyword]
        for groups in ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"):
            for group in kept.get(groups) or ():
                for element in list(group):
                    if element.keyword not in GROUPS:
                        del group[element.tag]
        shared.append(kept)
    return shared


def deidentify(datasets: Iterable[Dataset]) -> None:
    """Replace, in place and in one way for all of them, what names a patient, a date or an object."""
    replace = Anonymizer()
    for dataset in datasets:
        replace.anonymize(dataset)
        dataset.PatientIdentityRemoved = "YES"
