"""What the cube costs: Dice of real lesion masks after native grid -> cube -> native grid, by load and slice thickness.

The ceiling for any network on that cube. ``soft``: the cube holds the share of each voxel, as a probability map can;
``linear``: the same, brought back trilinearly instead of by cubic splines; ``hard``: the cube holds zeros and ones.

    python benchmarks/grid_ceiling.py --data FOLDER --manifest data/training.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from veridice.case import Case
from veridice.imaging.grid import fit_grid
from veridice.imaging.volume import Geometry, Volume
from veridice.io.datasets import read_manifest
from veridice.io.nifti import read_image, read_mask
from veridice.metrics.overlap import dice

LOADS_ML = (0.0, 1.0, 2.0, 10.0, np.inf)


def thicken(volume: Volume, factor: int) -> Volume:
    """Average ``factor`` axial slices into one; the geometry follows."""
    slices = volume.shape[2] // factor * factor
    voxels = volume.voxels[:, :, :slices].astype(np.float32)
    merged = voxels.reshape(*volume.shape[:2], -1, factor).mean(axis=3)
    step = np.diag([1.0, 1.0, factor, 1.0])
    step[2, 3] = (factor - 1) / 2
    return Volume(merged, Geometry(merged.shape, volume.affine @ step))


def ceilings(case: Case, edge: int, factor: int) -> dict[str, object]:
    """Load, slice thickness and both ceilings of one mask."""
    flair = read_image(Path(str(case.flair)))
    mask = read_mask(Path(str(case.mask)), flair.geometry)
    if factor > 1:
        flair = thicken(flair, factor)
        mask = flair.with_voxels(thicken(mask, factor).voxels >= 0.5)
    transform = fit_grid(flair, (edge,) * 3)
    on_cube = transform.to_grid(mask.voxels)
    return {
        "case": case.id,
        "thickness_mm": round(max(flair.geometry.voxel_spacing), 1),
        "ml": mask.voxels.sum() * flair.geometry.voxel_volume_ml,
        "soft": dice(transform.to_native(on_cube, order=3) >= 0.5, mask.voxels).dice,
        "linear": dice(transform.to_native(on_cube) >= 0.5, mask.voxels).dice,
        "hard": dice(transform.to_native(on_cube >= 0.5, order=3) >= 0.5, mask.voxels).dice,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, default=Path("data/training.csv"))
    parser.add_argument("--edge", type=int, default=128)
    parser.add_argument("--cases", action="store_true", help="also print every case")
    arguments = parser.parse_args()
    cases = [case for case in read_manifest(arguments.manifest, arguments.data) if case.mask is not None]
    rows = [ceilings(case, arguments.edge, 1) for case in cases]
    rows += [ceilings(case, arguments.edge, factor) for case in cases if case.kind == "lesions" for factor in (3, 6)]
    table = pd.DataFrame(rows)
    table["thickness_mm"] = pd.cut(table["thickness_mm"], (0, 1.5, 4, 6.2, 10), labels=["1", "3", "6", "6.4-8.1 (real)"])
    table["load_ml"] = pd.cut(table["ml"], LOADS_ML, right=False, labels=["<1", "1-2", "2-10", ">=10"])
    if arguments.cases:
        print(table.round(3).to_string())  # noqa: T201
    groups = table.groupby(["thickness_mm", "load_ml"], observed=True)
    summary = groups.agg(
        n=("soft", "size"),
        soft_min=("soft", "min"),
        soft_median=("soft", "median"),
        linear_min=("linear", "min"),
        hard_min=("hard", "min"),
        hard_median=("hard", "median"),
    )
    print(summary.round(3).to_string())  # noqa: T201


if __name__ == "__main__":
    main()
