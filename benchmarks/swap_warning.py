"""How often the warning about swapped images is right, on labelled scans as whole heads and skull-stripped.

python benchmarks/swap_warning.py --data FOLDER --manifest data/training.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from veridice.case import Case
from veridice.input_checks import looks_swapped
from veridice.io.datasets import read_manifest
from veridice.io.nifti import read_image
from veridice.spatial import fit_grid, scan_on_grid
from veridice.types import Voxels


def pair(case: Case, stripped: bool) -> tuple[Voxels, Voxels]:
    """FLAIR and T1w on the cube."""
    flair, t1 = read_image(Path(str(case.flair))), read_image(Path(str(case.t1)))
    if stripped:
        brain = read_image(Path(str(case.brain_mask))).voxels > 0
        flair, t1 = (image.with_voxels(np.where(brain, image.voxels, 0)) for image in (flair, t1))
    transform = fit_grid(flair, (128, 128, 128))
    return scan_on_grid(flair, transform), scan_on_grid(t1, transform)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, default=Path("data/training.csv"))
    arguments = parser.parse_args()
    cases = [case for case in read_manifest(arguments.manifest, arguments.data) if case.kind == "real"]
    pairs = [pair(case, stripped) for case in cases for stripped in (False, True) if case.brain_mask or not stripped]
    false = sum(looks_swapped(flair, t1) for flair, t1 in pairs)
    found = sum(looks_swapped(t1, flair) for flair, t1 in pairs)
    print(f"{len(pairs)} pairs: {false} right ones warned about, {found} swapped ones found")  # noqa: T201


if __name__ == "__main__":
    main()
