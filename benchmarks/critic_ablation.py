"""What the critic adds to the judge: without it, it alone, and both.

python benchmarks/critic_ablation.py runs/release/predictor

The folder is that of `veridice train predictor`, with the masks that the predictor learnt from and those of validation
patients (simulated). The predictor is fitted without the critic and with it on the same masks. The critic alone is its
expected Dice, as it is. First come the validation patients, on whom nothing is fitted; then the masks of real people, each by
a fit without that person. Mean absolute error and rank correlation (Spearman) of predicted and true Dice, with 95 % intervals
over people. Then single lesions of the validation patients: how well their confidence tells real ones from others (AUROC),
and their volume alone.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from veridice.metrics.failure_detection import bootstrap, spearman
from veridice.quality.predictor import FEATURES, WITH_CRITIC, fit_predictor
from veridice.quality.single_lesions import Lesion, fit_lesion_model
from veridice.training.assessed_masks import masks_to_learn, stored_masks

WAYS = {"without": FEATURES, "both": WITH_CRITIC}


def main() -> int:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    known, checks = masks_to_learn(folder), stored_masks(folder, "validation")
    said = {way: fit_predictor(known, features=names).predict(checks)[0] for way, names in WAYS.items()}
    table("validation patients, simulated", checks, said | {"critic alone": checks["critic_dice"].to_numpy()})
    real = known[~known["simulated"].astype(bool)].reset_index(drop=True)
    left_out = {way: np.zeros(len(real)) for way in WAYS}
    for person in real["person"].unique():
        rest, here = known[known["person"] != person].reset_index(drop=True), (real["person"] == person).to_numpy()
        for way, names in WAYS.items():
            left_out[way][here] = fit_predictor(rest, features=names).predict(real[here])[0]
    table("real people, each left out of the fit", real, left_out | {"critic alone": real["critic_dice"].to_numpy()})
    lesions(pd.read_csv(folder / "train-lesions.csv.gz"), pd.read_csv(folder / "validation-lesions.csv.gz"))
    return 0


def table(title: str, masks: pd.DataFrame, said: dict[str, np.ndarray]) -> None:
    """Error and order of each way."""
    dice, people = masks["dice"].to_numpy(), masks["person"].to_numpy()
    sys.stdout.write(
        f"\n{title}: {len(masks)} masks of {masks['person'].nunique()} people\n| judge | MAE | Spearman |\n|---|---|---|\n"
    )
    for way, values in said.items():
        error = bootstrap(lambda a, b: float(np.abs(a - b).mean()), values, dice, clusters=people, resamples=1000)
        order = bootstrap(lambda a, b: spearman(a, b).r, values, dice, clusters=people, resamples=1000)
        mae, rank = np.abs(values - dice).mean(), spearman(values, dice).r
        sys.stdout.write(
            f"| {way} | {mae:.3f} ({error.low:.3f} to {error.high:.3f}) | {rank:.3f} ({order.low:.3f} to {order.high:.3f}) |\n"
        )


def lesions(known: pd.DataFrame, checks: pd.DataFrame) -> None:
    """AUROC of the confidence in single lesions."""
    sys.stdout.write(f"\nsingle lesions: {len(checks)} of validation patients, {checks['real'].mean():.0%} real\n")
    models = {"without": fit_lesion_model(known.drop(columns="critic_chance")), "both": fit_lesion_model(known)}
    listed = [Lesion(**row) for row in checks[list(Lesion.__dataclass_fields__)].to_dict("records")]
    said = {way: model.confidence(listed) for way, model in models.items()}
    said |= {"critic alone": checks["critic_chance"], "volume alone": checks["volume_ml"]}
    for way, values in said.items():
        sys.stdout.write(f"{way}: AUROC {roc_auc_score(checks['real'], values):.3f}\n")


if __name__ == "__main__":
    raise SystemExit(main())
