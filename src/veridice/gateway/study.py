"""One DICOM study in, objects for the archive out. Needs the extra ``dicom``."""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, KeyObjectSelectionDocumentStorage

from veridice.assessment.check import Request, judge_files, models_loader
from veridice.assessment.result import AssessmentResult
from veridice.case import plain_name
from veridice.config import LESION, InferenceSettings
from veridice.errors import GeometryError, InputError
from veridice.gateway.queue import Sent
from veridice.io.atomic import staged_output
from veridice.io.bids import ASSESSMENT_SUFFIX, file_stem, refuse_another_case, refuse_overwriting, write_dataset_files
from veridice.io.dicom_choice import Choice, choose, is_ours
from veridice.io.dicom_frames import PATIENT, STUDY, SourceImages, read_sources
from veridice.io.dicom_headers import LARGEST_SERIES, Series, read_study
from veridice.io.dicom_objects import Making
from veridice.io.dicom_seg import GivenSegmentation, parametric_map, read_parametric_map, read_segmentation, segmentation
from veridice.io.dicom_sr import picture, rejection_note, structured_report
from veridice.io.nifti import write_image
from veridice.progress import OnStep
from veridice.report.result_picture import draw_result

if TYPE_CHECKING:
    from veridice.assessment.models import Models

OWN, INPUT = "lesion_mask", "input_mask"
REPORT = "report 1"
REPORT_CLASS, NOTE_CLASS = Comprehensive3DSRStorage, KeyObjectSelectionDocumentStorage
MAPS = ("lesion_probability", "entropy")


@dataclass(frozen=True)
class StudyOptions:
    """How a study is judged.

    Args:
        flair_series, t1_series, mask_series: number, UID or part of the description of a series; None: chosen by attributes.
        segment: number or part of the label of a segment of the segmentation.
        judge: ``own``: our mask, even if a segmentation is there; ``any``: that of another tool where there is one.
        labelmap: write segmentations of labels, in place of binary ones.
    """

    flair_series: str | None = None
    t1_series: str | None = None
    mask_series: str | None = None
    segment: str | None = None
    judge: str = "any"
    labelmap: bool = False


@dataclass(frozen=True)
class JudgedStudy:
    """What came of a study.

    Args:
        result: of the scan.
        choice: which series was what, and why.
        objects: for the archive, by what they are.
        files: where each of them lies.
        making: their common origin.
    """

    result: AssessmentResult
    choice: Choice
    objects: dict[str, Dataset]
    files: dict[str, Path]
    making: Making


