"""Is what the desk promises of unseen masks kept, and does its order find bad masks sooner than the worklist's?

python benchmarks/desk_order.py [--weights FOLDER] [--studies 300]

Studies of 100 masks are drawn from the easy and ordinary scans of 600 simulated patients that calibrated nothing. A person who
is never wrong looks at them in the order of the desk. Told are, for each share of bad masks: how many looks it took until the
desk said that another is not worth it, how many of the unseen masks were bad then, and in how many studies more were bad than
it said at any moment. Then the same where one of two sites has mostly bad masks, which the calibration does not know.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from decisions import RESULTS, read_masks, tested

from veridice.io.weight_cards import bundled_weights
from veridice.quality.calibration import CalibrationSet, expected_shortfall
from veridice.quality.decision import people_with_bad_masks
from veridice.quality.model import load_quality_model
from veridice.review.order import Worklist, standing, updated_chances, updated_gain

MIN_DICE, MAX_BAD, SIZE = 0.75, 0.05, 100


def drawn(masks: pd.DataFrame, percent: int, uneven: bool, rng: np.random.Generator) -> np.ndarray:
    """Rows of a study, and which site each is of: where ``uneven``, site 1 has four of five bad masks."""
    bad = (masks["dice"] < MIN_DICE).to_numpy()
    rows = np.concatenate([rng.choice(np.flatnonzero(bad), percent), rng.choice(np.flatnonzero(~bad), SIZE - percent)])
    likely = np.where(bad[rows], 0.8, 0.2) if uneven else np.full(SIZE, 0.5)
    return np.stack([rows, rng.random(SIZE) < likely])


def looked(work: Worklist, bad: np.ndarray, witnesses: int) -> tuple[float, float, bool, int, int]:
    """Looks until the end, share of bad masks among the unseen then, whether a bound broke, bad ones found by 30 looks of the
    desk and of the unchanged worklist."""
    seen, broken, ended, found = np.zeros(SIZE, bool), False, None, 0
    for look in range(SIZE + 1):
        if look % 5 == 0 or ended is None:
            now = standing(work, seen, bad, MAX_BAD, witnesses)
            broken |= now.at_most is not None and now.at_most < (bad & ~seen).sum()
            if ended is None and not now.worth_it:
                ended = look, float((bad & ~seen).sum() / max(1, (~seen).sum()))
        if look == 30:
            found = int((bad & seen).sum())
        if look < SIZE:
            gain = updated_gain(work, updated_chances(work, seen, bad)[0])
            seen[np.argmax(np.where(seen, -np.inf, gain))] = True
    static = int(bad[np.argsort(-work.gain, kind="stable")[:30]].sum())
    return (*(ended or (SIZE, 0.0)), broken, found, static)


def chances(masks: pd.DataFrame, calibration: CalibrationSet) -> pd.DataFrame:
    told = [expected_shortfall(calibration, p, s, MIN_DICE) for p, s in zip(masks["predicted"], masks["spread"], strict=True)]
    return masks.assign(chance=[chance for chance, _ in told], gain=[gain for _, gain in told])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=bundled_weights())
    parser.add_argument("--studies", type=int, default=300)
    arguments = parser.parse_args()
    model = load_quality_model(arguments.weights)
    masks = read_masks(RESULTS, model.predictor)
    masks = chances(masks[masks["severity"].isin(["easy", "ordinary"])].reset_index(drop=True), model.calibration)
    tests, witnesses = tested(masks, model.calibration, MIN_DICE), int(people_with_bad_masks(model.calibration, MIN_DICE))
    rng = np.random.default_rng(0)
    for uneven in (False, True):
        for percent in (5, 20, 50):
            told = []
            for _ in range(arguments.studies):
                rows, site = drawn(masks, percent, uneven, rng)
                part = masks.iloc[rows]
                columns = (part["chance"].to_numpy(), part["gain"].to_numpy(), tests.bad[rows], tests.gross[rows])
                bad = (part["dice"] < MIN_DICE).to_numpy()
                told.append(looked(Worklist(*columns, site.astype(int)), bad, witnesses))
            looks, left, broken, found, static = np.mean(told, axis=0)
            sites = "one site bad" if uneven else "sites alike"
            said = f"{looks:.0f} looks of {SIZE}, then {100 * left:.1f} % of the unseen are bad; a bound broke in {broken:.1%}"
            more = f"30 looks find {found:.1f} bad masks, by the worklist {static:.1f}"
            sys.stdout.write(f"{percent:2d} % bad, {sites}: {said} of studies; {more}\n")


if __name__ == "__main__":
    main()
