"""Is it told when a scan is not wholly or rightly shown? Faults made of real scans, and the scans as they are.

python benchmarks/shown_scans.py FOLDER [FOLDER ...]

Each FOLDER holds, at any depth, folders with flair.nii.gz and perhaps t1.nii.gz. Every fault has the codes of the warnings that
may name it. Told: one of them is there. Clean: the share of the unchanged scans with any of these warnings.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np

import veridice
from veridice.errors import InputError

Image = tuple[np.ndarray, np.ndarray]
"""Voxels (x, y, z) from left to right, back to front, bottom to top, and the affine."""


def cut(share: float) -> Callable[[Image], Image]:
    """Without the top slices."""
    return lambda image: (image[0][:, :, : -max(1, round(share * image[0].shape[2]))], image[1])


def wrapped(image: Image) -> Image:
    return np.roll(image[0], image[0].shape[1] // 4, 1), image[1]


def swapped(image: Image) -> Image:
    voxels, count = image[0].copy(), image[0].shape[2]
    one, other = count * 9 // 20, count * 12 // 20
    voxels[:, :, [one, other]] = voxels[:, :, [other, one]]
    return voxels, image[1]


def with_slice(change: Callable[[np.ndarray, int], None]) -> Callable[[Image], Image]:
    """With one change at the middle slice."""

    def made(image: Image) -> Image:
        voxels = image[0].copy()
        change(voxels, voxels.shape[2] // 2)
        return voxels, image[1]

    return made


def black(voxels: np.ndarray, middle: int) -> None:
    voxels[:, :, middle] = 0


def doubled(voxels: np.ndarray, middle: int) -> None:
    voxels[:, :, middle + 1] = voxels[:, :, middle]


def darker(voxels: np.ndarray, _middle: int) -> None:
    voxels[:, :, ::2] *= 0.75


def upside_down(image: Image) -> Image:
    return image[0][:, :, ::-1], image[1]


def back_to_front(image: Image) -> Image:
    return image[0][:, ::-1], image[1]


SLICES = {"black_slices", "slice_order", "doubled_slices", "uneven_slices"}
FAULTS: dict[str, tuple[Callable[[Image], Image], set[str]]] = {
    "top 20 % of the slices cut off": (cut(0.2), {"brain_cut_off"}),
    "top 35 % of the slices cut off": (cut(0.35), {"brain_cut_off"}),
    "wrapped around the border": (wrapped, {"wrapped"}),
    "two slices exchanged": (swapped, SLICES),
    "one slice black": (with_slice(black), SLICES),
    "one slice twice": (with_slice(doubled), SLICES),
    "every second slice darker by a quarter": (with_slice(darker), SLICES),
    "upside down": (upside_down, {"head_turned"}),
    "back to front": (back_to_front, {"head_turned"}),
}
STRANGER = "T1w of another person"
CODES = set().union(*(codes for _, codes in FAULTS.values())) | {"another_person"}


def read(path: Path) -> nib.Nifti1Image:
    return nib.as_closest_canonical(nib.load(path))


def codes_of(flair: nib.Nifti1Image, t1: nib.Nifti1Image | None, models: object) -> set[str]:
    """What is said of a scan; a refusal counts as nothing said."""
    try:
        return set(veridice.check(flair, t1, models=models).assessment.warning_codes)
    except InputError as error:
        sys.stderr.write(f"refused: {error}\n")
        return set()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    scans = [flair for folder in parser.parse_args().folders for flair in sorted(folder.rglob("flair.nii.gz"))]
    models = veridice.load_models()
    told: dict[str, list[bool]] = defaultdict(list)
    for number, path in enumerate(scans):
        flair, second = read(path), path.parent / "t1.nii.gz"
        t1 = read(second) if second.exists() else None
        told["clean: a false alarm"].append(bool(codes_of(flair, t1, models) & CODES))
        for name, (change, codes) in FAULTS.items():
            voxels, affine = change((flair.get_fdata(dtype=np.float32), flair.affine))
            told[name].append(bool(codes_of(nib.Nifti1Image(np.ascontiguousarray(voxels), affine), None, models) & codes))
        other = scans[(number + 1) % len(scans)].parent / "t1.nii.gz"
        if other.exists():
            told[STRANGER].append("another_person" in codes_of(flair, read(other), models))
        sys.stderr.write(f"{number + 1} of {len(scans)}\n")
    for name, found in told.items():
        sys.stdout.write(f"{name:42s} {sum(found):3d} of {len(found)}\n")


if __name__ == "__main__":
    main()
