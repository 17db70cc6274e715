"""Judged masks with their true Dice, of every quality and kind: what the final prediction learns from and is tested on."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import ndimage
from torch import nn

from veridice.assessment.analysis import MaskAnalysis, analyse_mask, analyse_scan
from veridice.assessment.models import Models
from veridice.case import Case
from veridice.config import LESION, InferenceSettings, Task
from veridice.errors import InputError
from veridice.imaging.grid import resample_to
from veridice.imaging.scan import GivenMask, Scan
from veridice.inference.passes import Backend, choose_backend, deterministic_pass
from veridice.io.atomic import staged_output, write_text
from veridice.io.labelled_scan import read_labelled
from veridice.metrics.maps import unpacked
from veridice.metrics.overlap import dice
from veridice.parallel import do_missing
from veridice.progress import Clock
from veridice.quality.predictor import evidence_in
from veridice.quality.scan_analysis import ScanAnalysis
from veridice.quality.single_lesions import Lesion, describe_lesions, label_lesions
from veridice.simulate.donors import choose_donors, load_lesions
from veridice.simulate.patient import simulate_patient
from veridice.simulate.plan import PatientPlan
from veridice.training.graded_masks import GRADED, NativeMaterial, draw_graded, graded_mask
from veridice.training.mask_errors import Material, draw_kinds, make_mask
from veridice.training.settings import DataSettings
from veridice.types import Mask, ProbabilityMap

OWN_KIND = "own"
UNSEEN, FOREIGN = "people-training", "foreign"
"""Tables beside "train": masks of people whom no network saw, judged by the segmenter that ships; masks of networks of other
training, of the same real people as there (``scripts/assess_foreign.py``)."""
TO_LEARN = ("train", UNSEEN, FOREIGN, f"{FOREIGN}-training")
"""All tables that the predictor learns from; the last has masks of other networks of simulated people of the second."""
OF_A_MASK = ("scan", "person", "group", "kind", "dice")
WITH = "dice_with_"
"""Begins the names of columns: Dice with an earlier mask of the same scan, by its kind."""
FLAIR_ALONE = 5
LESIONS_KEPT = 40
"""Lesions of a mask that are kept as examples for the confidence in single ones."""
REAL_LESION = 0.1
"""A lesion is one when at least this share of it is in the true mask."""


@dataclass(frozen=True)
class KnownScan:
    """A scan whose true mask is known.

    Args:
        name: of the scan.
        person: whose it is; simulated: the patient.
        group: donor group.
        scan: images.
        parts: true mask of each part of the target, FLAIR's grid.
        valid: voxels that count, FLAIR's grid.
        facts: what results are grouped by: ``simulated``, ``severity``, ``load_ml``, ``whole_head``,
            ``slice_thickness`` (mm), ``t1`` (whether there is one), ``brain`` (whose it is).
    """

    name: str
    person: str
    group: int
    scan: Scan
    parts: tuple[Mask, ...]
    valid: Mask
    facts: dict[str, Any]

    @property
    def truth(self) -> Mask:
        """All parts together."""
        return np.asarray(np.logical_or.reduce(self.parts))


def patient_name(plan: PatientPlan) -> str:
    """Of a simulated patient, the same in every cohort of that seed."""
    return f"sim-{plan.seed}-{plan.index:05d}"


def has_t1(plan: PatientPlan) -> bool:
    """Whether a simulated scan is judged with its T1w: all but every fifth."""
    return plan.index % FLAIR_ALONE != 0


def simulated_scan(plan: PatientPlan, group: int, t1: bool = True, task: Task = LESION) -> KnownScan:
    """Simulate a patient; the T1w, if it is wanted, is resampled by the headers.

    Raises:
        ConfigError: the simulator knows nothing of what the task segments.
    """
    patient = simulate_patient(plan)
    flair = patient.flair.with_voxels(patient.flair.voxels.astype(np.float32))
    truth = patient.truth_of(task).voxels > 0
    facts = {
        "simulated": True,
        "severity": plan.severity,
        "load_ml": patient.lesion_load_ml,
        "whole_head": plan.whole_head,
        "slice_thickness": max(flair.geometry.voxel_spacing),
        "t1": t1,
        "brain": plan.anatomy,
    }
    name = patient_name(plan)
    scan = Scan(flair, resample_to(patient.t1, flair.geometry) if t1 else None)
    return KnownScan(name, name, group, scan, (truth,), np.ones_like(truth), facts)


def real_scan(case: Case, settings: DataSettings, group: int, stripped: bool = False) -> KnownScan:
    """Read a labelled scan, as it is or with all but the brain set to 0.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    known = read_labelled(case, settings.resample_t1, settings.rim_mm, stripped, settings.task)
    geometry = known.scan.flair.geometry
    load = float(known.truth.sum() * geometry.voxel_volume_ml)
    facts = {
        "simulated": False,
        "severity": "",
        "load_ml": load,
        "whole_head": bool(case.brain_mask) and not stripped,
        "slice_thickness": max(geometry.voxel_spacing),
        "t1": known.scan.t1 is not None,
        "brain": case.patient or case.id,
    }
    name = f"{case.id}{'-stripped' if stripped else ''}"
    return KnownScan(name, case.patient or case.id, group, known.scan, known.parts, known.valid, facts)


