"""What the paper found, put to the test: each claim as a number with its bootstrap interval, and a word. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from veridice import scores
from veridice.experiment.evaluation import pool
from veridice.experiment.resampling import Weights, draw_weights, mean, pearson, percentiles, ratio, replicate
from veridice.failure_detection import Numbers

Rows = dict[str, pd.DataFrame]
"""Judged test cases by method, in the same order of cases."""
Statistic = Callable[[Rows, Weights], Numbers]
"""One number a resample."""
IMAGE, UNCERTAINTY, ERROR = "regressor_image", "regressor_uncertainty", "regressor_error"
ENTROPY_SUM, ERROR_SUM, NON_BOUNDARY = "entropy_sum", "error_sum", "non_boundary_entropy"


@dataclass(frozen=True)
class Claim:
    """A finding of the paper.

    Args:
        text: what it says.
        measured: the number that stands for it.
        methods: that it is about.
        statistic: gives the number.
        side: where it lies if the paper is right: above or below zero, or none: no relation.
    """

    text: str
    measured: str
    methods: tuple[str, ...]
    statistic: Statistic
    side: Literal["above", "below", "none"] = "above"

    def word(self, low: float, high: float) -> str:
        """Whether an interval is all on the claimed side of zero, all on the other one, or on both."""
        if not np.isfinite([low, high]).all():
            return "no interval"
        if self.side == "none":
            return "refuted" if low > 0 or high < 0 else "not refuted"
        above, below = low > 0, high < 0
        if not (above or below):
            return "undecided"
        return "confirmed" if above == (self.side == "above") else "refuted"


def findings(judged: pd.DataFrame, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """One row for each claim of the paper whose methods are there, over the test cases of all folds.

    Intervals (95 %, percentiles) are over resampled patients, as :func:`~veridice.experiment.evaluation.ladder`'s.
    """
    ordered = judged.sort_values("case", kind="stable").groupby("method", sort=True)
    rows = {str(method): table.reset_index(drop=True) for method, table in ordered}
    patients = next(iter(rows.values()))["patient"]
    drawn, once = draw_weights(patients, resamples, seed), np.ones((1, len(patients)))
    made = []
    for claim in CLAIMS:
        if set(claim.methods) <= set(rows):
            interval = percentiles(claim.statistic(rows, drawn))
            ends = {"value": float(claim.statistic(rows, once)[0]), "low": interval.low, "high": interval.high}
            word = claim.word(interval.low, interval.high)
            made.append({"paper": claim.text, "here": word, **ends, "n": len(patients), "measured": claim.measured})
    return pd.DataFrame(made, columns=["paper", "here", "value", "low", "high", "n", "measured"])


def _of_score(method: str) -> Statistic:
    """Pearson r of the raw score with the true Dice, over cases that have a score."""

    def statistic(rows: Rows, weights: Weights) -> Numbers:
        scored = rows[method]["score"].notna().to_numpy()
        score, dice = (rows[method].loc[scored, name].to_numpy(float) for name in ("score", "dice"))
        return pearson(weights[:, scored], score[None], dice[None])

    return statistic


def _measure(method: str, name: str) -> Statistic:
    return lambda rows, weights: replicate(pool(rows[method]), weights)[name]


def _difference(first: Statistic, second: Statistic) -> Statistic:
    return lambda rows, weights: first(rows, weights) - second(rows, weights)


def _rise(method: str) -> Statistic:
    """Mean Dice of what the method accepts minus that of all."""

    def statistic(rows: Rows, weights: Weights) -> Numbers:
        kept, dice = (~rows[method]["rejected"]).to_numpy(float), rows[method]["dice"].to_numpy(float)
        return ratio(weights @ (kept * dice), weights @ kept) - mean(weights, dice)

    return statistic


def _bias(method: str) -> Statistic:
    def statistic(rows: Rows, weights: Weights) -> Numbers:
        return mean(weights, (rows[method]["predicted_dice"] - rows[method]["dice"]).to_numpy(float))

    return statistic


def _share_at_borders(rows: Rows, weights: Weights) -> Numbers:
    """Mean share of the entropy near borders, minus one half; at least so much, as no voxel is taken off as near."""
    away = rows[NON_BOUNDARY]["score"].to_numpy(float) * np.prod(scores.SUM_GRID)
    total = rows[ENTROPY_SUM]["score"].to_numpy(float)
    share = np.where(total > 0, 1 - away / np.where(total > 0, total, 1), 0.5)
    return mean(weights, share - 0.5)


def _compared(measure: str, better: str, worse: str, lower_is_better: bool = True) -> Any:
    """Methods and statistic that is above zero where ``better`` is so."""
    first, second = (worse, better) if lower_is_better else (better, worse)
    return {"methods": (better, worse), "statistic": _difference(_measure(first, measure), _measure(second, measure))}


CLAIMS = (
    Claim("The sum of the uncertainty goes with the Dice (r 0.52, 0.55)", "r", (ENTROPY_SUM,), _of_score(ENTROPY_SUM)),
    Claim("That of the error map does not (r -0.25, -0.32)", "r", (ERROR_SUM,), _of_score(ERROR_SUM), "none"),
    Claim(
        "Sorting out by the sum of the uncertainty raises the mean Dice (0.819 to 0.833)",
        "mean Dice of the accepted minus that of all",
        (ENTROPY_SUM,),
        _rise(ENTROPY_SUM),
    ),
    Claim(
        "Sorting out by that of the error map does not (0.819 to 0.817)",
        "mean Dice of the accepted minus that of all",
        (ERROR_SUM,),
        _rise(ERROR_SUM),
        "none",
    ),
    Claim(
        "Uncertainty is mostly at the borders",
        "mean share of the entropy within 2 voxels of a border, minus one half",
        (ENTROPY_SUM, NON_BOUNDARY),
        _share_at_borders,
    ),
    Claim("The Dice can be predicted from the uncertainty (r 0.71)", "r", (UNCERTAINTY,), _of_score(UNCERTAINTY)),
    Claim(
        "Predicted from the uncertainty it is nearest (MAE 0.045; image 0.054)",
        "MAE from the image minus that from the uncertainty",
        **_compared("mae", UNCERTAINTY, IMAGE),
    ),
    Claim(
        "... nearer than from the error map (0.057)",
        "MAE from the error map minus that from the uncertainty",
        **_compared("mae", UNCERTAINTY, ERROR),
    ),
    Claim(
        "The image has the lowest r (0.57; uncertainty 0.71)",
        "r from the uncertainty minus that from the image",
        **_compared("pearson_r", UNCERTAINTY, IMAGE, lower_is_better=False),
    ),
    Claim(
        "... lower than the error map's (0.73)",
        "r from the error map minus that from the image",
        **_compared("pearson_r", ERROR, IMAGE, lower_is_better=False),
    ),
    Claim(
        "From the error map the most failures are found",
        "share of the failures that is found, minus that from the uncertainty",
        **_compared("recall_failures", ERROR, UNCERTAINTY, lower_is_better=False),
    ),
    Claim(
        "... and the Dice is raised the most (median 0.819 to 0.833)",
        "mean Dice of the accepted, minus that from the uncertainty",
        **_compared("dice_mean_after", ERROR, UNCERTAINTY, lower_is_better=False),
    ),
    Claim(
        "Predicted Dice finds failures better than sums: from the uncertainty",
        "normalised AURC of the sum of the uncertainty minus that of the prediction",
        **_compared("normalised_aurc", UNCERTAINTY, ENTROPY_SUM),
    ),
    Claim(
        "... from the error map",
        "normalised AURC of the sum of the uncertainty minus that of the prediction",
        **_compared("normalised_aurc", ERROR, ENTROPY_SUM),
    ),
    Claim("Predictions from the image are too high", "mean of predicted minus true Dice", (IMAGE,), _bias(IMAGE)),
    Claim("Those from the uncertainty are too high", "mean of predicted minus true Dice", (UNCERTAINTY,), _bias(UNCERTAINTY)),
    Claim(
        "Those from the error map are slightly too low", "mean of predicted minus true Dice", (ERROR,), _bias(ERROR), "below"
    ),
)
"""Williams et al., Results and Discussion; where text and Table 1 differ, both numbers or the text's."""
