"""The curve of ``--min-dice second-expert``: simulated second readings of people of training and validation, and its fit.

python benchmarks/second_expert.py [-n 58] [-o results/judge/second-readings.csv]

Only lesions are simulated, no images: 3 to 7 s a patient on one core. ``-o`` stores the readings; without ``-n`` the stored
ones are fitted. The constants go to ``quality/second_expert.py``; a test compares them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from veridice.quality.second_expert import LOADS_ML
from veridice.simulate.acquisition import sample
from veridice.simulate.anatomy import shape_head
from veridice.simulate.cohorts import COHORTS
from veridice.simulate.donors import donors_by_name, load_anatomy
from veridice.simulate.lesions import make_lesions
from veridice.simulate.plan import PatientPlan
from veridice.simulate.second_reading import Reading, second_reading_dice

FIRST, DRAWS, ENDS = 5000, 2, 0.02


def readings_of(plan: PatientPlan) -> list[dict[str, float]]:
    """Dice of some second readings of a patient; none where no voxel is half lesion."""
    head = shape_head(load_anatomy(donors_by_name()[plan.anatomy]), plan.deformation)
    share, spacing = sample(make_lesions(head, plan.lesions), plan.flair_acquisition), plan.flair_acquisition.voxel_spacing
    if not (share >= 0.5).any():
        return []
    load, thickness = float((share >= 0.5).sum() * np.prod(spacing) / 1000), max(spacing)
    rows = []
    for draw in range(DRAWS):
        rng = np.random.default_rng([plan.seed, plan.index, draw])
        rows.append({"load_ml": load, "slice_mm": thickness, "dice": second_reading_dice(share, spacing, rng, Reading())})
    return rows


def fitted(readings: pd.DataFrame) -> np.ndarray:
    """Log odds at 1 ml and 1 mm, change with the logarithm of load and of thickness."""
    kept = readings[readings["load_ml"] >= LOADS_ML[0]]
    inputs = np.column_stack([np.ones(len(kept)), np.log(kept[["load_ml", "slice_mm"]])])
    found, *_ = np.linalg.lstsq(inputs, logit(kept["dice"].clip(ENDS, 1 - ENDS)), rcond=None)
    return np.asarray(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, help="patients of each of the two cohorts")
    parser.add_argument("-o", "--output", type=Path, default=Path("results/judge/second-readings.csv"))
    options = parser.parse_args()
    if options.n:
        plans = [COHORTS[name].plan(FIRST + index) for index in range(options.n) for name in ("training", "validation")]
        rows = [row for plan in plans for row in readings_of(plan)]
        pd.DataFrame(rows).round(4).to_csv(options.output, index=False, lineterminator="\n")
    readings = pd.read_csv(options.output)
    level, load, thickness = fitted(readings)
    lines = [f"{len(readings)} readings: {level:.3f} {load:+.3f} ln(ml) {thickness:+.3f} ln(mm)"]
    classes = pd.cut(readings["load_ml"], (0, 1, 3, 10, 30, np.inf)), pd.cut(readings["slice_mm"], (0, 1.5, 3.5, np.inf))
    lines.append(readings.groupby(list(classes), observed=True)["dice"].agg(["mean", "count"]).round(2).to_string())
    for ml, mm in ((1, 1), (1, 6), (10, 1), (15, 3), (30, 6)):
        lines.append(f"{ml} ml, {mm} mm: {expit(level + load * np.log(ml) + thickness * np.log(mm)):.2f}")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
