"""By which rule should masks of a study be accepted together? On people of training: half calibrate, half are tested.

pip install score-select
python benchmarks/study_rules.py [--results results/judge]

Studies of 100 masks with 5, 20 and 50 % bad ones are drawn from the tested people, in many random halves. Rules:
class-conditional p-values with Storey and Benjamini-Hochberg at 5 %, with caps on each p-value and with or without the test for
gross failures; SCoRE (arXiv:2603.24704) for the loss max(0, needed Dice - Dice) / needed Dice at some levels; the single test.
For each: of the accepted the share of bad ones / of the masks better by 0.03 the share that is accepted / of the gross failures
likewise.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pandas as pd
from decision_score import left_out
from SCoRE.SCoRE import SCoRE_SDR

from veridice.quality.calibration import CalibrationSet
from veridice.quality.decision import GROSS, PValues, decide_study, p_values
from veridice.training.assessed_masks import masks_to_learn

HALVES, STUDIES, SIZE, BETTER = 40, 2, 100, 0.03
CAPS, LOSSES, MAX_BAD = (0.03, 0.05, 0.10, 1.0), (0.01, 0.02, 0.05), 0.05


def accepted_by_rule(tests: PValues, known: CalibrationSet, margins: np.ndarray, min_dice: float) -> dict[str, np.ndarray]:
    """Which masks of a study each rule accepts."""
    without = PValues(tests.bad, np.zeros(SIZE), tests.good, 1.0)
    found = {"single test": tests.acceptable(MAX_BAD)}
    for cap in CAPS:
        found[f"cap {cap:.2f}, gross tested"] = decide_study(tests, MAX_BAD, cap).accepted
        found[f"cap {cap:.2f}"] = decide_study(without, MAX_BAD, cap).accepted
    losses = (min_dice - np.array(known.dice)).clip(0) / min_dice
    known_margins = (np.array(known.predicted) - min_dice) / np.array(known.spread)
    for level in LOSSES:
        chosen = SCoRE_SDR((losses, -known_margins), -margins, level, level)
        found[f"SCoRE, loss {level:.2f}"] = np.isin(np.arange(SIZE), chosen)
    return found


def figures(masks: pd.DataFrame, min_dice: float) -> list[str]:
    rng, people = np.random.default_rng(0), masks["person"].unique()
    ordinary = masks["severity"].isin(["easy", "ordinary"]) | ~masks["simulated"].astype(bool)
    found = defaultdict(list)
    for _ in range(HALVES):
        half = masks["person"].isin(rng.permutation(people)[: len(people) // 2])
        known = masks[half].reset_index(drop=True)
        new = masks[~half & ordinary].reset_index(drop=True)
        calibration = CalibrationSet.of(known["predicted"], known["spread"], known, "half of the people", simulated=True)
        tests = p_values(calibration, new["predicted"].to_numpy(), new["spread"].to_numpy(), min_dice)
        margins, bad = ((new["predicted"] - min_dice) / new["spread"]).to_numpy(), (new["dice"] < min_dice).to_numpy()
        for percent in (5, 20, 50):
            for _ in range(STUDIES):
                rows = np.concatenate(
                    [rng.choice(np.flatnonzero(bad), percent), rng.choice(np.flatnonzero(~bad), SIZE - percent)]
                )
                part = PValues(tests.bad[rows], tests.gross[rows], tests.good[rows], tests.max_gross)
                dice = new["dice"].to_numpy()[rows]
                wanted, gross = dice >= min_dice + BETTER, dice < min_dice - GROSS
                for rule, taken in accepted_by_rule(part, calibration, margins[rows], min_dice).items():
                    rate = bad[rows][taken].mean() if taken.any() else 0.0
                    found[rule, percent].append((rate, taken[wanted].mean(), taken[gross].mean() if gross.any() else np.nan))
    lines = [f"Dice {min_dice}; 5, 20, 50 % bad: bad among the accepted / power / gross failures accepted"]
    for rule in dict.fromkeys(rule for rule, _ in found):
        cells = [np.nanmean(found[rule, percent], axis=0) for percent in (5, 20, 50)]
        texts = [f"{rate:.3f} / {power:.2f} / {100 * gross:4.1f} %" for rate, power, gross in cells]
        lines.append(f"{rule:26s} {'   '.join(texts)}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results/judge"))
    masks = left_out(masks_to_learn(parser.parse_args().results))
    masks = masks[masks["doubts"] == 0].reset_index(drop=True)
    lines = [f"{len(masks)} masks of {masks['person'].nunique()} people of training, predicted without them"]
    for min_dice in (0.7, 0.75):
        lines += figures(masks, min_dice)
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
