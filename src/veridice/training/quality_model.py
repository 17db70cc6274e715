"""How the prediction of any mask's Dice is learnt and calibrated: masks of known scans, a fit, a set of cases kept apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from torch import nn

from veridice.assessment.analysis import task_grid
from veridice.assessment.models import Models, load_models
from veridice.case import Case
from veridice.config import LESION, InferenceSettings
from veridice.errors import ConfigError
from veridice.inference.passes import choose_backend
from veridice.inference.weights import load_network
from veridice.io.labelled_scan import views
from veridice.io.weight_cards import ANATOMY, WeightCard
from veridice.progress import counted
from veridice.quality.model import QualityModel, save_quality_model
from veridice.quality.ood import OodDetector
from veridice.quality.predictor import Predictor, fit_predictor
from veridice.quality.single_lesions import FEATURES as LESION_FEATURES
from veridice.quality.single_lesions import LesionModel, fit_lesion_model
from veridice.simulate.cohorts import COHORTS, Cohort
from veridice.simulate.donors import donors_by_name
from veridice.simulate.plan import PatientPlan
from veridice.training.assessed_masks import (
    UNSEEN,
    AssessedMasks,
    KnownScan,
    ScanToJudge,
    assess_all,
    has_t1,
    masks_to_learn,
    other_patients,
    patient_name,
    real_scan,
    simulated_scan,
    write_rows,
)
from veridice.training.examples import planned_patients, real_groups
from veridice.training.ood_examples import describe_all, fit_to_looks, real_appearances, simulated_appearances
from veridice.training.people import (
    DAMAGED,
    GRADED,
    PEOPLE,
    people_calibration,
    scan_table,
    with_other_networks,
    with_people,
    with_unfamiliarity,
)
from veridice.training.provenance import by_split, origins
from veridice.training.regressors import claim_makers, fold_folders, out_of_fold
from veridice.training.settings import TrainingSettings
from veridice.types import Mask

HALF = 0.5
MOST_DRAWN = 20
"""Patients are drawn at most so many times as often as they are wanted."""
NO_LESION_MODEL = LesionModel(0.0, (0.0,) * len(LESION_FEATURES))
"""Of a target that is not in many pieces."""


def train_predictor(settings: TrainingSettings, cases: Sequence[Case], output: Path, weights: Path) -> list[WeightCard]:
    """Learn to predict the Dice of any mask, and calibrate it.

    Every scan that is learnt from is judged by a segmenter that never saw its people (``OUTPUT/fold-G``); its masks are of
    every kind in :mod:`.mask_errors`. Beside them come ``people`` whom no network saw. Calibration scans are simulated from
    people on whom no network trained; some of them stopped trainings. Where the configuration simulates nobody, they are
    the real ones of the validation split.

    Args:
        settings: the configuration that trained the networks.
        cases: the same manifest; those of the training split are learnt from.
        output: folder of that training, with its ``fold-G``.
        weights: folder of the networks; predictor and calibration go there.

    Raises:
        ConfigError: a donor group has no segmenter that was trained without it, or what was judged there was so by others.
    """
    stage, run = settings.predictor, output / "predictor"
    models = load_models(weights, with_quality=False, task=settings.data.task)
    folds = {
        group: load_network(folder / "weights", "segmenter")[0] for group, folder in fold_folders(settings, output).items()
    }
    if absent := sorted(set(range(len(settings.data.donor_groups))) - set(folds)):
        raise ConfigError(f"{output}: no fold-{absent[0]}; train the segmenter with --leave-out {absent[0]} first")
    claim_makers(settings, run, models.cards)
    shapes = other_patients(models.grid_shape[0]) if models.task.name == LESION.name else other_targets(settings, cases)
    # Chosen before anything is judged: what is missing should be said now, not in an hour.
    scans = _scans_to_judge(settings, cases, models, folds, output)
    judged = {name: _judge(these, settings, shapes, run / name) for name, these in scans.items()}
    known, apart = judged["train"], judged["calibration"]
    if unseen := judged.get(UNSEEN):
        known = known + unseen
    learnt = masks_to_learn(run)
    predictor = fit_predictor(learnt, settings.seed, trees=stage.trees)
    lesion_model = fit_lesion_model(known.lesions) if models.task.scattered else NO_LESION_MODEL
    ood, seen = learn_appearances(settings, cases, models, run / "looks"), scan_table(apart.scans.to_dict("records"))
    told = with_unfamiliarity(apart.masks, seen, ood)
    write_rows(run / "people-calibration-masks.csv.gz", told)
    write_rows(run / "people-calibration-scans.csv.gz", seen)
    many = with_other_networks(told, run, "calibration")
    calibration = people_calibration(predictor, many, stage.passes, settings.data.simulated_patients > 0)
    quality_model = QualityModel(predictor, lesion_model, ood, calibration)
    card = _card(settings, cases, predictor, learnt, judged.get("validation", apart).drawn, models)
    if unseen:
        card["people"] = with_people(card["people"], unseen.masks)
    return [save_quality_model(weights, quality_model, card)]


class _Table(NamedTuple):
    """Scans to judge, how many masks of each (of :mod:`.mask_errors`, of :mod:`.graded_masks`), and the seed of those."""

    scans: list[ScanToJudge]
    damaged: int
    graded: int
    seed: int


def _scans_to_judge(
    settings: TrainingSettings, cases: Sequence[Case], models: Models, folds: dict[int, nn.Module], output: Path
) -> dict[str, _Table]:
    """By the name of their table: to learn from, unseen ones among them; to check on; and those of the calibration."""
    stage = settings.predictor
    many = partial(_Table, damaged=stage.masks, graded=stage.graded_masks, seed=settings.seed)
    tables = {"train": many(_to_learn(settings, cases, models, folds, output))}
    if not settings.data.simulated_patients:
        return tables | {"calibration": many(_real(settings, by_split(cases)["validation"], models, list(folds.values())))}
    if stage.people:
        tables[UNSEEN] = _Table(_unseen(stage.people, models), DAMAGED, GRADED, PEOPLE["training"].seed)
    tables["validation"] = many(_simulated(COHORTS["validation"], stage.validation_patients, models, folds))
    cohort = replace(PEOPLE["calibration"], donors=stage.calibration_donors)
    tables["calibration"] = _Table(_simulated(cohort, stage.calibration_patients, models, {}), DAMAGED, GRADED, cohort.seed)
    return tables


def learn_appearances(settings: TrainingSettings, cases: Sequence[Case], models: Models, folder: Path) -> OodDetector:
    """Learn what known scans look like to the segmenter that will be used: no reserved people, all real scans.

    Args:
        settings: ``predictor.looks`` patients are simulated.
        cases: real scans, also those that trainings were stopped on.
        models: that look.
        folder: keeps what was seen, one file a scan.
    """
    looks = settings.predictor.looks if settings.data.simulated_patients else 0
    appearances = [*simulated_appearances(looks), *real_appearances(cases, settings.data)]
    with counted("looks", len(appearances)) as on_step:
        rows = describe_all(appearances, models, choose_backend(InferenceSettings()), settings.seed, folder, on_step)
    return fit_to_looks(rows, settings.seed)


def _judge(table: _Table, settings: TrainingSettings, shapes: Sequence[tuple[Mask, ...]], folder: Path) -> AssessedMasks:
    """Into ``folder``, one file a scan, and as tables beside it."""
    inference, jobs = InferenceSettings(passes=settings.predictor.passes), settings.predictor.jobs
    with counted(f"masks, {folder.name}", len(table.scans)) as on_step:
        judged = assess_all(
            table.scans, shapes, table.damaged, table.seed, inference, folder, jobs, on_step, graded=table.graded
        )
    judged.write(folder.parent, folder.name)
    return judged


def other_targets(settings: TrainingSettings, cases: Sequence[Case]) -> list[tuple[Mask, ...]]:
    """The true parts of everybody in the training split, each on the cube."""
    shape, found = (settings.data.grid,) * 3, []
    for case in by_split(cases)["train"]:
        known = real_scan(case, settings.data, -1)
        transform = task_grid(known.scan.flair, settings.data.task, shape)
        found.append(tuple(transform.to_grid(part) >= HALF for part in known.parts))
    return found


def _to_learn(
    settings: TrainingSettings, cases: Sequence[Case], models: Models, folds: dict[int, nn.Module], output: Path
) -> list[ScanToJudge]:
    data = settings.data.model_copy(update={"simulated_patients": settings.predictor.patients, "left_out": ()})

    # Without a simulator, earlier states of the same training are the poorer tools.
    earlier = {} if data.simulated_patients else out_of_fold(settings, output)

    def task(name: str, group: int, read: partial[KnownScan]) -> ScanToJudge:
        others = [models.segmenter, *(network for number, network in folds.items() if number != group)]
        others += earlier.get(group, ())[1:]
        return ScanToJudge(name, read, replace(models, segmenter=folds[group]), others)

    tasks = []
    for plan in planned_patients("train", data):
        group = plan.seed - COHORTS["training"].seed
        tasks.append(task(patient_name(plan), group, partial(simulated_scan, plan, group, has_t1(plan), models.task)))
    train = by_split(cases)["train"]
    groups = real_groups(train, settings.data)
    for case in train:
        for stripped in views(case):
            group, name = groups[case.patient], f"real-{case.id}{'-stripped' if stripped else ''}"
            tasks.append(task(name, group, partial(real_scan, case, settings.data, group, stripped)))
    return tasks


def _real(settings: TrainingSettings, cases: Sequence[Case], models: Models, others: Sequence[nn.Module]) -> list[ScanToJudge]:
    reads = {case.id: partial(real_scan, case, settings.data, -1) for case in cases}
    return [ScanToJudge(f"real-{name}", read, models, others) for name, read in reads.items()]


def _unseen(patients: int, models: Models) -> list[ScanToJudge]:
    """So many patients whose brain no network of ``models`` learnt from; the places of lesions are no evidence.

    Raises:
        ConfigError: the networks know all brains that there are.
    """
    cards = [card for name, card in models.cards.items() if name != ANATOMY]
    known = {person for card in cards for person in card.people.get("train", ())}
    cohort, people = PEOPLE["training"], donors_by_name()
    plans = (plan for plan in map(cohort.plan, range(MOST_DRAWN * patients)) if people[plan.anatomy].person not in known)
    if not (chosen := list(islice(plans, patients))):
        raise ConfigError("the networks know the brains of all people that the predictor would learn from; set 'people = 0'")
    return _to_judge(chosen, models, {})


def _simulated(cohort: Cohort, patients: int, models: Models, folds: dict[int, nn.Module]) -> list[ScanToJudge]:
    return _to_judge([cohort.plan(index) for index in range(patients)], models, folds)


def _to_judge(plans: Sequence[PatientPlan], models: Models, folds: dict[int, nn.Module]) -> list[ScanToJudge]:
    others = list(folds.values())
    reads = {patient_name(plan): partial(simulated_scan, plan, -1, has_t1(plan), models.task) for plan in plans}
    return [ScanToJudge(name, read, models, others) for name, read in reads.items()]


def _card(
    settings: TrainingSettings,
    cases: Sequence[Case],
    predictor: Predictor,
    masks: pd.DataFrame,
    checks: pd.DataFrame,
    models: Models,
) -> dict[str, Any]:
    predicted, _ = predictor.predict(checks)
    dice = checks["dice"].to_numpy()
    metrics = {
        "mae": float(np.abs(predicted - dice).mean()),
        "mae_of_constant": float(np.abs(dice - masks["dice"].mean()).mean()),
        "mae_of_agreement": float(np.abs(checks["agreement_mean"] - dice).mean()),
        "spearman": float(stats.spearmanr(predicted, dice).statistic),
    }
    scans = masks["scan"].nunique()
    whom = "simulated patients of other people" if settings.data.simulated_patients else "people of the validation split"
    return {
        **origins(settings, cases),
        "data": f"{len(masks)} masks of {masks['kind'].nunique()} kinds of {scans} scans; checked on {len(checks)} masks of "
        f"{checks['scan'].nunique()} {whom}",
        "learnt_from": {name: card.sha256 for name, card in models.cards.items()},
        "steps": 0,
        "best_step": 0,
        "metrics": metrics,
    }
