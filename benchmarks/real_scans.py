"""How good the segmenter is on real scans it never saw: zero-shot (simulation only) and grouped k-fold, fine-tuned.

python benchmarks/real_scans.py --data FOLDER --start runs/simulation/weights -o runs/real [--folds 5] [--steps 300]

Each fold fine-tunes from the simulation-only start, on whole cubes, on the other folds' patients (one of them, and simulated
patients, are its validation) and is judged once on its own. Finished folds are kept. Dice is in each scan's own grid, 20
passes.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from own_mask import own_mask
from torch import nn

from veridice.case import Case
from veridice.config import InferenceSettings
from veridice.inference.weights import load_network
from veridice.io.datasets import read_manifest
from veridice.io.labelled_scan import rim
from veridice.io.nifti import read_image, read_mask
from veridice.metrics.overlap import dice
from veridice.simulate.donors import donor_names
from veridice.training.settings import DataSettings, TrainingSettings, load_training_settings, on_whole_cubes, with_steps
from veridice.training.unets import train_segmenter

RIM_MM = DataSettings().rim_mm


def measured(case: Case, network: nn.Module, grid: int, label: str) -> dict[str, object]:
    """One row: Dice as labelled, without the unlabelled rim, without T1w; volumes; what was found outside the brain."""
    flair = read_image(Path(str(case.flair)))
    millilitre = flair.geometry.voxel_volume_ml
    truth = read_mask(Path(str(case.mask)), flair.geometry).voxels
    judged = ~rim(case, flair, truth, RIM_MM)
    t1 = read_image(case.t1, flair.geometry) if case.t1 else None
    found, alone = (own_mask(flair, second, network, grid, InferenceSettings()) for second in (t1, None))
    outside = np.nan
    if case.brain_mask:
        outside = (found & ~read_mask(case.brain_mask, flair.geometry).voxels).sum() * millilitre
    return {
        "case": case.id,
        "weights": label,
        "true_ml": truth.sum() * millilitre,
        "found_ml": found.sum() * millilitre,
        "dice": dice(found, truth).dice,
        "dice_without_rim": dice(found & judged, truth & judged).dice,
        "dice_flair_only": dice(alone, truth).dice,
        "outside_brain_ml": outside,
    }


def folds_of(cases: list[Case], folds: int) -> list[list[str]]:
    """Patients of each fold; those of large and small load are dealt out in turn."""
    load = {case.patient: read_mask(Path(str(case.mask)), read_image(Path(str(case.flair))).geometry) for case in cases}
    order = sorted(load, key=lambda patient: load[patient].voxels.sum() * load[patient].geometry.voxel_volume_ml)
    return [order[number::folds] for number in range(folds)]


def fine_tune(settings: TrainingSettings, cases: list[Case], left_out: list[str], number: int, start: Path, run: Path) -> Path:
    """Train on everybody but ``left_out``; returns the folder of weights."""
    others = sorted({case.patient for case in cases} - set(left_out))
    checked = others[number % len(others)]
    split = [
        replace(case, split="validation" if case.patient == checked else "train")
        for case in cases
        if case.patient not in left_out
    ]
    train_segmenter(settings, split, run / "segmenter", run / "weights", start)
    return run / "weights"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, default=Path("data/training.csv"))
    parser.add_argument("--config", default="default")
    parser.add_argument("--start", type=Path, required=True)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/real"))
    parser.add_argument("--zero-shot-only", action="store_true")
    arguments = parser.parse_args()
    cases = read_manifest(arguments.manifest, arguments.data)
    base = on_whole_cubes(with_steps(load_training_settings(arguments.config), "segmenter", arguments.steps), "segmenter")
    stage = base.segmenter.model_copy(update={"validate_every": 100, "keep_at": ()})
    # Donor group 2 stays out: simulated patients made of Lesjak 07 would show a left-out patient. Its other real patients,
    # of whom the simulator has nothing, may be learnt from: they go to the first group.
    donors = [",".join(name for name in people.split(",") if name in donor_names()) for people in base.data.donor_groups]
    donors[0] = ",".join([donors[0], *sorted({case.patient for case in cases} - donor_names())])
    data = base.data.model_copy(update={"donor_groups": tuple(donors), "left_out": (2,), "simulated_fraction": 0.4})
    settings = base.model_copy(update={"segmenter": stage, "data": data})
    arguments.output.mkdir(parents=True, exist_ok=True)
    start, card = load_network(arguments.start, "segmenter")
    tables = [pd.DataFrame([measured(case, start, card.grid, "zero-shot") for case in cases])]
    for number, left_out in enumerate([] if arguments.zero_shot_only else folds_of(cases, arguments.folds)):
        table = arguments.output / f"fold-{number}.csv"
        if not table.exists():
            run = arguments.output / f"fold-{number}"
            weights = fine_tune(settings, cases, left_out, number, arguments.start, run)
            network, card = load_network(weights, "segmenter")
            rows = [measured(case, network, card.grid, f"fold {number}") for case in cases if case.patient in left_out]
            pd.DataFrame(rows).to_csv(table, index=False)
        tables.append(pd.read_csv(table))
    result = pd.concat(tables)
    result.to_csv(arguments.output / "real.csv", index=False)
    print(result.round(3).to_string(index=False))  # noqa: T201
    for name, rows in result.groupby(result["weights"].str.startswith("fold").map({True: "k-fold", False: "zero-shot"})):
        large = rows[rows["true_ml"] >= 10]
        print(  # noqa: T201
            f"{name}: median Dice {rows['dice'].median():.3f}, from 10 ml {large['dice'].median():.3f} (n={len(large)}), "
            f"FLAIR only {rows['dice_flair_only'].median():.3f}, without rim {rows['dice_without_rim'].median():.3f}, "
            f"outside the brain median {rows['outside_brain_ml'].median():.3f} most {rows['outside_brain_ml'].max():.3f} ml"
        )


if __name__ == "__main__":
    main()
