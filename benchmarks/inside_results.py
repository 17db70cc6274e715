"""What docs/reproducing-the-paper.md says beside the stored tables, from an experiment's case table.

``python benchmarks/inside_results.py results/paper-sim-laptop``, or ``results/real-10`` (seconds).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from veridice.experiment.results import evaluation
from veridice.experiment.results.resampling import point
from veridice.experiment.results.tables import read_cases
from veridice.experiment.results.write import CASES

PREDICTING = ("combination", "random_forest", "regressor_uncertainty", "reverse_classification")
SUMS = ("entropy_sum", "error_sum")


def sums_and_load(cases: pd.DataFrame) -> list[str]:
    """How the sums of maps go with the load, and with the Dice once the load is taken out."""
    lines = []
    for method in SUMS:
        rows = cases[(cases["method"] == method) & (cases["split"] == "test")]
        score, dice, load = (rows[name].to_numpy(float) for name in ("score", "dice", "load_ml"))

        def without(values: np.ndarray, load: np.ndarray = load) -> np.ndarray:
            line = stats.linregress(load, values)
            return values - line.intercept - line.slope * load

        partial = stats.pearsonr(without(score), without(dice))
        with_load = stats.pearsonr(score, load).statistic
        lines.append(f"{method}: r with the load {with_load:.2f}, with the Dice given the load {partial.statistic:.2f}")
        lines.append(f"  p of its r with the Dice, fold by fold: {', '.join(_p_values(rows))}")
    dice_and_load = cases[(cases["method"] == "volume") & (cases["split"] == "test")][["dice", "load_ml"]]
    lines.append(f"Dice and load: r {dice_and_load.corr().iloc[0, 1]:.2f}")
    return lines


def _p_values(rows: pd.DataFrame) -> list[str]:
    return [f"{stats.pearsonr(fold['score'], fold['dice']).pvalue:.2f}" for _, fold in rows.groupby("fold")]


def mapped(cases: pd.DataFrame) -> list[str]:
    """MAE of methods that predict a Dice, with the map from validation that scores get."""
    judged = evaluation.judge(cases[cases["method"].isin(PREDICTING)].assign(kind="score"))
    error = (judged["predicted_dice"] - judged["dice"]).abs().groupby(judged["method"]).mean()
    return [f"mapped on validation, MAE: {', '.join(f'{name} {value:.3f}' for name, value in error.items())}"]


def severities(judged: pd.DataFrame) -> list[str]:
    """What knowing the severity alone would give, and what is left within ordinary scans."""
    truth = judged[judged["method"] == "volume"]
    means = truth.groupby("severity")["dice"].transform("mean")
    r, error = stats.pearsonr(means, truth["dice"]).statistic, (means - truth["dice"]).abs().mean()
    ordinary = truth.loc[truth["severity"] == "ordinary", "dice"]
    own = (ordinary - ordinary.mean()).abs().mean()
    return [
        f"mean of each severity: r {r:.2f}, MAE {error:.3f}",
        f"{len(ordinary)} ordinary scans: deviation {ordinary.std():.3f}, MAE of their own mean {own:.3f}",
    ]


def out_of_fold(judged: pd.DataFrame) -> list[str]:
    """Gain of regressors with out-of-fold targets over those with the paper's."""
    lines = []
    for own in ("regressor_image", "regressor_uncertainty", "regressor_error"):
        rows = judged[judged["method"].isin([own, f"{own}_out_of_fold"])]
        gain = evaluation.paired_gains(rows, [own]).iloc[0]
        lines.append(
            f"{own}, out of fold: normalised AURC better by {gain['gain']:.3f} ({gain['low']:.3f} to {gain['high']:.3f})"
        )
    return lines


def single_points(judged: pd.DataFrame) -> list[str]:
    """The ensemble without its most trusted case, and the review that perfect order asks for."""
    rows = judged[judged["method"] == "ensemble"]
    rest = rows[rows["score"] < rows["score"].max()]
    perfect = rows.assign(confidence=rows["dice"])
    area, review = (
        point(evaluation.pool(cases))[name] for cases, name in ((rest, "normalised_aurc"), (perfect, "review_share"))
    )
    return [f"ensemble without its most trusted case: normalised AURC {area:.2f}", f"to review in perfect order: {review:.2f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    cases = read_cases(parser.parse_args().results / CASES)
    judged = evaluation.judge(cases)
    simulated = severities(judged) if judged["severity"].nunique() > 1 else []
    lines = [*sums_and_load(cases), *mapped(cases), *simulated, *out_of_fold(judged), *single_points(judged)]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
