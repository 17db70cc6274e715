"""Masks of simulated people on whom no network trained: what predictor, decision and its check learn from."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from veridice.assessment.analysis import scan_appearance
from veridice.assessment.models import Models
from veridice.config import InferenceSettings
from veridice.inference.passes import choose_backend
from veridice.io.atomic import write_text
from veridice.parallel import do_missing
from veridice.quality.calibration import CalibrationSet
from veridice.quality.ood import OodDetector
from veridice.quality.predictor import Predictor
from veridice.simulate.cohorts import Cohort
from veridice.simulate.donors import donors_by_name
from veridice.simulate.plan import PatientPlan
from veridice.simulate.severity import MIX
from veridice.training.assessed_masks import (
    FOREIGN,
    AssessedMasks,
    KnownScan,
    ScanToJudge,
    assess_all,
    has_t1,
    other_patients,
    patient_name,
    simulated_scan,
    stored_masks,
)

PEOPLE = {
    "training": Cohort("learning", 6000, "more-training", MIX),
    "calibration": Cohort("calibration", 7000, "more-calibration,lesjak-05,lesjak-20,lesjak-21,lesjak-22,lesjak-23", MIX),
    "coverage": Cohort(
        "coverage",
        8000,
        "more-coverage,lesjak-06,lesjak-08,lesjak-24,lesjak-25,lesjak-27,lesjak-28,lesjak-29,lesjak-30",
        MIX,
    ),
}
"""Three cohorts that share nobody: the predictor learns from the first, the second calibrates, the third checks.

``scripts/make_more_donors.py`` makes their brains and patterns of lesions."""
DAMAGED, GRADED = 1, 3
"""Masks of each patient beside our own: of :mod:`.mask_errors` and :mod:`.graded_masks`."""


FEATURE = "feature_"
"""Begins the names of columns: features of a scan in the segmenter."""


def assess_people(
    name: str, models: Models, patients: int, folder: Path, jobs: int, on_step: Callable[[], None]
) -> AssessedMasks:
    """Judge masks of the first ``patients`` of a cohort of :data:`PEOPLE`, one file each in ``folder``; what is there is kept.

    Raises:
        InputError: its donors are not there.
    """
    cohort = PEOPLE[name]
    tasks = [ScanToJudge(patient_name(plan), _read(plan), models, ()) for plan in map(cohort.plan, range(patients))]
    shapes = other_patients(models.grid_shape[0])
    return assess_all(tasks, shapes, DAMAGED, cohort.seed, InferenceSettings(), folder, jobs, on_step, graded=GRADED)


def look_at_people(
    name: str, models: Models, patients: int, folder: Path, jobs: int, on_step: Callable[[], None]
) -> pd.DataFrame:
    """The scans of :func:`assess_people` without their masks, as :func:`scan_table` has them; what is there is kept.

    For a detector of unknown scans that changed: it takes seconds a scan.
    """
    folder.mkdir(parents=True, exist_ok=True)
    items = [(plan, folder / f"{patient_name(plan)}.json") for plan in map(PEOPLE[name].plan, range(patients))]
    do_missing(items, lambda item: item[1].exists(), partial(_look, models=models), jobs, on_step)
    return scan_table([json.loads(file.read_text(encoding="utf-8")) for _, file in items])


def with_people(people: Mapping[str, Sequence[str]], masks: pd.DataFrame) -> dict[str, list[str]]:
    """The people of a card, with those whose brains are in masks of the training cohort of :data:`PEOPLE`."""
    brains = {donors_by_name()[str(brain)].person for brain in masks["brain"]}
    return {**{split: list(names) for split, names in people.items()}, "train": sorted({*people["train"], *brains})}


def _read(plan: PatientPlan) -> Callable[[], KnownScan]:
    return partial(simulated_scan, plan, -1, has_t1(plan))


def _look(item: tuple[PatientPlan, Path], models: Models) -> None:
    plan, file = item
    descriptors, features = scan_appearance(_read(plan)().scan, models, choose_backend(InferenceSettings()))
    row = {"scan": patient_name(plan), "descriptors": descriptors, "features": [round(float(value), 5) for value in features]}
    write_text(file, json.dumps(row) + "\n")


def scan_table(rows: Sequence[Mapping[Any, Any]]) -> pd.DataFrame:
    """Rows with ``scan``, ``descriptors`` and ``features`` as a table: a column for each number."""
    names = pd.DataFrame({"scan": [row["scan"] for row in rows]})
    features = pd.DataFrame([row["features"] for row in rows]).add_prefix(FEATURE)
    return pd.concat([names, pd.DataFrame([row["descriptors"] for row in rows]), features], axis=1)


def with_unfamiliarity(masks: pd.DataFrame, scans: pd.DataFrame, ood: OodDetector) -> pd.DataFrame:
    """The masks with how unlike the known scans theirs is, which says whether one could have been accepted.

    Args:
        masks: rows with ``scan``.
        scans: :func:`scan_table` of all of them.
        ood: who tells.

    Raises:
        KeyError: nobody looked at the scan of a mask.
    """
    features, described = scans.filter(regex=f"^{FEATURE}").to_numpy(), scans[list(ood.names)].to_numpy()
    far = {
        scan: ood.unfamiliarity(dict(zip(ood.names, row, strict=True)), values)
        for scan, row, values in zip(scans["scan"], described, features, strict=True)
    }
    return masks.assign(unfamiliarity=[far[scan] for scan in masks["scan"]])


def with_other_networks(masks: pd.DataFrame, folder: Path, name: str) -> pd.DataFrame:
    """These masks and those that other networks drew on the same scans, where ``folder`` has any
    (``scripts/assess_foreign.py``).

    Args:
        masks: from :func:`with_unfamiliarity`, of people of :data:`PEOPLE`.
        folder: of the tables.
        name: of these people.
    """
    if not (folder / f"{FOREIGN}-{name}-masks.csv.gz").exists():
        return masks
    more, far = stored_masks(folder, f"{FOREIGN}-{name}"), masks.groupby("scan")["unfamiliarity"].first()
    more = more[more["scan"].isin(far.index)]
    return pd.concat([masks, more.assign(unfamiliarity=more["scan"].map(far))], ignore_index=True)


def people_masks(folder: Path, name: str) -> pd.DataFrame:
    """Stored masks of people of :data:`PEOPLE` that are not empty, those of other networks among them."""
    return with_other_networks(stored_masks(folder, f"people-{name}"), folder, name)


def people_calibration(predictor: Predictor, masks: pd.DataFrame, passes: int, simulated: bool = True) -> CalibrationSet:
    """The calibration of decision and interval, from masks of the people of ``calibration``.

    Args:
        predictor: whose predictions are calibrated.
        masks: from :func:`with_unfamiliarity`; empty masks are left out.
        passes: that they were judged with.
        simulated: whether the people are; real ones are those of a validation split.
    """
    known = masks[masks["lesion_count"] > 0].reset_index(drop=True)
    known = known.assign(acceptable=(known["unfamiliarity"] <= 1) & (known["doubts"] == 0))
    source = (
        f"{known['person'].nunique()} simulated patients of all severities, a fifth without T1w, made of the brains of "
        f"{known['brain'].nunique()} people, with masks of {known['kind'].nunique()} kinds"
    )
    if not simulated:
        source = (
            f"{known['person'].nunique()} people from whom no network learnt, with masks of {known['kind'].nunique()} kinds; "
            "trainings were stopped on them"
        )
    made = CalibrationSet.of(*predictor.predict(known), known, source, simulated=simulated)
    return made.model_copy(update={"passes": passes})