def judge_study(
    files: Sequence[Path],
    output: Path,
    *,
    options: StudyOptions = StudyOptions(),
    mask: Path | None = None,
    models: Models | Path | None = None,
    settings: InferenceSettings | None = None,
    case: str = "study",
    deidentified: bool = False,
    earlier: Sequence[Sent] = (),
    revision: int = 0,
    on_choice: Callable[[Choice], None] | None = None,
    on_step: OnStep | None = None,
) -> JudgedStudy:
    """Judge the FLAIR of a study.

    Args:
        files: of one study, those of all its series.
        output: folder that gets maps, tables, record, page and the objects for the archive.
        options: what is judged.
        mask: in NIfTI, in place of a segmentation that lies in the study.
        models, settings: as :func:`veridice.check` takes them.
        case: name for files and reports; nothing of the patient belongs there.
        deidentified: objects are written without names, dates and UIDs of the patient, and with them the images they point at.
        earlier: objects of ours that the archive has of this study; those that are not made again are taken back.
        revision: how often results of this study took the place of earlier ones; names of objects that were taken back never
            come again.
        on_choice: called once it is known what is judged.
        on_step: called after each stochastic pass.

    Raises:
        VeridiceError: there is nothing that can be judged, or nothing can be written.
    """
    study = read_study(files)
    choice = choose(study, options.flair_series, options.t1_series, "none" if mask else options.mask_series)
    sources = read_sources(choice.flair.files)
    choice, given = (choice, None) if mask or options.judge == "own" else _given(choice, sources, options)
    if on_choice:
        on_choice(choice)
    settings, case = settings or InferenceSettings(), plain_name(case)
    refuse_overwriting(output, case, [mask] if mask else [])
    refuse_another_case(output, case)
    with tempfile.TemporaryDirectory(prefix="veridice-") as name, staged_output(output, last=ASSESSMENT_SUFFIX) as stage:
        room = Path(name)
        judged = mask or (_file_of(given, room) if given else None)
        request = Request(
            case,
            _folder_of(choice.flair, room / "flair"),
            _folder_of(choice.t1, room / "t1w") if choice.t1 else None,
            masks=[judged] if judged else [],
        )
        write_dataset_files(stage, output)
        result = judge_files(request, stage, models_loader(models, settings, LESION), settings, on_step)
        taken = [series.number for series in study if not is_ours(series)]
        making = _making(choice, result, _rests_on(result, choice, given, options), taken, earlier, revision)
        objects = make_objects(making, sources, result, options.labelmap, earlier)
        names = {what: f"{file_stem(case)}_{what}.dcm" for what in objects}
        for what, dataset in objects.items():
            dataset.save_as(stage / names[what], enforce_file_format=True)
            _read_back(stage / names[what], what, sources, result)
        if deidentified:
            _without_names(names.values(), choice, stage)
    return JudgedStudy(result, choice, objects, {what: output / name for what, name in names.items()}, making)


def _making(
    choice: Choice, result: AssessmentResult, rests_on: list[str], taken: list[int], earlier: Sequence[Sent], revision: int
) -> Making:
    """The origin of the objects; those that take the place of others have names that never were."""
    study, weights = choice.flair.first.text("StudyInstanceUID"), result.assessment.model["weights"]
    making = Making(study, weights, rests_on, taken, revision)
    if earlier and str(making.uid(REPORT)) not in {one.instance for one in earlier}:
        return replace(making, revision=revision + 1)
    return making


def make_objects(
    making: Making, sources: SourceImages, result: AssessmentResult, labelmap: bool = False, earlier: Sequence[Sent] = ()
) -> dict[str, Dataset]:
    """Objects for the archive, by what they are, in the order in which they are sent."""
    judged = result.volumes.get(INPUT, result.volumes[OWN])
    label = f"Lesions, {result.verdict}, predicted Dice {result.predicted_dice:.2f}"
    objects = {"segmentation": segmentation(making, sources, judged, label, 1, labelmap)}
    if INPUT in result.volumes:
        own = segmentation(making, sources, result.volumes[OWN], "Lesions, by veridice itself", 2, labelmap)
        objects["own-segmentation"] = own
    for number, what in enumerate(MAPS, start=1):
        objects[what.replace("_", "-")] = parametric_map(making, sources, result.volumes[what], what, number)
    drawn = draw_result(result.assessment, result.scan.flair, result.volumes, result.transform)
    objects["picture"] = picture(making, sources, drawn)
    new = {str(dataset.SOPInstanceUID) for dataset in objects.values()} | {str(making.uid(REPORT))}
    gone = [_header(one, sources.datasets[0]) for one in earlier if one.instance not in new and one.sop_class != NOTE_CLASS]
    before = [header for header in gone if header.SOPClassUID == REPORT_CLASS]
    objects["report"] = structured_report(
        making, sources, objects["segmentation"], result.assessment, before[-1] if before else None
    )
    if gone:
        objects["rejection-note"] = rejection_note(making, gone)
    return objects


def _header(sent: Sent, source: Dataset) -> Dataset:
    """The header of an object that was sent, as far as a reference to it needs one."""
    header = Dataset()
    for keyword in (*PATIENT, *STUDY):
        if keyword in source:
            header[keyword] = source[keyword]
    header.SOPClassUID, header.SeriesInstanceUID, header.SOPInstanceUID = sent.sop_class, sent.series, sent.instance
    return header