def assessed_masks(
    known: KnownScan,
    models: Models,
    others: Sequence[nn.Module],
    other_patient: tuple[Mask, ...],
    count: int,
    settings: InferenceSettings,
    backend: Backend,
    rng: np.random.Generator,
    graded: int = 0,
) -> dict[str, list[dict[str, Any]]]:
    """Our own mask, ``count`` of other kinds and ``graded`` of every quality, as ``check`` judges them.

    Args:
        known: the scan; its person must be unknown to ``models``' segmenter.
        models: who judges.
        others: further segmenters, whose masks are judged too.
        other_patient: somebody else's target, each part on the cube.
        count: masks of :mod:`.mask_errors`.
        settings: passes and seed.
        backend: device and precision.
        rng: of kinds and damages.
        graded: masks of :mod:`.graded_masks`, where there is any lesion.

    Returns:
        ``masks``: a row each with ``kind``, ``dice``, facts, all scores and :data:`WITH`. ``lesions``: rows of
        :class:`.Lesion` with ``real``, whether it is one. ``scans``: one row, ``descriptors`` and ``features``.
    """
    analysis = analyse_scan(known.scan, models, settings, backend, Clock(), None)
    scattered = models.task.scattered
    make = _MaskMaker(known, analysis, others, other_patient, backend, scattered)
    masks: list[dict[str, Any]] = []
    lesions: list[dict[str, Any]] = []
    made: list[tuple[str, Mask]] = []
    drawn = [*draw_kinds(count, rng, scattered), *(draw_graded(graded, rng, scattered) if known.truth.any() else ())]
    for kind in [OWN_KIND, *drawn]:
        given = None if kind == OWN_KIND else make.mask(kind, rng)
        mask_analysis = analyse_mask(given, analysis, models, backend, Clock())
        mask = mask_analysis.mask
        with_earlier = {f"{WITH}{other}": dice(mask, earlier).dice for other, earlier in made}
        made.append((kind, mask))
        masks.append({**row_of_mask(kind, known, analysis, mask_analysis), **with_earlier})
        names = {name: masks[-1][name] for name in OF_A_MASK}
        lesions += [{**names, **row} for row in _lesion_rows(mask, known, analysis, mask_analysis.chance)] if scattered else []
    appearances = {"descriptors": analysis.descriptors, "features": [round(float(value), 5) for value in analysis.features]}
    return {
        "masks": masks,
        "lesions": lesions,
        "scans": [{"scan": known.name, "person": known.person, **known.facts, **appearances}],
    }


