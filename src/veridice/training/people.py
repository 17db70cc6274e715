"""Masks of simulated people on whom no network trained: for the calibration, and for the check of what it promises."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from veridice.assessment.models import Models
from veridice.config import InferenceSettings
from veridice.quality.calibration import CalibrationSet
from veridice.quality.ood import OodDetector
from veridice.quality.predictor import Predictor
from veridice.simulate.cohorts import MIX, Cohort
from veridice.training.assessed_masks import (
    AssessedMasks,
    Task,
    assess_all,
    has_t1,
    other_patients,
    patient_name,
    simulated_scan,
)

PEOPLE = {
    "calibration": Cohort("calibration", 7000, "more-calibration,lesjak-05,lesjak-20,lesjak-21,lesjak-22,lesjak-23", MIX),
    "coverage": Cohort(
        "coverage",
        8000,
        "more-coverage,lesjak-06,lesjak-08,lesjak-24,lesjak-25,lesjak-27,lesjak-28,lesjak-29,lesjak-30",
        MIX,
    ),
}
"""Two cohorts that share nobody; ``scripts/make_more_donors.py`` makes their brains and patterns of lesions."""
DAMAGED, GRADED = 1, 3
"""Masks of each patient beside our own: of :mod:`.mask_errors` and :mod:`.graded_masks`."""


def assess_people(
    name: str, models: Models, patients: int, folder: Path, jobs: int, on_step: Callable[[], None]
) -> AssessedMasks:
    """Judge masks of the first ``patients`` of a cohort of :data:`PEOPLE`, one file each in ``folder``; what is there is kept.

    Raises:
        InputError: its donors are not there.
    """
    cohort = PEOPLE[name]
    plans = [cohort.plan(index) for index in range(patients)]
    tasks = [Task(patient_name(plan), partial(simulated_scan, plan, -1, has_t1(plan)), models, ()) for plan in plans]
    shapes = other_patients(models.grid_shape[0])
    return assess_all(tasks, shapes, DAMAGED, cohort.seed, InferenceSettings(), folder, jobs, on_step, graded=GRADED)


def with_unfamiliarity(found: AssessedMasks, ood: OodDetector) -> pd.DataFrame:
    """The masks with how unlike the known scans theirs is, which says whether one could have been accepted."""
    rows = found.scans.to_dict("records")
    far = {row["scan"]: ood.unfamiliarity(row["descriptors"], np.array(row["features"])) for row in rows}
    return found.masks.assign(unfamiliarity=found.masks["scan"].map(far))


def people_calibration(predictor: Predictor, masks: pd.DataFrame, passes: int) -> CalibrationSet:
    """The calibration of decision and interval, from masks of the people of ``calibration``.

    Args:
        predictor: whose predictions are calibrated.
        masks: from :func:`with_unfamiliarity`; empty masks are left out.
        passes: that they were judged with.
    """
    known = masks[masks["lesion_count"] > 0].reset_index(drop=True)
    known = known.assign(acceptable=(known["unfamiliarity"] <= 1) & (known["doubts"] == 0))
    source = (
        f"{known['person'].nunique()} simulated patients of all severities, a fifth without T1w, made of the brains of "
        f"{known['brain'].nunique()} people, with masks of {known['kind'].nunique()} kinds"
    )
    made = CalibrationSet.of(*predictor.predict(known), known, source, simulated=True)
    return made.model_copy(update={"passes": passes})
