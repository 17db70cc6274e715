"""What a training without end learns from: patients that are made for one step, and real scans, varied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from veridice.simulate.cube_fields import Noise
from veridice.simulate.cube_patient import cube_patient
from veridice.simulate.donors import Donor
from veridice.simulate.heads import LabelledHead
from veridice.simulate.lesion_bank import LesionBank
from veridice.simulate.plan import PatientPlan, draw_plan
from veridice.simulate.scanners import ANY
from veridice.simulate.severity import MIX, SEVERITIES
from veridice.training.cube_variation import varied_images, varied_scan
from veridice.training.settings import TrainingSettings

SEED = 9000
"""Of the patients; no cohort has it."""
BYTES = 255
SOMEBODY = (
    Donor("heads", "anatomy", "training", "heads.nii.gz"),
    Donor("bank", "lesions", "training", "bank.nii.gz"),
)
"""What plans are drawn for: which head and which lesions it is comes apart."""


@dataclass(frozen=True)
class Sources:
    """What examples are made of.

    Args:
        heads: of many people.
        bank: single lesions.
        real: labelled scans (4, x, y, z; uint8); none, where the training is on simulated patients alone.
    """

    heads: Sequence[LabelledHead]
    bank: LesionBank | None
    real: Sequence[Tensor] = ()


@dataclass(frozen=True)
class DrawnScan:
    """One scan to learn from.

    Args:
        cube: (4, x, y, z) channels as :class:`.CubeCase` has them, in [0, 1].
        tissue: (1, x, y, z) uint8, :class:`.Tissue`; None for a real scan.
        spacing: of the voxels, mm; of a real scan about what it is.
    """

    cube: Tensor
    tissue: Tensor | None
    spacing: tuple[float, float, float] = (1.3, 1.5, 1.2)


def endless_plan(seed: int, index: int) -> PatientPlan:
    """Plan of patient ``index``."""
    rng = np.random.default_rng([seed, index, 1])
    return draw_plan(index, seed, SEVERITIES[rng.choice(len(SEVERITIES), p=MIX)], ANY, SOMEBODY)


def draw_scan(index: int, sources: Sources, settings: TrainingSettings, device: torch.device) -> DrawnScan:
    """Scan ``index``, which depends on it and the seed alone."""
    seed, data, endless = SEED + settings.seed, settings.data, settings.endless
    rng = np.random.default_rng([seed, index, 2])
    if sources.real and rng.random() < endless.real_fraction:
        chosen = rng.integers(len(sources.real), size=2)
        first, second = (sources.real[int(number)].to(device).float() / BYTES for number in chosen)
        return DrawnScan(varied_scan(first, second if rng.random() < endless.planted_fraction else None, data, rng), None)
    head = sources.heads[int(rng.integers(len(sources.heads)))]
    patient = cube_patient(endless_plan(seed, index), head, sources.bank, data.grid, device)
    noise = Noise(int(rng.integers(2**31)), (data.grid,) * 3, device)
    images = varied_images(patient.images, data, noise, rng)
    cube = torch.cat([images, patient.lesion, torch.zeros_like(patient.lesion)])
    return DrawnScan(cube, patient.tissue, patient.spacing)