def row_of_mask(kind: str, known: KnownScan, analysis: ScanAnalysis, judged: MaskAnalysis) -> dict[str, Any]:
    """What the predictor learns from one mask: whose it is, its true Dice (of several parts the mean), facts and scores."""
    pairs = zip(judged.parts, known.parts, strict=True)
    true = float(np.mean([dice(part & known.valid, truth & known.valid).dice for part, truth in pairs]))
    names = dict(zip(OF_A_MASK, (known.name, known.person, known.group, kind, true), strict=True))
    return {**names, **known.facts, "doubts": len(analysis.doubts), **judged.scores}


class _MaskMaker:
    """Makes masks of a scan of every kind, each part of the target by itself."""

    def __init__(
        self,
        known: KnownScan,
        analysis: ScanAnalysis,
        others: Sequence[nn.Module],
        other_patient: tuple[Mask, ...],
        backend: Backend,
        scattered: bool,
    ) -> None:
        images, flair, self.transform = analysis.images, known.scan.flair, analysis.transform
        spacing = flair.geometry.voxel_spacing
        self.flair, count = flair, len(known.parts)
        probabilities = [deterministic_pass(other, images, backend).reshape(count, *images[0].shape) for other in others]
        self.materials = [
            Material(
                flair=images[0],
                t1=images[1],
                brain=analysis.brain,
                truth=self.transform.to_grid(truth) >= 0.5,
                probability=part.passes.mean,
                passes=np.stack([unpacked(each, images[0].shape) for each in part.passes.sample_masks]),
                others=tuple(maps[number] for maps in probabilities),
                other_patient=other_patient[number],
            )
            for number, (truth, part) in enumerate(zip(known.parts, analysis.each_part, strict=True))
        ]
        self.native = [
            NativeMaterial(truth, flair.voxels, analysis.native_brain, part.probability, spacing, scattered)
            for truth, part in zip(known.parts, analysis.each_part, strict=True)
        ]

    def mask(self, kind: str, rng: np.random.Generator) -> GivenMask:
        """One of this kind; all its parts have the same fault, each of another size."""
        if kind in GRADED:
            parts = tuple(graded_mask(kind, material, rng) for material in self.native)
        else:
            cubes = [make_mask(kind, material, rng) for material in self.materials]
            parts = tuple(self.transform.to_native(cube.astype(np.float32)) >= 0.5 for cube in cubes)
        union = self.flair.with_voxels(np.asarray(np.logical_or.reduce(parts)))
        return GivenMask(kind, union, parts=parts if len(parts) > 1 else ())


def _lesion_rows(mask: Mask, known: KnownScan, analysis: ScanAnalysis, chance: ProbabilityMap | None) -> list[dict[str, Any]]:
    labels, count = label_lesions(mask)
    found: list[Lesion] = describe_lesions(labels, count, known.scan.flair.voxels, analysis, chance)[:LESIONS_KEPT]
    inside = np.bincount(labels[known.truth], minlength=count + 1)[1:]
    # What nobody judged is no example either way.
    unlabelled = np.bincount(labels[~known.valid], minlength=count + 1)[1:]
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    rows = []
    for place, lesion in enumerate(found):
        if unlabelled[place] * 2 < sizes[place]:
            rows.append({**asdict(lesion), "real": bool(inside[place] >= REAL_LESION * sizes[place])})
    return rows


@dataclass(frozen=True)
class ScanToJudge:
    """One scan to judge masks of: how to get it, and who judges."""

    name: str
    read: Callable[[], KnownScan]
    models: Models
    others: Sequence[nn.Module]


