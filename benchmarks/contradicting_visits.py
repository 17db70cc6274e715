"""Where one of two visits has a wrong mask that looks good alone: is it noticed, and is the right visit named?

    python benchmarks/contradicting_visits.py runs/pairs-reserved

The folder is that of ``benchmarks/visits.py``, which makes the pairs of visits and judges our own masks. Here a second mask of
every scan is made, damaged in one of the ways that masks of users are, and judged too. Then each pair is looked at three times:
with both own masks, with a damaged one at the earlier visit, and with a damaged one at the later visit.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from veridice.cohort.visits import LEAST_PREDICTED, Visit, measure_pair, visits_of
from veridice.io.bids_dataset import BidsScan, find_scans
from veridice.io.nifti import read_image, read_mask, write_image
from veridice.metrics.overlap import dice
from veridice.simulate.cohorts import TRUTH
from veridice.training.graded_masks import NativeMaterial, draw_graded, graded_mask

SEED = 92
AS_GOOD = 0.15
"""A mask is wrong where its true Dice is lower than that of our own by more than this."""


def damage(folder: Path, scan: BidsScan, number: int) -> None:
    """A mask of ``scan`` of any quality, drawn once."""
    name = f"{scan.name}_label-lesion_mask.nii.gz"
    target = folder / "damaged" / scan.folder / name
    if target.exists():
        return
    rng = np.random.default_rng([SEED, number])
    flair = read_image(scan.flair)
    own = folder / "out" / scan.folder
    probability = read_image(own / f"{scan.name}_label-lesion_probseg.nii.gz", flair.geometry).voxels
    brain = read_mask(own / f"{scan.name}_desc-brain_mask.nii.gz", flair.geometry).voxels
    truth = read_mask(folder / TRUTH / scan.folder / name, flair.geometry).voxels
    material = NativeMaterial(truth, flair.voxels, brain, probability, flair.geometry.voxel_spacing)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_image(target, flair.with_voxels(graded_mask(draw_graded(1, rng)[0], material, rng)))


def true_dice(folder: Path, visit: Visit) -> float:
    """Of the judged mask."""
    file = folder / TRUTH / visit.scan.folder / f"{visit.scan.name}_label-lesion_mask.nii.gz"
    mask = visit.mask()
    return dice(mask.voxels, read_mask(file, mask.geometry).voxels).dice


def looked_at(folder: Path) -> Iterator[dict[str, object]]:
    """A row a pair and way of looking at it: which visit is wrong, what the doubt says."""
    scans = find_scans(folder)
    own = list(visits_of(folder / "out", scans, {}))
    damaged = list(visits_of(folder / "out-damaged", scans, {}))
    for (first, second), (worse_first, worse_second) in zip(own, damaged, strict=True):
        good = [true_dice(folder, visit) for visit in (first, second)]
        ways = {"": (first, second), "earlier": (worse_first, second), "later": (first, worse_second)}
        for wrong, pair in ways.items():
            measured = measure_pair(*pair)
            true = [true_dice(folder, visit) for visit in pair]
            yield {
                "participant": measured.participant,
                "damaged": wrong,
                "worse_by": max(before - now for before, now in zip(good, true, strict=True)),
                "predicted": min(visit.assessment.predicted_dice for visit in pair),
                "changed": int(measured.participant.removeprefix("sub-")) % 2 == 0,
                "doubt": measured.doubt,
            }


def tell(table: pd.DataFrame) -> None:
    """How often a wrong mask is noticed, and the right visit named."""
    table = table[table["predicted"] >= LEAST_PREDICTED]
    noticed = table["doubt"].str.contains("one is likely wrong")
    right = [f"of the {wrong} visit" in doubt for wrong, doubt in zip(table["damaged"], table["doubt"], strict=True)]
    table = table.assign(noticed=noticed, named=noticed & pd.Series(right, index=table.index))
    untouched, wrong = table["damaged"] == "", (table["damaged"] != "") & (table["worse_by"] > AS_GOOD)
    for kind, part in (("both own masks", table[untouched]), (f"one mask worse by more than {AS_GOOD}", table[wrong])):
        for changed, group in part.groupby("changed"):
            lesions = "changed" if changed else "the same"
            told = (
                f"noticed {group['noticed'].mean():.0%}, right visit named {group['named'].sum()} of {group['noticed'].sum()}"
            )
            sys.stdout.write(f"{kind}, lesions {lesions}: {len(group)} pairs that look good alone, {told}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of benchmarks/visits.py")
    folder = parser.parse_args().folder
    for number, scan in enumerate(find_scans(folder)):
        damage(folder, scan, number)
    command = [sys.executable, "-m", "veridice", "run", str(folder), str(folder / "out-damaged"), "participant"]
    subprocess.run([*command, "--masks", str(folder / "damaged"), "--skip-bids-validation"], check=True)
    table = pd.DataFrame(looked_at(folder))
    table.to_csv(folder / "contradictions.csv", index=False)
    tell(table)


if __name__ == "__main__":
    main()
