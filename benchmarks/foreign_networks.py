"""How well are masks judged that networks of other training draw? On people whom neither judge nor network saw.

python benchmarks/foreign_networks.py [--results results/judge]

The masks are those of ``scripts/assess_foreign.py``. Each real person is predicted by a fit without that person: without such
masks of anybody, with those of simulated patients, and with those of the other real people too, as the predictor that ships
learnt. The masks of simulated patients are of networks that drew none of the simulated masks that were learnt from.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from veridice.quality.predictor import fit_predictor
from veridice.training.assessed_masks import FOREIGN, masks_to_learn, stored_masks


def tell(title: str, masks: pd.DataFrame, predicted: np.ndarray) -> None:
    """Error, bias and rank correlation."""
    error, rank = predicted - masks["dice"], stats.spearmanr(predicted, masks["dice"]).statistic
    said = f"mean absolute error {np.abs(error).mean():.3f}, bias {error.mean():+.3f}, Spearman {rank:.2f}"
    sys.stdout.write(f"{title}: {len(masks)} masks of mean Dice {masks['dice'].mean():.2f}; {said}\n")


def tell_real(title: str, learnt: pd.DataFrame, real: pd.DataFrame) -> None:
    """Masks of each real person, by a fit without that person."""
    predicted = np.zeros(len(real))
    for person in real["person"].unique():
        own = (real["person"] == person).to_numpy()
        predicted[own] = fit_predictor(learnt[learnt["person"] != person].reset_index(drop=True)).predict(real[own])[0]
    foreign = real["kind"].str.startswith(FOREIGN).to_numpy()
    tell(f"{title}; real, other networks", real[foreign], predicted[foreign])
    for family in ("base", "see-more", "further", "union"):
        own = (real["kind"] == f"{FOREIGN} {family}").to_numpy()
        tell(f"  {family}", real[own], predicted[own])
    tell(f"{title}; real, other kinds", real[~foreign], predicted[~foreign])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results/judge"))
    folder = parser.parse_args().results
    known, simulated = masks_to_learn(folder), stored_masks(folder, f"{FOREIGN}-coverage")
    foreign = known["kind"].str.startswith(FOREIGN)
    ways = {"without such masks": ~foreign, "with simulated ones": ~foreign | known["simulated"], "with all": foreign | True}
    for title, chosen in ways.items():
        learnt = known[chosen].reset_index(drop=True)
        tell(f"{title}; simulated, other networks", simulated, fit_predictor(learnt).predict(simulated)[0])
        tell_real(title, learnt, known[~known["simulated"]].reset_index(drop=True))


if __name__ == "__main__":
    main()
