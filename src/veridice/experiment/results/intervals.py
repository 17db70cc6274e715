"""Intervals around each method's predicted Dice: do they hold, and how wide are they? No torch."""

from __future__ import annotations

from math import ceil

import numpy as np
import pandas as pd

from veridice.experiment.results.evaluation import check_cases
from veridice.experiment.results.rules import fit_rule
from veridice.metrics import failure_detection as fd
from veridice.types import Numbers

COVERAGE = 0.9
PARTS = 5


def interval_table(cases: pd.DataFrame, coverage: float = COVERAGE) -> pd.DataFrame:
    """For every method the share of test cases whose true Dice lies in its interval, and the mean width of the intervals.

    In each fold the rule of a method is fitted on all but a fifth of the validation patients, and its errors on that fifth
    are kept (cross-conformal prediction, Vovk 2015; of reverse classification: ConfIC-RCA, arXiv:2503.04522). The half width is
    the error that so many validation cases do not exceed that ``coverage`` is kept for a new one.

    Args:
        cases: the case table.
        coverage: of the intervals.

    Raises:
        InputError: see :func:`.evaluation.check_cases`.
    """
    found = []
    for (_, method), rows in check_cases(cases).groupby(["fold", "method"], sort=True):
        validation, test = (rows[rows["split"] == split] for split in ("validation", "test"))
        half = half_width(validation, coverage)
        score, dice = validation["score"].to_numpy(float), validation["dice"].to_numpy(float)
        said = fit_rule(score, dice, validation["kind"].iloc[0]).predicted_dice(test["score"].to_numpy(float))
        true = test["dice"].to_numpy(float)
        width = np.minimum(said + half, 1.0) - np.maximum(said - half, 0.0)
        held = (np.abs(said - true) <= half).astype(float)
        found.append(pd.DataFrame({"method": method, "patient": test["patient"].to_numpy(), "held": held, "width": width}))
    table = []
    for name, part in pd.concat(found).groupby("method", sort=True):
        ends = fd.bootstrap(lambda values: float(values.mean()), part["held"], clusters=part["patient"], resamples=1000)
        share = {"held": part["held"].mean(), "held_low": ends.low, "held_high": ends.high}
        table.append({"method": name, "n": len(part), **share, "width": part["width"].mean()})
    return pd.DataFrame(table).sort_values(["width", "method"], ignore_index=True)


def half_width(validation: pd.DataFrame, coverage: float) -> float:
    """Of the intervals of one method in one fold; infinite where the validation cases are too few for the coverage."""
    score, dice = validation["score"].to_numpy(float), validation["dice"].to_numpy(float)
    patients = np.unique(validation["patient"])
    errors: Numbers = np.full(len(dice), np.nan)
    for part in np.array_split(patients, min(PARTS, len(patients))):
        apart = validation["patient"].isin(part).to_numpy()
        if apart.all():
            break
        rule = fit_rule(score[~apart], dice[~apart], validation["kind"].iloc[0])
        errors[apart] = np.abs(rule.predicted_dice(score[apart]) - dice[apart])
    place = ceil(round((len(errors) + 1) * coverage, 9))
    return float(np.sort(errors)[place - 1]) if place <= len(errors) and np.isfinite(errors).all() else np.inf
