"""What the paper found, put to the test: each claim as a number with its bootstrap interval, and a word. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from veridice.experiment.results.evaluation import by_method, pool
from veridice.experiment.results.resampling import Weights, draw_weights, ratio, replicate, weighted_mean, weighted_pearson
from veridice.metrics import scores
from veridice.metrics.failure_detection import percentiles
from veridice.types import Numbers

Rows = dict[str, pd.DataFrame]
"""Judged test cases by method, in the same order of cases."""
Statistic = Callable[[Rows, Weights], Numbers]
"""One number a resample."""
Side = Literal["above", "below", "bound", "none"]
IMAGE, UNCERTAINTY, ERROR = "regressor_image", "regressor_uncertainty", "regressor_error"
ENTROPY_SUM, ERROR_SUM, NON_BOUNDARY = "entropy_sum", "error_sum", "non_boundary_entropy"
FEWEST_FINITE = 0.95
"""Share of the resamples that must have a value; a method that accepts nobody has none."""


@dataclass(frozen=True)
class Claim:
    """A finding of the paper.

    Args:
        text: what it says.
        measured: the number that stands for it.
        methods: that it is about.
        statistic: gives the number.
        side: where it lies if the paper is right: above or below zero; above, though the number is a lower bound; or none:
            no relation.
    """

    text: str
    measured: str
    methods: tuple[str, ...]
    statistic: Statistic
    side: Side = "above"

    def word(self, low: float, high: float) -> str:
        """Whether an interval is all on the claimed side of zero, all on the other one, or on both."""
        if not np.isfinite([low, high]).all():
            return "no interval"
        above, below = low > 0, high < 0
        if self.side == "none":
            return "refuted" if above or below else "not refuted"
        if self.side == "bound":
            return "confirmed" if above else "undecided"
        if not (above or below):
            return "undecided"
        return "confirmed" if above == (self.side == "above") else "refuted"


def findings(judged: pd.DataFrame, resamples: int = 2000) -> pd.DataFrame:
    """One row for each claim of the paper whose methods are there, over the test cases of all folds.

    Intervals (95 %, percentiles) are over resampled patients, as :func:`.ladder`'s: networks,
    folds and what was fitted on validation stay as they are. Nothing is corrected for the number of claims.
    """
    rows, made = dict(by_method(judged)), []
    patients = judged.drop_duplicates("case").sort_values("case")["patient"]
    weights = draw_weights(patients, resamples) if len(patients) else np.empty((0, 0))
    for claim in (claim for claim in CLAIMS if set(claim.methods) <= set(rows)):
        drawn = claim.statistic(rows, weights)
        enough = np.isfinite(drawn).mean() >= FEWEST_FINITE
        interval = percentiles(drawn if enough else drawn[:0])
        value = float(claim.statistic(rows, np.ones((1, len(patients))))[0])
        told = {"paper": claim.text, "here": claim.word(interval.low, interval.high), "value": value, **vars(interval)}
        made.append({**told, "n": len(patients), "measured": claim.measured})
    return pd.DataFrame(made, columns=["paper", "here", "value", "low", "high", "n", "measured"])


def _of_score(method: str) -> Statistic:
    """Pearson r of the raw score with the true Dice, over cases that have a score, both less the mean of their fold: what the
    segmenters of two folds sum up does not compare.
    """

    def statistic(rows: Rows, weights: Weights) -> Numbers:
        scored = rows[method]["score"].notna().to_numpy()
        columns = rows[method].loc[scored, ["score", "dice"]]
        score, dice = (columns - columns.groupby(rows[method].loc[scored, "fold"]).transform("mean")).to_numpy(float).T
        drawn = weights[:, scored]
        some = drawn.any(axis=1)
        found = np.full(len(drawn), np.nan)
        found[some] = weighted_pearson(drawn[some], score[None], dice[None])
        return found

    return statistic


def _measure(method: str, name: str) -> Statistic:
    return lambda rows, weights: replicate(pool(rows[method]), weights)[name]


def _rise(method: str) -> Statistic:
    """Mean Dice of what the method accepts minus that of all."""

    def statistic(rows: Rows, weights: Weights) -> Numbers:
        kept, dice = (~rows[method]["rejected"]).to_numpy(float), rows[method]["dice"].to_numpy(float)
        return ratio(weights @ (kept * dice), weights @ kept) - weighted_mean(weights, dice)

    return statistic


def _bias(method: str) -> Statistic:
    def statistic(rows: Rows, weights: Weights) -> Numbers:
        return weighted_mean(weights, (rows[method]["predicted_dice"] - rows[method]["dice"]).to_numpy(float))

    return statistic


def _share_at_borders(rows: Rows, weights: Weights) -> Numbers:
    """Mean share of the entropy near the mask's border, minus one half, of cases that have any. A lower bound: no voxel is
    taken off the volume as near.
    """
    away = rows[NON_BOUNDARY]["score"].to_numpy(float) * np.prod(scores.SUM_GRID)
    total = rows[ENTROPY_SUM]["score"].to_numpy(float)
    some = total > 0
    share = np.where(some, 1 - away / np.where(some, total, 1), 0)
    return ratio(weights @ (share * some), weights @ some) - 0.5


MEASURED = {
    "mae": "MAE from the {worse} minus that from the {better}",
    "pearson_r": "r from the {better} minus that from the {worse}",
    "recall_failures": "share of the failures that is found, minus that from the {worse}",
    "dice_mean_after": "mean Dice of the accepted, minus that from the {worse}",
    "normalised_aurc": "normalised AURC of the sum of the uncertainty minus that of the prediction",
}
"""What says which of two methods is better, in words."""
SEEN = {IMAGE: "image", UNCERTAINTY: "uncertainty", ERROR: "error map", ENTROPY_SUM: "sum of the uncertainty"}


def _compared(text: str, measure: str, better: str, worse: str) -> Claim:
    """A claim whose number is above zero where ``better`` is so."""
    sign = -1 if measure in ("mae", "normalised_aurc") else 1
    first, second = _measure(better, measure), _measure(worse, measure)
    measured = MEASURED[measure].format(better=SEEN[better], worse=SEEN[worse])
    return Claim(text, measured, (better, worse), lambda rows, weights: sign * (first(rows, weights) - second(rows, weights)))


RAW = "r of the raw score, fold by fold"
RISE = "mean Dice of the accepted minus that of all"
BIAS = "mean of predicted minus true Dice"
LINEAR = "r of predicted and true Dice"
OF_ONE: dict[str, Callable[[str], Statistic]] = {
    RAW: _of_score,
    RISE: _rise,
    BIAS: _bias,
    LINEAR: lambda method: _measure(method, "pearson_r"),
}
"""What is measured of one method."""


def _of_one(text: str, measured: str, method: str, side: Side = "above") -> Claim:
    return Claim(text, measured, (method,), OF_ONE[measured](method), side)


CLAIMS = (
    _of_one("The sum of the uncertainty goes with the Dice (r 0.52, 0.55)", RAW, ENTROPY_SUM),
    _of_one("The sum of the error map does not (r -0.25, -0.32)", RAW, ERROR_SUM, "none"),
    _of_one("Sorting out by the sum of the uncertainty raises the Dice (0.819 to 0.833)", RISE, ENTROPY_SUM),
    _of_one("Sorting out by the sum of the error map does not (0.819 to 0.817)", RISE, ERROR_SUM, "none"),
    Claim(
        "Uncertainty is mostly at the borders",
        "mean share of the entropy within 1 voxel of the predicted border, minus one half; at least so much",
        (ENTROPY_SUM, NON_BOUNDARY),
        _share_at_borders,
        "bound",
    ),
    _of_one("The Dice can be predicted from the uncertainty (r 0.71)", LINEAR, UNCERTAINTY),
    _of_one("Sorting out by predictions from the uncertainty raises the Dice (0.82 to 0.84)", RISE, UNCERTAINTY),
    _of_one("Sorting out by predictions from the error map raises the Dice (0.82 to 0.84)", RISE, ERROR),
    _compared("Predictions from the uncertainty are nearer than from the image (MAE 0.045, 0.054)", "mae", UNCERTAINTY, IMAGE),
    _compared(
        "Predictions from the uncertainty are nearer than from the error map (MAE 0.045, 0.057)", "mae", UNCERTAINTY, ERROR
    ),
    _compared(
        "Predictions from the image have a lower r than from the uncertainty (0.57, 0.71)", "pearson_r", UNCERTAINTY, IMAGE
    ),
    _compared("Predictions from the image have a lower r than from the error map (0.57, 0.73)", "pearson_r", ERROR, IMAGE),
    _compared("From the error map more failures are found than from the uncertainty", "recall_failures", ERROR, UNCERTAINTY),
    _compared("From the error map more failures are found than from the image", "recall_failures", ERROR, IMAGE),
    _compared("The error map raises the Dice more than the uncertainty", "dice_mean_after", ERROR, UNCERTAINTY),
    _compared(
        "Predictions from the uncertainty find failures better than its sum", "normalised_aurc", UNCERTAINTY, ENTROPY_SUM
    ),
    _compared(
        "Predictions from the error map find failures better than the sum of the uncertainty",
        "normalised_aurc",
        ERROR,
        ENTROPY_SUM,
    ),
    _of_one("Predictions from the image are too high", BIAS, IMAGE),
    _of_one("Predictions from the uncertainty are too high", BIAS, UNCERTAINTY),
    _of_one("Predictions from the error map are slightly too low", BIAS, ERROR, "below"),
)
"""Williams et al., Results and Discussion; where text and Table 1 differ, both numbers or the text's."""