def _given(choice: Choice, sources: SourceImages, options: StudyOptions) -> tuple[Choice, GivenSegmentation | None]:
    """The segmentation of another tool, if there is one of lesions; a choice that says why it is passed over.

    Raises:
        InputError: a person asked for it, and it cannot be read.
    """
    if choice.segmentation is None:
        return choice, None
    try:
        return choice, read_segmentation(choice.segmentation.files[0], sources, options.segment)
    except InputError as error:
        if options.mask_series is not None or options.segment is not None:
            raise
        said = f"{choice.segmentation} is passed over, ours is judged: {error}"
        return replace(choice, segmentation=None, unsure=(*choice.unsure, said)), None


def _folder_of(series: Series, folder: Path) -> Path:
    """A folder with links to the files of one series, as the converter wants them.

    Raises:
        InputError: it is far larger than a series of a head.
    """
    if series.size > LARGEST_SERIES:
        raise InputError(f"{series}: its images are larger than 1 GiB; choose another series")
    folder.mkdir()
    for number, file in enumerate(series.files):
        (folder / f"{number:05d}.dcm").symlink_to(file.resolve())
    return folder


def _file_of(given: GivenSegmentation, room: Path) -> Path:
    """A mask as a file whose name says whose it is."""
    name = re.sub(r"[^A-Za-z0-9]+", "-", given.name).strip("-")[:60] or "segmentation"
    write_image(room / f"{name}.nii.gz", given.mask)
    return room / f"{name}.nii.gz"


def _rests_on(result: AssessmentResult, choice: Choice, given: GivenSegmentation | None, options: StudyOptions) -> list[str]:
    """What makes this result another one: images, mask, settings, and what is said (which a calibration changes)."""
    images = [image.text("SOPInstanceUID") for series in (choice.flair, choice.t1) if series for image in series.images]
    model = result.assessment.model
    settings = [
        f"{name}={model.get(name)}" for name in ("passes", "seed", "min_dice", "max_missed", "max_wasted", "for_load_ml")
    ]
    digest = hashlib.sha256(np.packbits(result.judged_mask.voxels).tobytes()).hexdigest()
    interval = [f"{end:.3f}" for end in result.interval or ()]
    said = [result.verdict, f"{result.predicted_dice:.3f}", *interval, f"{result.assessment.coverage}", f"{options.labelmap}"]
    return [*sorted(images), given.uid if given else "", digest, *settings, *said]


def _without_names(objects: Iterable[str], choice: Choice, stage: Path) -> None:
    """Write objects once more, and the images of the FLAIR and the T1w, so that nobody can be found by them."""
    from veridice.io.dicom_deidentify import deidentify, images_to_share

    shown = {name: dcmread(stage / name) for name in objects}
    for name, series in (("flair", choice.flair), ("t1w", choice.t1)):
        if series is not None:
            shared = images_to_share(series.files)
            shown.update({f"{name}-{number:04d}.dcm": image for number, image in enumerate(shared, start=1)})
    deidentify(shown.values())
    for file, dataset in shown.items():
        dataset.save_as(stage / file, enforce_file_format=True)


def _read_back(path: Path, what: str, sources: SourceImages, result: AssessmentResult) -> None:
    """Masks and maps lie where they should, as another program reads them.

    Raises:
        GeometryError: one does not.
    """
    masks = {"segmentation": result.judged_mask, "own-segmentation": result.volumes[OWN]}
    if what in masks:
        wanted, found = masks[what], read_segmentation(path, sources).mask
    elif (name := what.replace("-", "_")) in MAPS:
        wanted, found = result.volumes[name], read_parametric_map(path)
    else:
        return
    placed = found.on(wanted.geometry)
    if placed is None or not np.allclose(placed.voxels, np.clip(wanted.voxels, 0, 1), atol=1e-6):
        raise GeometryError(f"{path.name}: does not lie where the images lie; please report this with the kind of scanner")