@dataclass(frozen=True)
class AssessedMasks:
    """Rows of :func:`assessed_masks` of many scans, as tables."""

    masks: pd.DataFrame
    lesions: pd.DataFrame
    scans: pd.DataFrame

    @property
    def drawn(self) -> pd.DataFrame:
        """Masks that are not empty: an empty one is decided upon without a prediction."""
        return self.masks[self.masks["lesion_count"] > 0]

    def __add__(self, other: AssessedMasks) -> AssessedMasks:
        """Both, one after the other."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return AssessedMasks(*(pd.concat(pair, ignore_index=True) for pair in pairs))

    def write(self, folder: Path, name: str) -> None:
        """Masks and lesions as ``NAME-masks.csv.gz`` and ``NAME-lesions.csv.gz``."""
        for table, rows in (("masks", self.masks), ("lesions", self.lesions)):
            write_rows(folder / f"{name}-{table}.csv.gz", rows)


def write_rows(path: Path, rows: pd.DataFrame) -> None:
    """A table as CSV: floats as single precision has them, the same bytes for the same rows."""
    with staged_output(path.parent) as stage:
        rows.to_csv(stage / path.name, index=False, float_format="%.7g", compression={"method": "gzip", "mtime": 1})


def other_patients(grid: int) -> list[tuple[Mask, ...]]:
    """Lesions of the training donors on the cube, about where they would lie; one part each."""
    maps = [load_lesions(donor).astype(np.float32) for donor in choose_donors("training") if donor.kind == "lesions"]
    zoom = partial(ndimage.zoom, order=1, grid_mode=True, mode="nearest")
    return [(zoom(lesions, [grid / n for n in lesions.shape]) >= 128,) for lesions in maps]


def assess_all(
    tasks: Sequence[ScanToJudge],
    other_patients: Sequence[tuple[Mask, ...]],
    count: int,
    seed: int,
    settings: InferenceSettings,
    folder: Path,
    jobs: int,
    on_step: Callable[[], None],
    graded: int = 0,
) -> AssessedMasks:
    """Judge masks of every scan into ``folder``, one file a scan, in ``jobs`` processes; what is there is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{task.name}.json" for task in tasks]
    items = []
    for number, (task, file) in enumerate(zip(tasks, files, strict=True)):
        rng = np.random.default_rng([seed, number, 11])
        items.append((task, other_patients[int(rng.integers(len(other_patients)))], rng, file))
    work = partial(_assess_one, count=count, graded=graded, settings=settings)
    do_missing(items, lambda item: item[3].exists(), work, jobs, on_step)
    tables: dict[str, list[dict[str, Any]]] = {"masks": [], "lesions": [], "scans": []}
    for file in files:
        for name, rows_of_scan in json.loads(file.read_text(encoding="utf-8")).items():
            tables[name] += rows_of_scan
    return AssessedMasks(**{name: pd.DataFrame(rows_of_all) for name, rows_of_all in tables.items()})


def _assess_one(
    item: tuple[ScanToJudge, tuple[Mask, ...], np.random.Generator, Path], count: int, graded: int, settings: InferenceSettings
) -> None:
    task, other_patient, rng, file = item
    backend = choose_backend(settings)
    rows = assessed_masks(task.read(), task.models, task.others, other_patient, count, settings, backend, rng, graded)
    write_text(file, json.dumps(rows) + "\n")


def masks_to_learn(folder: Path) -> pd.DataFrame:
    """What the predictor learns from: masks of left-out groups and, of :data:`TO_LEARN`, those that were judged.

    Raises:
        InputError: the tables do not have the same evidence.
    """
    names = [name for name in TO_LEARN if name == TO_LEARN[0] or (folder / f"{name}-masks.csv.gz").exists()]
    tables = [stored_masks(folder, name) for name in names]
    if len(set(map(evidence_in, tables))) > 1:
        raise InputError(f"{folder}: {', '.join(names)} were judged by different versions; judge all anew")
    return pd.concat(tables, ignore_index=True)


def stored_masks(folder: Path, name: str) -> pd.DataFrame:
    """Masks of ``folder`` that are not empty."""
    table = pd.read_csv(folder / f"{name}-masks.csv.gz", keep_default_na=False, na_values=[""])
    table = table.drop_duplicates(["scan", "kind", "dice"]).sort_values(
        ["scan", "kind", "dice"], kind="stable", ignore_index=True
    )
    return table[table["lesion_count"] > 0].reset_index(drop=True)
