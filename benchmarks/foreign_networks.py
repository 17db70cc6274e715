"""How well are masks judged that networks of other training draw on real scans? On people whom neither judge nor network saw.

python benchmarks/foreign_networks.py [--results results/judge]

The masks are those of ``scripts/assess_foreign.py``. Each person is predicted by a fit without that person: once without such
masks of anybody, and once with those of the others, as the predictor that ships learnt.
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results/judge"))
    folder = parser.parse_args().results
    masks, known = stored_masks(folder, FOREIGN), masks_to_learn(folder)
    known = known[~known["kind"].isin(masks["kind"])]
    real = known[~known["simulated"]].reset_index(drop=True)
    for title, more in (("learnt without such masks", masks[:0]), ("learnt with such masks", masks)):
        predicted, usual = np.zeros(len(masks)), np.zeros(len(real))
        for person in masks["person"].unique():
            learnt = pd.concat([table[table["person"] != person] for table in (known, more)], ignore_index=True)
            predictor = fit_predictor(learnt)
            for table, found in ((masks, predicted), (real, usual)):
                own = (table["person"] == person).to_numpy()
                found[own] = predictor.predict(table[own])[0]
        tell(f"{title}, other networks", masks, predicted)
        for kind in ("base", "see-more", "further", "union"):
            own = (masks["kind"] == f"foreign {kind}").to_numpy()
            tell(f"  {kind}", masks[own], predicted[own])
        tell(f"{title}, the other kinds", real, usual)


if __name__ == "__main__":
    main()
