"""How often the warning about swapped images is right: labelled scans, as whole heads and skull-stripped, and simulated ones.

python benchmarks/swap_warning.py --data FOLDER [--manifest data/training.csv] [--simulated 40]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from veridice.assessment.analysis import find_brain
from veridice.assessment.models import load_models
from veridice.config import InferenceSettings
from veridice.imaging.grid import fit_grid, grid_images, resample_to
from veridice.imaging.scan import Scan
from veridice.inference.passes import choose_backend
from veridice.io.datasets import read_manifest
from veridice.io.nifti import read_image
from veridice.io.weight_cards import bundled_weights
from veridice.quality.image_checks import looks_swapped
from veridice.simulate.cohorts import COHORTS
from veridice.training.assessed_masks import simulated_scan

GOOD = ("easy", "ordinary")


def real(manifest: Path, data: Path) -> Iterator[Scan]:
    """Labelled scans with their T1w, with all but the brain set to 0 too where the brain is known."""
    for case in read_manifest(manifest, data):
        flair, t1 = read_image(Path(str(case.flair))), read_image(Path(str(case.t1)))
        t1 = resample_to(t1, flair.geometry)
        yield Scan(flair, t1)
        if case.brain_mask:
            brain = read_image(Path(str(case.brain_mask))).voxels > 0
            yield Scan(*(image.with_voxels(np.where(brain, image.voxels, 0)) for image in (flair, t1)))


def simulated(count: int) -> Iterator[Scan]:
    """Easy and ordinary patients of the training cohort."""
    plans = (COHORTS["training"].plan(index) for index in range(10 * count))
    for plan in [plan for plan in plans if plan.severity in GOOD][:count]:
        yield simulated_scan(plan, -1).scan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, default=Path("data/training.csv"))
    parser.add_argument("--simulated", type=int, default=40)
    arguments = parser.parse_args()
    models, backend = load_models(bundled_weights()), choose_backend(InferenceSettings())
    for title, scans in (("real", real(arguments.manifest, arguments.data)), ("simulated", simulated(arguments.simulated))):
        told = []
        for scan in scans:
            transform = fit_grid(scan.flair, models.grid_shape)
            right = grid_images(scan.flair, scan.t1, transform)
            for images in (right, right[::-1].copy()):
                brain, _ = find_brain(scan, images, transform, *models.brain_finder, backend)
                told.append(looks_swapped(images[0], images[1], brain))
        false, found = sum(told[::2]), sum(told[1::2])
        sys.stdout.write(f"{title}: {len(told) // 2} pairs, {false} right ones warned about, {found} swapped ones found\n")


if __name__ == "__main__":
    main()
