"""The verdict as a structured report after TID 1500; earlier ones taken back; a picture. Needs the extra ``dicom``."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from highdicom import sr
from highdicom.ko import KeyObjectSelection, KeyObjectSelectionDocument
from highdicom.sc import SCImage
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from veridice._version import __version__
from veridice.case import Assessment
from veridice.io.dicom_frames import PATIENT, SourceImages
from veridice.io.dicom_objects import (
    DICE_COVERAGE,
    DICE_HIGH,
    DICE_LOW,
    DICE_NEEDED,
    DISCLAIMER,
    LESION,
    MAKER,
    MAX_MISSED,
    MODEL,
    PREDICTED_DICE,
    SCHEMES,
    UNFAMILIARITY,
    VERDICT,
    VERDICTS,
    WHITE_MATTER,
    Making,
    finished,
)

MILLILITRE = Code("ml", "UCUM", "milliliter")
NUMBER_OF_LESIONS = Code("246206008", "SCT", "Number of lesions")
LONGEST_TEXT = 1024


def structured_report(
    making: Making, sources: SourceImages, mask: Dataset, assessment: Assessment, predecessor: Dataset | None = None
) -> Dataset:
    """What was found, after TID 1500 (Comprehensive 3D SR, as the IHE profile AI Results wants it).

    Args:
        mask: the segmentation that was judged, an object of ours.
        assessment: what came of it.
        predecessor: the report that this one takes the place of.
    """
    group = sr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=mask.SegmentSequence[-1].TrackingUID, identifier=mask.SegmentSequence[-1].TrackingID
        ),
        referenced_segment=sr.ReferencedSegment(
            sop_class_uid=mask.SOPClassUID,
            sop_instance_uid=mask.SOPInstanceUID,
            segment_number=1,
            source_series=sr.SourceSeriesForSegmentation(sources.datasets[0].SeriesInstanceUID),
        ),
        finding_type=LESION,
        finding_sites=[sr.FindingSite(WHITE_MATTER)],
        algorithm_id=sr.AlgorithmIdentification(
            name=MODEL,
            version=__version__,
            parameters=[f"{name}={value}" for name, value in making.parameters.items()],
            family=codes.DCM.ArtificialIntelligence,
            manufacturer=MAKER,
        ),
        measurements=measurements(assessment),
        qualitative_evaluations=[sr.QualitativeEvaluation(name=VERDICT, value=VERDICTS[assessment.verdict])],
    )
    for sentence in (f"{DISCLAIMER}", *assessment.warnings):
        text = sr.TextContentItem(codes.DCM.Comment, sentence[:LONGEST_TEXT], sr.RelationshipTypeValues.CONTAINS)
        group[0].ContentSequence.append(text)
    observer = sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=making.uid("device"), name=MODEL, manufacturer_name=MAKER, model_name=MODEL, serial_number=__version__
        ),
    )
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.LN.BrainMRI,
        imaging_measurements=[group],
    )
    made = sr.Comprehensive3DSR(
        evidence=[*sources.datasets, mask],
        content=report,
        is_complete=True,
        previous_versions=[predecessor] if predecessor is not None else None,
        coding_schemes=SCHEMES,
        **making.common("report", 2),
    )
    made.SoftwareVersions = __version__
    return finished(made)


def measurements(assessment: Assessment) -> list[sr.Measurement]:
    """Numbers of an assessment, each with its code and unit."""
    none = codes.UCUM.NoUnits
    found: list[tuple[Code, float | None, Code]] = [
        (codes.SCT.Volume, assessment.volumes_ml.get("judged_mask"), MILLILITRE),
        (NUMBER_OF_LESIONS, assessment.scores.get("lesion_count"), none),
        (PREDICTED_DICE, assessment.predicted_dice, none),
        (DICE_NEEDED, assessment.model.get("min_dice"), none),
        (MAX_MISSED, assessment.model.get("max_missed"), none),
        (UNFAMILIARITY, assessment.scores.get("unfamiliarity"), none),
    ]
    if assessment.interval is not None:
        low, high = assessment.interval
        found += [(DICE_LOW, low, none), (DICE_HIGH, high, none), (DICE_COVERAGE, assessment.coverage, none)]
    return [sr.Measurement(name, float(f"{value:.6g}"), unit) for name, value, unit in found if value is not None]


def rejection_note(making: Making, rejected: Sequence[Dataset]) -> Dataset:
    """A note that takes earlier results back (IHE: Imaging Object Change Management, rejected for quality reasons).

    Args:
        rejected: headers of the objects that no longer count; at least one.
    """
    content = KeyObjectSelection(
        document_title=codes.DCM.RejectedForQualityReasons,
        referenced_objects=rejected,
        description="The study got more images after it was judged. It was judged again; these results no longer count.",
    )
    made = KeyObjectSelectionDocument(evidence=rejected, content=content, **making.common("earlier results", 4))
    return finished(made)


def picture(making: Making, sources: SourceImages, png: bytes) -> Dataset:
    """A picture of the report as a secondary capture, for viewers that show nothing else."""
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    source = sources.datasets[0]
    made = SCImage(
        pixel_array=pixels,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),
        study_instance_uid=source.StudyInstanceUID,
        patient_id=source.PatientID,
        patient_name=source.PatientName,
        patient_birth_date=source.PatientBirthDate,
        patient_sex=source.PatientSex,
        accession_number=source.AccessionNumber,
        study_id=source.StudyID,
        study_date=source.StudyDate,
        study_time=source.StudyTime,
        **making.common("picture", 3),
    )
    for keyword in PATIENT:
        if keyword in source and keyword not in made:
            made[keyword] = source[keyword]
    made.BurnedInAnnotation = "NO"
    made.SoftwareVersions, made.ImageComments = __version__, DISCLAIMER
    return finished(made)
