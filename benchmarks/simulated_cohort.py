"""The shipped networks, and a threshold on the FLAIR, on simulated patients; by severity.

veridice simulate -n 40 --cohort training --severity ordinary -o runs/tuning
veridice simulate -n 40 --cohort test-ordinary -o runs/ordinary
python benchmarks/simulated_cohort.py --tuning runs/tuning --cohort runs/ordinary [--weights FOLDER] [-o table.csv]

Dice is in the FLAIR's own grid. The threshold is on z-scores within the true brain mask (which the networks are not
given) and is tuned on the tuning cohort, by the mean Dice.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from own_mask import own_mask
from scipy import ndimage
from torch import nn

from veridice.config import InferenceSettings
from veridice.imaging.grid import fit_grid, resample_to, scan_on_grid
from veridice.imaging.volume import Volume
from veridice.inference.passes import choose_backend, reconstruct
from veridice.inference.weights import load_network
from veridice.io.nifti import read_image, read_mask
from veridice.io.weight_cards import bundled_weights
from veridice.metrics.overlap import dice
from veridice.networks.losses import ssim_map
from veridice.types import Mask, Voxels

THRESHOLDS = np.arange(0.5, 6.01, 0.25)
WINDOW = 7


@dataclass(frozen=True)
class Patient:
    """One simulated patient, read from a BIDS folder."""

    name: str
    severity: str
    flair: Volume
    t1: Volume
    truth: Mask
    brain: Mask

    @property
    def millilitre(self) -> float:
        return self.flair.geometry.voxel_volume_ml


def patients(folder: Path) -> Iterator[Patient]:
    for row in pd.read_csv(folder / "participants.tsv", sep="\t").to_dict("records"):
        name = str(row["participant_id"])
        scans, truth = folder / name / "anat", folder / "derivatives" / "truth" / name / "anat"
        flair = read_image(scans / f"{name}_FLAIR.nii.gz")
        masks = [read_mask(truth / f"{name}_label-{kind}_mask.nii.gz", flair.geometry).voxels for kind in ("lesion", "brain")]
        t1 = resample_to(read_image(scans / f"{name}_T1w.nii.gz"), flair.geometry)
        yield Patient(name, str(row["severity"]), flair, t1, masks[0], masks[1])


def z_scores(patient: Patient) -> Voxels:
    inside = patient.flair.voxels[patient.brain]
    return np.where(patient.brain, (patient.flair.voxels - inside.mean()) / inside.std(), -10.0)


def tuned_threshold(folder: Path) -> float:
    """The z-score whose threshold has the highest mean Dice over a cohort."""
    scores = [[dice(z > t, p.truth).dice for t in THRESHOLDS] for p in patients(folder) for z in [z_scores(p)]]
    return float(THRESHOLDS[np.mean(scores, axis=0).argmax()])


def similarity(rebuilt: Voxels, flair: Voxels) -> Voxels:
    tensors = (torch.from_numpy(np.ascontiguousarray(image, np.float32))[None, None] for image in (rebuilt, flair))
    return ssim_map(*tensors, "windowed", WINDOW)[0, 0].numpy()


def reconstruction_row(reconstructor: nn.Module, grid: int, patient: Patient) -> dict[str, float]:
    """SSIM over the volume, in the brain and in the true mask, of the network and of a mean fill."""
    transform = fit_grid(patient.flair, (grid,) * 3)
    flair = scan_on_grid(patient.flair, transform)
    mask = transform.to_grid(patient.truth) >= 0.5
    brain = transform.to_grid(patient.brain) >= 0.5
    if not mask.any():
        return {}
    rebuilt = reconstruct(reconstructor, flair, mask, choose_backend(InferenceSettings()))
    ring = ndimage.binary_dilation(mask, iterations=3) & ~mask & brain
    filled = np.where(mask, flair[ring].mean(), flair)
    ours, mean = similarity(rebuilt, flair), similarity(filled, flair)
    edge = WINDOW // 2
    inner = (slice(edge, -edge),) * 3 if ours.shape != flair.shape else (slice(None),) * 3
    return {
        "ssim": float(ours.mean()),
        "ssim_brain": float(ours[brain[inner]].mean()),
        "ssim_hole": float(ours[mask[inner]].mean()),
        "ssim_hole_mean_fill": float(mean[mask[inner]].mean()),
        "error_hole": float(np.abs(rebuilt - flair)[mask].mean()),
        "error_hole_mean_fill": float(np.abs(filled - flair)[mask].mean()),
    }


def row(patient: Patient, segmenter: nn.Module, reconstructor: nn.Module, grid: int, threshold: float) -> dict[str, object]:
    found = own_mask(patient.flair, patient.t1, segmenter, grid, InferenceSettings())
    return {
        "patient": patient.name,
        "severity": patient.severity,
        "true_ml": patient.truth.sum() * patient.millilitre,
        "found_ml": found.sum() * patient.millilitre,
        "dice": dice(found, patient.truth).dice,
        "dice_threshold": dice(z_scores(patient) > threshold, patient.truth).dice,
        "outside_brain_ml": (found & ~patient.brain).sum() * patient.millilitre,
        **reconstruction_row(reconstructor, grid, patient),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tuning", type=Path, required=True)
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=bundled_weights())
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    threshold = tuned_threshold(arguments.tuning)
    segmenter, card = load_network(arguments.weights, "segmenter")
    reconstructor, _ = load_network(arguments.weights, "reconstructor")
    table = pd.DataFrame([row(each, segmenter, reconstructor, card.grid, threshold) for each in patients(arguments.cohort)])
    if arguments.output:
        table.to_csv(arguments.output, index=False)
    print(f"threshold z > {threshold}")  # noqa: T201
    numbers = table.drop(columns="patient")
    print(numbers.groupby("severity").agg("mean").round(3).T.to_string())  # noqa: T201
    print(table.groupby("severity")["dice"].describe().round(3).to_string())  # noqa: T201


if __name__ == "__main__":
    main()
