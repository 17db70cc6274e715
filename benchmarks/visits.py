"""Does the interval of a change between two visits hold, and is noise called a change? On simulated pairs of visits.

python benchmarks/visits.py runs/visits --donors validation -n 40
python benchmarks/visits.py runs/visits-test --donors reserved -n 40
python benchmarks/visits.py runs/visits-other --donors reserved -n 40 --other-scanner

Every second person's lesions did not change; those of the others grew or shrank by a factor between 0.5 and 2. All else is
drawn anew: the tilt of the slices, noise, receive field. The study is made and judged first (gone on with when it was
interrupted).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from veridice.cohort.visits import measure_pair, visits_of
from veridice.io.bids_dataset import find_scans
from veridice.quality.volume_change import doubt
from veridice.simulate.cohorts import TRUTH, Cohort, write_cohort

SEED = 91
LOADS, SLICES = (0, 3, 10, 30, np.inf), (0, 1.5, 3.5, np.inf)


def truth(folder: Path, scan: str) -> tuple[float, float]:
    """True lesion load in ml, and the largest edge of a voxel of the FLAIR in mm."""
    place = folder / TRUTH / Path(*scan.split("_")) / "anat" / f"{scan}_desc-simulation_parameters.json"
    made = json.loads(place.read_text())
    return made["lesion_load_ml"], max(made["plan"]["flair_acquisition"]["voxel_spacing"])


def measure(folder: Path) -> pd.DataFrame:
    """A row a pair: true and measured change, and its doubt."""
    rows = []
    for first, second in visits_of(folder / "out", find_scans(folder), {}):
        pair = measure_pair(first, second)
        (before, slices), (after, _) = truth(folder, pair.first), truth(folder, pair.second)
        unchanged = int(pair.participant.removeprefix("sub-")) % 2 == 1
        true = {"before": before, "after": after, "slice_mm": slices, "unchanged": unchanged}
        volumes = first.volume, second.volume
        passes = [np.array(volume.passes_ml) for volume in volumes]
        told = pair.model_dump(exclude={"lesions"})
        rows.append(
            {
                **told,
                **pair.lesions,
                **true,
                "doubt_ml": doubt(*volumes),
                "passes_ml": float(np.std(passes[1] - passes[0], ddof=1)),
                "predicted_before": first.assessment.predicted_dice,
                "predicted_after": second.assessment.predicted_dice,
                "true_change": true["after"] - true["before"],
            }
        )
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--donors", default="validation")
    parser.add_argument("-n", type=int, default=40)
    parser.add_argument("--other-scanner", action="store_true", help="at the second visit")
    arguments = parser.parse_args()
    folder = arguments.folder
    easy_and_ordinary = (0.5, 0.5, 0.0, 0.0)
    cohort = Cohort("visits", SEED, arguments.donors, easy_and_ordinary, same_scanner=not arguments.other_scanner)
    write_cohort(folder, cohort, arguments.n, jobs=2, visits=2)
    command = [
        sys.executable,
        "-m",
        "veridice",
        "run",
        str(folder),
        str(folder / "out"),
        "participant",
        "--skip-bids-validation",
    ]
    subprocess.run(command, check=True)
    table = measure(folder)
    table.to_csv(folder / "pairs.csv", index=False)
    tell(table)


def quantile(scores: pd.Series[float], share: float) -> float:
    """That a further score stays below with this chance (split conformal prediction); the largest where there are too few."""
    place = min(len(scores), int(np.ceil(share * (len(scores) + 1))))
    return float(np.sort(scores)[place - 1])


def tell(table: pd.DataFrame) -> None:
    """What came of it."""
    error = (table["change_ml"] - table["true_change"]).abs()
    inside = (table["true_change"] >= table["change_low_ml"]) & (table["true_change"] <= table["change_high_ml"])
    same, told = table["unchanged"], table["more_than_noise"]
    right = np.sign(table["change_ml"]) == np.sign(table["true_change"])
    scores = error / table["doubt_ml"]
    fitted = f"WITHIN {quantile(scores, 0.9):.2f}, NOISE {quantile(scores[same], 0.95):.2f}"
    least, load = table["least_change_ml"].median(), table["before"].median()
    for line in (
        f"{len(table)} pairs; what would fit them: {fitted}",
        f"interval holds for {inside.mean():.1%}; unchanged pairs called changed {told[same].mean():.1%}",
        f"changed pairs told {told[~same].mean():.1%}, with the right sign {right[~same & told].mean():.1%}",
        f"smallest change that can be told, median {least:.2f} ml of {load:.1f} ml",
    ):
        sys.stdout.write(line + "\n")
    groups = {"load, ml": ("before", LOADS), "slices, mm": ("slice_mm", SLICES)}
    for name, (column, limits) in groups.items():
        for key, part in table.groupby(pd.cut(table[column], limits), observed=True):
            least, matched = part["least_change_ml"].median(), part["agreement"].notna().mean()
            held = f"interval {inside[part.index].mean():.0%}, least change {least:.2f} ml, lesions matched in {matched:.0%}"
            sys.stdout.write(f"  {name} {key}: {len(part)} pairs, {held}\n")


if __name__ == "__main__":
    main()
