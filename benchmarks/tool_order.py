"""Are the statements about tools right? On simulated people whose true Dice is known, kinds of masks standing for tools.

python benchmarks/tool_order.py [--weights FOLDER] [--people 60] [--studies 500]

First the error of the predictor between kinds of masks, which the statements allow for: measured on the people of the calibration.
Then studies of people that calibrated nothing: six kinds are drawn as tools, and so many people; the order of the tools by predicted
Dice is compared with the true one, and every statement with the truth.
"""

from __future__ import annotations

import argparse
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from decisions import RESULTS
from scipy.stats import spearmanr

from veridice.io.weight_cards import bundled_weights
from veridice.quality.model import load_quality_model
from veridice.quality.tool_order import KIND_ERROR, by_person, compare_pairs

NO_TOOLS = ("empty", "damaged truth", "damaged own", "second expert", "second rater", "stranger", "mirrored", "mixture")
"""Kinds that no tool draws: made of the truth, of other people, or of other kinds."""
FEWEST = 30
"""People that two kinds must have in common for their error to be measured."""
TOOLS = 6


def read(name: str, weights: Path) -> pd.DataFrame:
    """Masks with a prediction, of kinds that a tool may draw."""
    masks = pd.read_csv(RESULTS / name, keep_default_na=False, na_values=[""])
    masks = masks[(masks["lesion_count"] > 0) & ~masks["kind"].isin(NO_TOOLS)].reset_index(drop=True)
    predicted, _ = load_quality_model(weights).predictor.predict(masks)
    return masks.assign(predicted=predicted, tool=masks["kind"])


def kind_errors(masks: pd.DataFrame) -> tuple[float, int]:
    """Standard deviation of the error of predicted differences that is left with endless people, and of how many pairs."""
    predicted, true = by_person(masks), by_person(masks.assign(predicted=masks["dice"]))
    left = []
    for first, second in combinations(predicted.columns, 2):
        wrong = ((predicted[first] - predicted[second]) - (true[first] - true[second])).dropna()
        if len(wrong) >= FEWEST:
            left.append(wrong.mean() ** 2 - wrong.var(ddof=1) / len(wrong))
    return float(np.sqrt(max(0.0, np.mean(left)))), len(left)


def study(masks: pd.DataFrame, people: int, rng: np.random.Generator, error: float) -> tuple[float, int, int, int, bool] | None:
    """Rank correlation of the order, statements, of them wrong, wrong without the error of kinds, any wrong."""
    tools = rng.choice(sorted(masks["tool"].unique()), TOOLS, replace=False)
    part = masks[masks["tool"].isin(tools)]
    drawn = rng.choice(sorted(part["person"].unique()), people, replace=False)
    part = part[part["person"].isin(drawn)]
    if part["tool"].nunique() < TOOLS:
        return None
    everyone = masks[masks["tool"].isin(tools)]
    truth = by_person(everyone.assign(predicted=everyone["dice"]))
    counts = []
    for allowed in (error, 0.0):
        stated = [pair for pair in compare_pairs(part, kind_error=allowed) if pair.statement != "undecided"]
        wrong = [
            pair for pair in stated if (pair.statement == "better") != ((truth[pair.first] - truth[pair.second]).mean() > 0)
        ]
        counts.append((len(stated), len(wrong)))
    order = spearmanr(by_person(part).mean(), truth[by_person(part).columns].mean()).statistic
    return float(order), *counts[0], counts[1][1], counts[0][1] > 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=bundled_weights())
    parser.add_argument("--people", type=int, default=60)
    parser.add_argument("--studies", type=int, default=500)
    arguments = parser.parse_args()
    error, pairs = kind_errors(read("people-calibration-masks.csv.gz", arguments.weights))
    sys.stdout.write(f"error between kinds: {error:.3f} ({pairs} pairs; the program allows for {KIND_ERROR:g})\n")
    masks, rng = read("people-coverage-masks.csv.gz", arguments.weights), np.random.default_rng(0)
    told = [found for _ in range(arguments.studies) if (found := study(masks, arguments.people, rng, KIND_ERROR))]
    order, stated, wrong, naive, any_wrong = np.array(told, float).T
    sys.stdout.write(
        f"{len(told)} studies of {arguments.people} people and {TOOLS} tools: rank correlation of the order {order.mean():.2f}; "
        f"{stated.mean():.1f} statements of {TOOLS * (TOOLS - 1) // 2}, {wrong.sum() / max(1, stated.sum()):.1%} of them wrong, "
        f"any wrong in {any_wrong.mean():.1%} of studies; without the error between kinds {naive.mean():.2f} wrong a study\n"
    )


if __name__ == "__main__":
    main()
