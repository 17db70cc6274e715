"""Are the promises of the decision kept? On simulated people who calibrated nothing, and on real ones who were left out.

python benchmarks/decisions.py [--table results/judge/coverage-masks.csv.gz] [--calibration FILE] [--max-missed 0.05]

For each needed Dice: of the bad masks the share that is accepted, of the gross failures (worse by 0.10) too, of the good ones
the share that is rejected, and of those better by 0.03 the share that is accepted (power), with 95 % intervals over patients;
by kind, severity, load, slice thickness. Then whole studies of 100 masks, drawn 1,000 times, with 5, 20 and 50 % bad ones: how
many of the accepted are bad, power, gross failures accepted.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from veridice.io.weight_cards import bundled_weights
from veridice.metrics.failure_detection import bootstrap
from veridice.quality.calibration import CalibrationSet, read_calibration
from veridice.quality.decision import CAP, GROSS, Limits, PValues, decide_study, p_values
from veridice.quality.model import load_quality_model

BETTER = 0.03
"""A mask that is better by this much than it has to be should be accepted."""
LOADS, THICKNESSES = (0, 3, 10, 30, np.inf), (0, 1.5, 3.5, np.inf)
STUDIES, SIZE = 1000, 100


def read_masks(path: Path) -> pd.DataFrame:
    """Judged masks that are not empty, of scans that may be accepted at all, with prediction and spread."""
    masks = pd.read_csv(path, keep_default_na=False, na_values=[""])
    possible = (masks["lesion_count"] > 0) & (masks["unfamiliarity"] <= 1) & (masks["doubts"] == 0)
    masks = masks[possible].reset_index(drop=True)
    predicted, spread = load_quality_model(bundled_weights()).predictor.predict(masks)
    return masks.assign(predicted=predicted, spread=spread)


def tested(masks: pd.DataFrame, calibration: CalibrationSet, min_dice: float) -> PValues:
    """p-values of every mask."""
    return p_values(calibration, masks["predicted"].to_numpy(), masks["spread"].to_numpy(), min_dice)


def share(happened: np.ndarray, among: pd.Series, people: pd.Series) -> str:
    """Of some masks the share with which something happened, with its interval over people."""
    values, clusters = happened[among].astype(float), people[among].to_numpy()
    if not len(values):
        return "none".rjust(24)
    found = bootstrap(lambda v: float(v.mean()), values, clusters=clusters, resamples=1000)
    return f"{100 * values.mean():5.1f} % ({found.low * 100:4.1f} to {found.high * 100:4.1f})"


def line(name: str, masks: pd.DataFrame, verdict: np.ndarray, min_dice: float) -> str:
    """One row of the report."""
    dice, people = masks["dice"], masks["person"]
    accepted, rejected = verdict == "accept", verdict == "reject"
    bad = dice < min_dice
    parts = [
        f"bad accepted {share(accepted, bad, people)}",
        f"gross {share(accepted, dice < min_dice - GROSS, people)}",
        f"power {share(accepted, dice >= min_dice + BETTER, people)}",
        f"good rejected {share(rejected, ~bad, people)}",
    ]
    return f"{name:26s} n {len(masks):5d}  {'  '.join(parts)}"


def single(masks: pd.DataFrame, calibration: CalibrationSet, limits: Limits) -> list[str]:
    """What comes of every mask by itself."""
    verdict = np.array(tested(masks, calibration, limits.min_dice).verdicts(limits))
    easy = masks["severity"].isin(["easy", "ordinary"])
    groups = {
        "": pd.Series("all", masks.index),
        "scans": easy.map({True: "easy and ordinary", False: "hard and broken"}),
        "kind": masks["kind"],
        "load, ml": pd.cut(masks["load_ml"], LOADS, right=False).astype(str),
        "slices, mm": pd.cut(masks["slice_thickness"], THICKNESSES, right=False).astype(str),
    }
    lines = []
    for title, group in groups.items():
        for name in sorted(group.unique()):
            chosen = (group == name).to_numpy()
            rows = masks[chosen].reset_index(drop=True)
            lines.append(line(f"{title} {name}".strip(), rows, verdict[chosen], limits.min_dice))
    return lines


def studies(masks: pd.DataFrame, calibration: CalibrationSet, limits: Limits, cap: float) -> list[str]:
    """What comes of studies that are drawn from the easy and ordinary scans."""
    rows = masks[masks["severity"].isin(["easy", "ordinary"])].reset_index(drop=True)
    dice, tests = rows["dice"].to_numpy(), tested(rows, calibration, limits.min_dice)
    bad = dice < limits.min_dice
    rng = np.random.default_rng(0)
    lines = []
    for percent in (5, 20, 50):
        found = []
        for _ in range(STUDIES):
            chosen = np.concatenate(
                [rng.choice(np.flatnonzero(bad), percent), rng.choice(np.flatnonzero(~bad), SIZE - percent)]
            )
            part = PValues(tests.bad[chosen], tests.gross[chosen], tests.good[chosen], tests.max_gross)
            study = decide_study(part, limits.max_missed, cap)
            true, taken = dice[chosen], study.accepted
            wanted, gross = true >= limits.min_dice + BETTER, true < limits.min_dice - GROSS
            found.append(
                (
                    bad[chosen][taken].mean() if taken.any() else 0.0,
                    taken[wanted].mean(),
                    taken[gross].mean() if gross.any() else 0.0,
                    study.expected_bad,
                )
            )
        rate, power, gross, expected = np.mean(found, axis=0)
        said = f"of the accepted bad {rate:.3f} (said: {expected:.3f})  power {power:.2f}  gross accepted {100 * gross:.1f} %"
        lines.append(f"studies with {percent:2d} % bad masks: {said}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=Path("results/judge/coverage-masks.csv.gz"))
    parser.add_argument("--calibration", type=Path, default=bundled_weights() / "calibration.json")
    parser.add_argument("--max-missed", type=float, default=0.05)
    parser.add_argument("--cap", type=float, default=CAP)
    options = parser.parse_args()
    masks, calibration = read_masks(options.table), read_calibration(options.calibration)
    for min_dice in (0.7, 0.75):
        limits = Limits(min_dice, options.max_missed)
        title = f"Dice {min_dice}: {len(masks)} masks of {masks['person'].nunique()} patients, {calibration.source}"
        lines = [title, *single(masks, calibration, limits), *studies(masks, calibration, limits, options.cap)]
        sys.stdout.write("\n".join(lines) + "\n\n")


if __name__ == "__main__":
    main()
