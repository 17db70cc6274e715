"""Objects that may leave the house: no name, number, date or UID of the patient, and each still points at the other.

Needs the extra ``dicom``. dicognito replaces what names somebody, the same by the same, in a way that cannot be followed back.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from dicognito.anonymizer import Anonymizer
from pydicom import dcmread
from pydicom.dataset import Dataset

from veridice.io.dicom_frames import GROUPS, IMAGE, PATIENT, STUDY, kept
from veridice.io.dicom_headers import words

PIXELS = words(
    "SamplesPerPixel PhotometricInterpretation BitsAllocated BitsStored HighBit PixelRepresentation RescaleSlope "
    "RescaleIntercept RescaleType WindowCenter WindowWidth PixelData SmallestImagePixelValue LossyImageCompression "
    "LossyImageCompressionRatio SeriesNumber ScanningSequence SequenceVariant ScanOptions MRAcquisitionType EchoTime "
    "RepetitionTime InversionTime FlipAngle EchoTrainLength MagneticFieldStrength Manufacturer "
)
"""What is kept of an image beside its place: how its pixels are read, and the sequence."""
PIXEL_GROUPS = {
    "PixelValueTransformationSequence": words("RescaleIntercept RescaleSlope RescaleType"),
    "FrameVOILUTSequence": words("WindowCenter WindowWidth"),
    "MRImageFrameTypeSequence": words(
        "FrameType PixelPresentation VolumetricProperties VolumeBasedCalculationTechnique ComplexImageComponent "
        "AcquisitionContrast"
    ),
    "MRTimingAndRelatedParametersSequence": words("RepetitionTime FlipAngle EchoTrainLength"),
    "MREchoSequence": words("EffectiveEchoTime"),
    "MRModifierSequence": words("InversionRecovery InversionTimes"),
}


def images_to_share(files: Sequence[Path]) -> list[Dataset]:
    """Images with their pixels and nothing of their headers but what is on the list above.

    Raises:
        Exception: of nearly any kind, as a file is damaged.
    """
    shared = []
    for path in files:
        image = kept(dcmread(path), (*PATIENT, *STUDY, *IMAGE, *PIXELS), {**GROUPS, **PIXEL_GROUPS})
        image.ReferringPhysicianName = ""
        shared.append(image)
    return shared


def deidentify(datasets: Iterable[Dataset]) -> None:
    """Replace, in place and in one way for all of them, what names a patient, a date or an object."""
    replace = Anonymizer()
    for dataset in datasets:
        replace.anonymize(dataset)
        dataset.PatientIdentityRemoved = "YES"
