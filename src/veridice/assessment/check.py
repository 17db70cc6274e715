"""``veridice check``: files in, judgement and files out, which appear whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import nibabel as nib

from veridice._version import __version__
from veridice.assessment.result import AssessmentResult
from veridice.case import Assessment, plain_name
from veridice.config import LESION, InferenceSettings, Task, load_task
from veridice.errors import InputError, VeridiceError
from veridice.imaging.scan import GivenMask, Scan
from veridice.imaging.volume import Volume
from veridice.io.atomic import staged_output, write_json
from veridice.io.bids import (
    ASSESSMENT_SUFFIX,
    REPORT_SUFFIX,
    THUMBNAIL_SUFFIX,
    case_name,
    file_stem,
    refuse_another_case,
    refuse_overwriting,
    write_dataset_files,
    write_maps,
    write_table,
)
from veridice.io.mask_values import MaskLabel
from veridice.io.nifti import write_image
from veridice.io.scan_reader import read_given_mask, read_given_parts, read_scan
from veridice.io.weight_cards import bundled_weights
from veridice.metrics.catalogue import CRITIC_COLUMN, LESION_COLUMNS
from veridice.progress import Clock, OnStep
from veridice.quality.calibration import read_fitting
from veridice.report.scan_page import write_report
from veridice.report.thumbnail import write_thumbnail

if TYPE_CHECKING:
    from veridice.assessment.models import Models


@dataclass(frozen=True)
class Request:
    """What is asked of ``check``.

    Args:
        case: name of the scan.
        flair, t1, brain_mask: its files.
        masks: to judge; none: our own.
        mask_threshold, mask_label: see :func:`veridice.io.scan_reader.read_given_mask`.
        registration: whether a T1w that lies elsewhere is registered.
        calibration: a file of your own; None: the one beside the weights.
        task: what is judged; its first contrast takes the place of the FLAIR.
    """

    case: str
    flair: Path
    t1: Path | None = None
    brain_mask: Path | None = None
    masks: Sequence[Path] = ()
    mask_threshold: float | None = None
    mask_label: MaskLabel | None = None
    registration: bool = True
    calibration: Path | None = None
    task: Task = LESION

    @property
    def files(self) -> list[Path]:
        return [path for path in (self.flair, self.t1, self.brain_mask, *self.masks) if path]


Source = str | Path | nib.spatialimages.SpatialImage | Volume
"""A file (or folder of one DICOM series), an image of nibabel's, or voxels with their place."""


def check(
    flair: Source | None = None,
    t1: Source | None = None,
    mask: Source | Sequence[Source] | None = None,
    *,
    brain_mask: Source | None = None,
    output: Path | str | None = None,
    models: Models | Path | str | None = None,
    settings: InferenceSettings | None = None,
    case: str | None = None,
    mask_threshold: float | None = None,
    mask_label: MaskLabel | None = None,
    registration: bool = True,
    calibration: Path | None = None,
    task: str = LESION.name,
    on_step: OnStep | None = None,
) -> AssessmentResult:
    """Say how good a mask of a scan is, without the truth: a mask of lesions, or of another task's target.

    Args:
        flair: the scan; results come back in its grid. A task without it takes the T1w in its place.
        t1: of the same scan, on any grid; better with it.
        mask: to judge; several are ranked; None: our own segmentation is judged.
        brain_mask: in the FLAIR's space; None: the brain is found.
        output: folder that gets maps, tables, record and report; None: nothing is written.
        models: from :func:`veridice.load_models`, for many scans; a folder of weights; None: those that ship.
        settings: passes, seed, device, the Dice that is needed, coverage.
        case: name of the scan; None: after the FLAIR's file.
        mask_threshold, mask_label: see :func:`veridice.io.scan_reader.read_given_mask`.
        registration: whether a T1w that lies elsewhere is registered.
        calibration: a file of your own; None: the one beside the weights.
        task: a shipped one (``lesion``, ``hippocampus``), or the TOML file of one.
        on_step: called after each stochastic pass.

    Raises:
        VeridiceError: the input cannot be judged, the weights cannot be used, or nothing can be written.
    """
    settings = settings or InferenceSettings()
    masks: list[Source] = [] if mask is None else list(mask) if isinstance(mask, list | tuple) else [mask]
    asked = load_task(task)
    first, second = asked.take(flair=flair, t1=t1)
    load = models_loader(models, settings, asked)
    given = {"flair": first, "t1": second, "brain_mask": brain_mask}
    with _room_for([*given.values(), *masks]) as room:
        files = {name: _as_file(source, room / name) for name, source in given.items() if source is not None}
        request = Request(
            case=plain_name(case or case_name(files["flair"])),
            masks=[_as_file(source, room / f"mask-{n}") for n, source in enumerate(masks, start=1)],
            mask_threshold=mask_threshold,
            mask_label=mask_label,
            registration=registration,
            calibration=calibration,
            task=asked,
            **files,
        )
        if output is None:
            return judge_files(request, None, load, settings, on_step)
        output = Path(output)
        refuse_overwriting(output, request.case, request.files, asked)
        refuse_another_case(output, request.case)
        with staged_output(output, last=ASSESSMENT_SUFFIX) as stage:
            write_dataset_files(stage, output)
            return judge_files(request, stage, load, settings, on_step)


