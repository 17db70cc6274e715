"""How wrong are differences of mean predicted Dice between kinds of masks, however many people there are?

python benchmarks/tool_order.py [--weights FOLDER]

``veridice compare`` allows for this error (``KIND_ERROR``). It is measured on simulated people, those of the calibration and
those that calibrated nothing: for each two kinds of masks that enough people have, the true difference of their mean Dice is
compared with the predicted one. On real people it is larger, and allowed for is the larger one (``compare_real_tools.py``).
"""

from __future__ import annotations

import argparse
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from decisions import RESULTS

from veridice.io.weight_cards import bundled_weights
from veridice.quality.model import load_quality_model
from veridice.quality.tool_order import KIND_ERROR
from veridice.training.people import people_masks

NO_TOOLS = ("empty", "damaged truth", "damaged own", "second expert", "second rater", "stranger", "mirrored", "mixture")
"""Kinds that no tool draws: made of the truth, of other people, or of other kinds."""
FEWEST = 25
"""People that two kinds must have in common."""


def read(name: str, weights: Path) -> pd.DataFrame:
    """Masks with a prediction, of kinds that a tool may draw."""
    masks = people_masks(RESULTS, name)
    masks = masks[~masks["kind"].isin(NO_TOOLS)].reset_index(drop=True)
    predicted, _ = load_quality_model(weights).predictor.predict(masks)
    return masks.assign(predicted=predicted, tool=masks["kind"])


def wide(masks: pd.DataFrame, column: str) -> pd.DataFrame:
    """Mean of a column (people, kinds)."""
    return masks.pivot_table(index="person", columns="tool", values=column, aggfunc="mean")


def kind_errors(masks: pd.DataFrame) -> tuple[int, float, float, int]:
    """Pairs of kinds; slope of the true differences on the predicted ones; standard deviation of what is left, less that of the
    drawing of people; pairs whose order is predicted wrongly although the true one is clear (two standard errors)."""
    predicted, true = wide(masks, "predicted"), wide(masks, "dice")
    rows, swapped = [], 0
    for first, second in combinations(predicted.columns, 2):
        told, known = ((table[first] - table[second]).dropna() for table in (predicted, true))
        if len(told) >= FEWEST:
            rows.append((told.mean(), known.mean(), (known - told).var(ddof=1) / len(told)))
            clear = abs(known.mean()) > 2 * known.std(ddof=1) / np.sqrt(len(known))
            swapped += clear and told.mean() * known.mean() < 0
    told_, known_, drawing = np.array(rows).T
    slope = float((told_ * known_).sum() / (told_**2).sum())
    left = float(np.sqrt(max(0.0, ((known_ - slope * told_) ** 2).mean() - drawing.mean())))
    return len(rows), slope, left, int(swapped)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=bundled_weights())
    weights = parser.parse_args().weights
    for people in ("calibration", "coverage"):
        pairs, slope, left, swapped = kind_errors(read(people, weights))
        said = (
            f"people of the {people}: {pairs} pairs of kinds, slope {slope:.2f}, error {left:.3f} (allowed for: {KIND_ERROR:g})"
        )
        sys.stdout.write(f"{said}, {swapped} clear orders predicted wrongly\n")


if __name__ == "__main__":
    main()
