"""``veridice check``: files in, judgement and files out, which appear whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from veridice._version import __version__
from veridice.assessment.result import AssessmentResult
from veridice.case import Assessment, plain_name
from veridice.config import InferenceSettings
from veridice.errors import InputError
from veridice.imaging.scan import GivenMask
from veridice.io.atomic import staged_output, write_json
from veridice.io.bids import (
    ASSESSMENT_SUFFIX,
    REPORT_SUFFIX,
    THUMBNAIL_SUFFIX,
    file_stem,
    refuse_overwriting,
    write_dataset_files,
    write_maps,
    write_table,
)
from veridice.io.mask_values import MaskLabel
from veridice.io.scan_reader import read_given_mask, read_scan
from veridice.metrics.catalogue import LESION_COLUMNS
from veridice.progress import Clock, OnStep
from veridice.quality.calibration import CalibrationSet, read_calibration
from veridice.report.scan_page import write_report
from veridice.report.thumbnail import write_thumbnail

if TYPE_CHECKING:
    from veridice.assessment.models import Networks


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

    @property
    def files(self) -> list[Path]:
        return [path for path in (self.flair, self.t1, self.brain_mask, *self.masks) if path]


def check(
    request: Request, output: Path, weights: Path, settings: InferenceSettings, on_step: OnStep | None = None
) -> AssessmentResult:
    """Read, judge, store.

    Args:
        request: files and how to read them.
        output: folder of maps, tables, result and report.
        weights: folder of the networks.
        settings: passes, seed, device, threshold.
        on_step: called after each stochastic pass.

    Raises:
        VeridiceError: the input cannot be judged, the weights cannot be used, or nothing can be written.
    """
    refuse_overwriting(output, request.case, request.files)
    with staged_output(output, last=ASSESSMENT_SUFFIX) as stage:
        write_dataset_files(stage, output)
        return judge_files(request, stage, partial(load_prepared, weights, settings), settings, on_step)


def judge_files(
    request: Request,
    stage: Path | None,
    load: Callable[[], Networks],
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
                scan = read_scan(request.flair, request.t1, request.brain_mask, request.registration)
                read = [read_given_mask(path, scan, request.mask_threshold, request.mask_label) for path in request.masks]
                masks = _with_names(read, request.masks)
            with clock.stage("load_weights"):
                networks = loading.result()
        if request.calibration and networks.quality:
            calibration = _given_calibration(request.calibration, networks)
            networks = replace(networks, quality=replace(networks.quality, calibration=calibration))
        # Needs torch, which the other thread has imported by now.
        from veridice.assessment.assess import assess_masks

        result = assess_masks(request.case, scan, masks, networks, settings, on_step)
        assessment = result.assessment if stage is None else _store(result, stage, clock)
    seconds = {**clock.seconds, **assessment.seconds, "total": clock.seconds["total"]}
    return replace(result, assessment=assessment.model_copy(update={"seconds": seconds}))


def load_prepared(weights: Path, settings: InferenceSettings) -> Networks:
    """Import what needs torch, load the networks and compile the segmenter: what no scan is needed for.

    Raises:
        InputError, WeightsError: as :func:`veridice.assessment.models.load_networks`.
    """
    from veridice.assessment.models import load_networks
    from veridice.inference.passes import choose_backend, prepare

    networks = load_networks(weights)
    prepare(networks.segmenter, networks.grid_shape, choose_backend(settings))
    return networks


def _given_calibration(path: Path, networks: Networks) -> CalibrationSet:
    calibration = read_calibration(path)
    if calibration.weights and calibration.weights != {name: card.sha256 for name, card in networks.cards.items()}:
        raise InputError(f"{path}: its cases were judged with other weights; judge them again and run veridice calibrate")
    return calibration


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
        files = write_maps(stage, case, result.volumes, provenance)
        table = write_table(stage, case, "lesions", result.lesion_rows(), LESION_COLUMNS)
    update = {"maps": files, "tables": {"lesions": table}, "seconds": {**clock.seconds, **result.assessment.seconds}}
    assessment = result.assessment.model_copy(update=update)
    with clock.stage("report"):
        stored = stage / f"{stem}{ASSESSMENT_SUFFIX}"
        write_json(stored, assessment.model_dump(mode="json"))
        write_report(stored, result.picture(), flair.geometry.describe(), stage / f"{stem}{REPORT_SUFFIX}")
    return assessment
