"""Draws docs/simulated.png: six simulated patients of each severity, FLAIR above T1w, true lesions outlined.

python scripts/contact_sheet.py [docs/simulated.png]
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import nibabel as nib
import numpy as np

from veridice.imaging.grid import resample_to
from veridice.imaging.volume import Volume
from veridice.parallel import in_processes
from veridice.simulate.cohorts import COHORTS
from veridice.simulate.patient import SimulatedPatient, simulate_patient
from veridice.simulate.severity import SEVERITIES

mpl.use("Agg")
from matplotlib import pyplot as plt

COLUMNS = 6


def canonical(volume: Volume) -> tuple[np.ndarray, tuple[float, ...]]:
    image = nib.as_closest_canonical(nib.Nifti1Image(volume.voxels.astype(np.float32), volume.affine))
    return image.get_fdata(), image.header.get_zooms()


def show(patient: SimulatedPatient, axes: list[plt.Axes]) -> None:
    truth, _ = canonical(patient.lesions)
    brain, _ = canonical(patient.brain)
    level = int((truth + 1e-3 * brain).sum(axis=(0, 1)).argmax())
    for axis, volume in zip(axes, (patient.flair, resample_to(patient.t1, patient.flair.geometry)), strict=True):
        image, spacing = canonical(volume)
        top = np.percentile(image[brain > 0.5], 99.7)
        aspect = spacing[1] / spacing[0]
        axis.imshow(image[:, :, level].T, origin="lower", cmap="gray", vmin=0, vmax=top, aspect=aspect)
    if truth[:, :, level].any():
        axes[0].contour(truth[:, :, level].T, [0.5], colors="tab:orange", linewidths=0.6)
    thickness = max(patient.plan.flair_acquisition.voxel_spacing)
    axes[0].set_title(f"{patient.lesion_load_ml:.1f} ml, {thickness:.1f} mm", color="white", fontsize=7)


def main(path: Path) -> None:
    shares = np.eye(len(SEVERITIES))
    plans = [
        replace(COHORTS["training"], seed=77, severity_shares=tuple(shares[row])).plan(column)
        for row in range(len(SEVERITIES))
        for column in range(COLUMNS)
    ]
    made = {(p.plan.severity, p.plan.index): p for _, p in in_processes(plans, simulate_patient, 2)}
    figure, axes = plt.subplots(
        2 * len(SEVERITIES), COLUMNS, figsize=(COLUMNS * 1.9, 2 * len(SEVERITIES) * 2.1), facecolor="black"
    )
    for axis in axes.ravel():
        axis.axis("off")
    for row, severity in enumerate(SEVERITIES):
        for column in range(COLUMNS):
            show(made[severity, column], [axes[2 * row, column], axes[2 * row + 1, column]])
        axes[2 * row, 0].text(
            -0.15, 0.0, severity, color="white", fontsize=10, rotation=90, transform=axes[2 * row, 0].transAxes
        )
    figure.tight_layout(pad=0.4)
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/simulated.png"))
