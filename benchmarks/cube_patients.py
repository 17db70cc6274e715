"""Patients that are made on the cube: what one costs, and a sheet of them to look at.

``python benchmarks/cube_patients.py --heads runs/heads [--picture docs/cube-patients.png]``: seconds of one core a patient, the
mean of six; the picture shows twelve, each in the slice with most lesion.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

from veridice.simulate.cube_patient import CubePatient, cube_patient
from veridice.simulate.heads import LabelledHead, read_heads
from veridice.simulate.lesion_bank import LesionBank
from veridice.training.endless_examples import SEED, endless_plan

GRID = 128
TIMED, SHOWN = 6, 12


def made(number: int, heads: list[LabelledHead], bank: LesionBank) -> CubePatient:
    """Patient ``number``, of one head after the other."""
    return cube_patient(endless_plan(SEED, number), heads[number % len(heads)], bank, GRID, torch.device("cpu"))


def draw(patients: list[CubePatient], path: Path) -> None:
    """FLAIR, and FLAIR with the border of the true lesions."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 2 * len(patients) / 3), facecolor="black")
    axes = figure.subplots(len(patients) // 3, 6)
    for number, patient in enumerate(patients):
        lesion = patient.lesion[0].numpy()
        level = int((lesion >= 0.5).sum(axis=(0, 1)).argmax()) or GRID // 2
        for side in (0, 1):
            axis = axes[number // 3, 2 * (number % 3) + side]
            axis.imshow(np.rot90(patient.images[0, :, :, level].numpy()), cmap="gray", vmin=0, vmax=1)
            if side and (lesion[:, :, level] >= 0.5).any():
                axis.contour(np.rot90(lesion[:, :, level]), [0.5], colors="#ff5a1f", linewidths=0.8)
            axis.set_axis_off()
    figure.subplots_adjust(0, 0, 1, 1, 0.01, 0.01)
    figure.savefig(path, dpi=80)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=Path, required=True)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    heads, bank = read_heads(options.heads)[::8], LesionBank.read(options.heads)
    made(0, heads, bank)
    start = time.process_time()
    for number in range(TIMED):
        made(number, heads, bank)
    sys.stdout.write(f"{(time.process_time() - start) / TIMED:.2f} s of one core a patient\n")
    if options.picture:
        draw([made(number, heads, bank) for number in range(SHOWN)], options.picture)


if __name__ == "__main__":
    main()