def models_loader(models: Models | Path | str | None, settings: InferenceSettings, task: Task) -> Callable[[], Models]:
    """What gives the models: those that are there, or a loading of them.

    Raises:
        InputError: those that are there are of another task.
        WeightsError: none ship for the task.
    """
    if models is None or isinstance(models, str | Path):
        return partial(load_prepared, bundled_weights(task.name) if models is None else Path(models), settings, task)
    if models.task != task:
        raise InputError(
            f"the models are for task '{models.task.name}', not for '{task.name}'; load them with load_models(task=...)"
        )
    return lambda: models


def _as_file(source: Source, place: Path) -> Path:
    """An image in memory goes the way that a file does, with all checks of its header."""
    if isinstance(source, str | Path):
        return Path(source)
    file = place.with_suffix(".nii")
    if isinstance(source, Volume):
        write_image(file, source)
        return file
    if not isinstance(source, nib.spatialimages.SpatialImage):
        text = (
            f"{place.name}: is {type(source).__name__}, not an image; give a path, an image of nibabel's or a veridice.Volume"
        )
        raise InputError(text)
    nib.save(nib.Nifti1Image.from_image(source), file)
    return file


@contextmanager
def _room_for(sources: Sequence[Source | None]) -> Iterator[Path]:
    """A folder for images from memory, if there are any; what is wrong with one is said of its name."""
    if all(source is None or isinstance(source, str | Path) for source in sources):
        yield Path()
        return
    with tempfile.TemporaryDirectory(prefix="veridice-") as folder:
        try:
            yield Path(folder)
        except VeridiceError as error:
            raise type(error)(str(error).replace(f"{folder}/", "")) from error


def judge_files(
    request: Request,
    stage: Path | None,
    load: Callable[[], Models],
    settings: InferenceSettings,
    on_step: OnStep | None = None,
) -> AssessmentResult:
    """Read and judge; write maps, tables, result and report into an empty folder.

    Args:
        request: files and how to read them.
        stage: the folder; None writes nothing.
        load: gives the networks; called beside the reading of the files.
        settings: passes, seed, device, threshold.
        on_step: called after each stochastic pass.

    Raises:
        VeridiceError: the input cannot be judged, or the weights cannot be used.
    """
    clock = Clock()
    with clock.stage("total"):
        with ThreadPoolExecutor(1) as pool:
            loading = pool.submit(load)
            with clock.stage("read"):
                scan, masks = _read(request)
            with clock.stage("load_weights"):
                models = loading.result()
        models = with_calibration(models, request.calibration)
        # Needs torch, which the other thread has imported by now.
        from veridice.assessment.assess import assess_masks

        result = assess_masks(request.case, scan, masks, models, settings, on_step)
        assessment = result.assessment if stage is None else _store(result, stage, clock)
    seconds = {**clock.seconds, **assessment.seconds, "total": clock.seconds["total"]}
    return replace(result, assessment=assessment.model_copy(update={"seconds": seconds}))


