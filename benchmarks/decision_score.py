"""By which number should masks be tested? On people of training, each predicted by a fit without them.

python benchmarks/decision_score.py [--results results/judge]

For each needed Dice and each number: the share of the good masks (better by 0.03) that lie above all but 5 % of the bad ones,
of the gross failures (worse by 0.10) too, and the share of the bad masks that lie below all but 5 % of the good ones.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from veridice.quality.decision import GROSS
from veridice.quality.predictor import fit_predictor
from veridice.training.assessed_masks import masks_to_learn

FOLDS, LEVEL, BETTER = 5, 0.05, 0.03


def left_out(masks: pd.DataFrame) -> pd.DataFrame:
    """With prediction and spread of a predictor that never saw the person."""
    predicted, spread = np.zeros(len(masks)), np.zeros(len(masks))
    for train, rest in GroupKFold(FOLDS, shuffle=True, random_state=0).split(masks, groups=masks["person"]):
        predictor = fit_predictor(masks.iloc[train].reset_index(drop=True))
        predicted[rest], spread[rest] = predictor.predict(masks.iloc[rest])
    return masks.assign(predicted=predicted, spread=spread)


def scores(masks: pd.DataFrame, min_dice: float) -> dict[str, np.ndarray]:
    """Numbers that are higher for better masks."""
    predicted, spread = masks["predicted"].to_numpy(), masks["spread"].to_numpy()
    residuals = ((masks["dice"] - predicted) / spread).to_numpy()
    chance = [np.mean((value + size * residuals).clip(0, 1) < min_dice) for value, size in zip(predicted, spread, strict=True)]
    return {
        "predicted Dice": predicted,
        "minus its expected error": predicted - spread,
        "margin in expected errors": (predicted - min_dice) / spread,
        "chance of failure": -np.array(chance),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results/judge"))
    masks = left_out(masks_to_learn(parser.parse_args().results))
    lines = [f"{len(masks)} masks of {masks['person'].nunique()} people of training, predicted without them"]
    for min_dice in (0.6, 0.7, 0.75, 0.8):
        dice = masks["dice"]
        for name, values in scores(masks, min_dice).items():
            above = values > np.quantile(values[dice < min_dice], 1 - LEVEL)
            below = values < np.quantile(values[dice >= min_dice], LEVEL)
            power, gross = above[dice >= min_dice + BETTER].mean(), above[dice < min_dice - GROSS].mean()
            rejected = below[dice < min_dice].mean()
            lines.append(f"{min_dice:.2f} {name:26s} power {power:.2f}  gross {gross:.3f}  bad rejected {rejected:.2f}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
