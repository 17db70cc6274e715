"""How well masks of every quality of a task other than lesions are ranked, on people from whom the predictor did not learn.

python benchmarks/task_judge.py runs/hippocampus-weights

Args: the folder of a training (``veridice train predictor``). The people are those of its validation split, on whom trainings
were stopped. Intervals are 95 % bootstrap intervals over people.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from veridice.experiment.results.resampling import draw_weights
from veridice.quality.model import load_quality_model
from veridice.training.assessed_masks import OWN_KIND

DRAWS = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    run = parser.parse_args().run
    masks = pd.read_csv(run / "predictor" / "calibration-masks.csv.gz", keep_default_na=False, na_values=[""])
    masks = masks[masks["lesion_count"] > 0].reset_index(drop=True)
    predicted, _ = load_quality_model(run / "weights").predictor.predict(masks)
    masks = masks.assign(predicted=predicted, error=np.abs(predicted - masks["dice"]))
    own = masks[masks["kind"] == OWN_KIND]
    tell(f"own masks: Dice {own['dice'].mean():.3f} (lowest {own['dice'].min():.3f}), n = {len(own)}")
    drawn = draw_weights(masks["person"], DRAWS).astype(int)
    rows = np.arange(len(masks))
    for name, measure in (("MAE", mean_error), ("Spearman", rank)):
        values = [measure(masks.iloc[np.repeat(rows, counts)]) for counts in drawn]
        low, high = np.quantile(values, [0.025, 0.975])
        tell(f"{name} {measure(masks):.3f} ({low:.3f} to {high:.3f}), {len(masks)} masks of {masks['person'].nunique()} people")
    spread = np.abs(masks["dice"] - masks["dice"].mean()).mean()
    tell(f"of the mean Dice alone: MAE {spread:.3f}; Spearman among own masks {rank(own):.2f}")
    each = masks.groupby("kind").agg(
        masks=("dice", "size"), dice=("dice", "mean"), said=("predicted", "mean"), mae=("error", "mean")
    )
    sys.stdout.write(f"{each.sort_values('dice').round(3).to_string()}\n")


def mean_error(masks: pd.DataFrame) -> float:
    return float(masks["error"].mean())


def rank(masks: pd.DataFrame) -> float:
    return float(spearmanr(masks["predicted"], masks["dice"]).statistic)


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