def _read(request: Request) -> tuple[Scan, list[GivenMask]]:
    task = request.task
    try:
        scan = read_scan(request.flair, request.t1, request.brain_mask, request.registration)
        scan = scan if task.whole_head else scan.as_crop()
        if task.parts:
            read = [read_given_parts(path, scan, task) for path in request.masks]
        else:
            read = [read_given_mask(path, scan, request.mask_threshold, request.mask_label) for path in request.masks]
    except VeridiceError as error:
        raise type(error)(task.say(str(error))) from error
    return scan, _with_names(read, request.masks)


def load_prepared(weights: Path, settings: InferenceSettings, task: Task = LESION) -> Models:
    """Import what needs torch, load the networks and compile the segmenter: what no scan is needed for.

    Raises:
        InputError, WeightsError: as :func:`veridice.assessment.models.load_models`.
    """
    from veridice.assessment.models import load_models
    from veridice.inference.passes import choose_backend, prepare

    models = load_models(weights, task=task)
    prepare(models.segmenter, models.grid_shape, choose_backend(settings))
    return models


def with_calibration(models: Models, path: Path | None) -> Models:
    """The models with a calibration of your own in place of the one beside the weights.

    Raises:
        InputError: it is none, or its cases were judged with other weights.
    """
    if path is None or models.quality is None:
        return models
    calibration = read_fitting(path, {name: card.sha256 for name, card in models.cards.items()})
    return replace(models, quality=replace(models.quality, calibration=calibration))


def _with_names(masks: list[GivenMask], paths: Sequence[Path]) -> list[GivenMask]:
    """Masks of one file name get their folder's before it, and a number where that does not tell them apart."""
    names = [mask.name for mask in masks]
    if len(set(names)) < len(names):
        names = [plain_name(f"{path.absolute().parent.name}/{path.name}") for path in paths]
    if len(set(names)) < len(names):
        names = [f"{number}: {name}" for number, name in enumerate(names, start=1)]
    return [replace(mask, name=name) for mask, name in zip(masks, names, strict=True)]


def _store(result: AssessmentResult, stage: Path, clock: Clock) -> Assessment:
    case, flair = result.assessment.case, result.scan.flair
    stem = file_stem(case)
    made_by = {"GeneratedBy": {"Name": "veridice", "Version": __version__}}
    provenance = {"Preprocessing": result.preprocessing, "Model": result.assessment.model, **made_by}
    with clock.stage("write"):
        write_thumbnail(flair, result.judged_mask, result.transform, stage / f"{stem}{THUMBNAIL_SUFFIX}")
        task = result.assessment.task
        files = write_maps(stage, case, result.volumes, provenance, task)
        tables = {}
        if task.scattered:
            seen = result.assessment.scores.get("critic_dice") is not None
            columns = LESION_COLUMNS | (CRITIC_COLUMN if seen else {})
            tables["lesions"] = write_table(stage, case, "lesions", result.lesion_rows(), columns)
    update = {"maps": files, "tables": tables, "seconds": {**clock.seconds, **result.assessment.seconds}}
    assessment = result.assessment.model_copy(update=update)
    with clock.stage("report"):
        stored = stage / f"{stem}{ASSESSMENT_SUFFIX}"
        write_json(stored, assessment.model_dump(mode="json"))
        write_report(stored, result.picture(), flair.geometry.describe(), stage / f"{stem}{REPORT_SUFFIX}")
    return assessment
