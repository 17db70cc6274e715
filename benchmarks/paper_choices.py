"""What the paper leaves open, each choice measured on the test cases of one fold of an experiment.

``python benchmarks/paper_choices.py runs/laptop --fold 1``: forms of SSIM, kinds of dropout, delta of the Huber loss, the
grid of the Dice, the paper's own thresholds. The weights of the fold and its stored maps must be there.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score

from veridice.case import Case
from veridice.config import InferenceSettings
from veridice.experiment.cases import KnownCase, read_numbers, stored_name
from veridice.experiment.protocol import load_experiment, read_cases
from veridice.experiment.regress import fit_and_predict
from veridice.experiment.run import SPLITS
from veridice.inference.passes import Backend, choose_backend, reconstruct, stochastic_passes
from veridice.inference.weights import load_network
from veridice.metrics.scores import mean_pairwise_dice, voxelwise_sum
from veridice.networks.losses import SsimForm, ssim_map
from veridice.training.settings import load_training_settings, with_steps

SSIM_FORMS: tuple[tuple[SsimForm, int, str], ...] = (
    ("windowed", 7, "windows of 7, squared constants (ours)"),
    ("printed", 7, "windows of 7, as printed"),
    ("windowed", 0, "whole volume, squared constants"),
    ("printed", 0, "whole volume, as printed"),
)
PAPER_THRESHOLDS = {"entropy_sum": 1100.0, "error_sum": -100_000 / 255}
"""On our scale: the entropy as it is, errors of intensities that were divided by 255."""


def of_split(run: Path, number: int, cases: list[Case], split: str) -> list[Case]:
    """Cases of one split of a fold."""
    table = pd.read_csv(run / SPLITS, dtype=str).set_index("case")[f"fold-{number}"]
    return [case for case in cases if table.get(case.id) == split]


def appearance(case: Case, fold: Path, backend: Backend) -> dict[str, float]:
    """One test case: SSIM of its filled true lesions in each form; passes with either kind of dropout."""
    training = load_training_settings("default")
    scan = KnownCase.read(case, training.data.model_copy(update={"resample_t1": True}))
    truth = scan.transform.to_grid(scan.truth) >= 0.5
    segmenter, reconstructor = (load_network(fold / "weights", n)[0] for n in ("segmenter", "reconstructor"))
    flair = torch.from_numpy(scan.images[:1])[None]
    rebuilt = torch.from_numpy(reconstruct(reconstructor, scan.images[0], truth, backend))[None, None]
    row = {name: float(ssim_map(rebuilt, flair, form, window).mean()) for form, window, name in SSIM_FORMS}
    for kind in ("channel", "element"):
        segmenter.dropout_kind = kind
        passes = stochastic_passes(segmenter, scan.images, backend, 20, 0)
        row[f"pairwise Dice, {kind}"] = mean_pairwise_dice(passes.sample_masks)
        row[f"entropy sum, {kind}"] = voxelwise_sum(passes.entropy)
    return row


def huber(run: Path, number: int, cases: list[Case], delta: float) -> float:
    """Test error of the uncertainty regressor with this delta, learnt from out-of-fold maps."""
    fold = run / f"fold-{number}"
    settings = with_steps(load_training_settings("default"), "regressor", load_experiment("laptop").regressor_steps)
    regressor = settings.regressor.model_copy(update={"huber_delta": delta})
    settings = settings.model_copy(update={"regressor": regressor})
    files = {
        name: [fold / folder / f"{stored_name(case)}.npz" for case in of_split(run, number, cases, name)]
        for name, folder in (("train", "analyses-out-of-fold"), ("validation", "analyses"))
    }
    test = of_split(run, number, cases, "test")
    asked = {case.id: fold / "analyses" / f"{stored_name(case)}.npz" for case in test}
    predicted = fit_and_predict("uncertainty", files, asked, settings, run / "choices" / f"huber-{delta}")
    true = {case.id: read_numbers(fold / "analyses", case)["dice"] for case in test}
    return float(np.mean([abs(predicted[name] - true[name]) for name in true]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--fold", type=int, default=0)
    options = parser.parse_args()
    run, number = options.run, options.fold
    fold = run / f"fold-{number}"
    cases = read_cases(load_experiment("laptop"), run / "cohort")[0]
    backend = choose_backend(InferenceSettings(engine="torch"))
    test = of_split(run, number, cases, "test")
    numbers = pd.DataFrame([read_numbers(fold / "analyses", case) for case in test])
    appearances = pd.DataFrame([appearance(case, fold, backend) for case in test])
    dice = numbers["dice"].to_numpy()
    lines = [f"{len(test)} test cases of fold {number}, mean Dice {dice.mean():.3f}"]
    for name in appearances:
        related = stats.pearsonr(appearances[name], dice).statistic
        lines.append(f"{name:45s} mean {appearances[name].mean():10.3f}   r with the Dice {related:.2f}")
    for name, threshold in PAPER_THRESHOLDS.items():
        rejected = numbers[name] < threshold
        found = roc_auc_score(dice >= 0.75, numbers[name])
        lines.append(f"{name} below the paper's {threshold:.0f}: {rejected.sum()} rejected; AUROC of the score {found:.2f}")
    apart = (numbers["dice_native"] - numbers["dice"]).to_numpy()
    lines.append(
        f"Dice in the scan's own grid minus that on the cube: mean {apart.mean():.3f} ({apart.min():.3f} to {apart.max():.3f})"
    )
    lines += [f"Huber's delta {delta}: test error {huber(run, number, cases, delta):.3f}" for delta in (0.1, 1.0)]
    print("\n".join(lines))  # noqa: T201


if __name__ == "__main__":
    main()
