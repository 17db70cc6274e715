"""The mean brain of the donors, against which the way up of a scan is checked. usage: python scripts/mean_brain.py"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from veridice.imaging.foreground import box_around
from veridice.quality.placement_checks import TEMPLATE, shrunk

DONORS = Path(__file__).parents[1] / "src" / "veridice" / "donors"
FLAIR = {1: 0.1, 2: 0.7, 3: 0.55}
"""Brightness of fluid, grey and white matter."""


def main() -> None:
    found = []
    for path in sorted(DONORS.glob("anatomy-*.nii.gz")):
        labels = np.asarray(nib.as_closest_canonical(nib.load(path)).dataobj)
        labels = labels[tuple(slice(start, stop) for start, stop in box_around(labels > 0))]
        flair = sum(value * (labels == label) for label, value in FLAIR.items())
        found.append([shrunk((labels > 0).astype(np.float32)), shrunk(np.asarray(flair, np.float32))])
    shape, flair = np.mean(found, axis=0)
    both = {"shape": shape, "flair": flair}
    np.savez_compressed(
        DONORS / TEMPLATE, **{name: ((part + part[::-1]) / 2).astype(np.float16) for name, part in both.items()}
    )


if __name__ == "__main__":
    main()
