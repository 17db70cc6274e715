"""A simulated patient straight on the cube, as torch operations on any device: fast enough to feed a training without end.

The plan is that of the NumPy simulator (:mod:`.patient`), which stays the reference (``tests/simulate/test_cube_patient.py``
holds both to the same distributions); the way from contrasts drawn for label maps is SynthSeg's (Billot et al. 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from veridice.imaging.tissue import Tissue
from veridice.simulate.anatomy import VENTRICLE_REACH_MM, WAVE_SPACING_MM, turn
from veridice.simulate.cube_fields import Noise, affine_places, dilated, enlarge, sample, soften
from veridice.simulate.cube_lesions import Ground, lesion_map
from veridice.simulate.cube_scanner import acquire_on_cube, slice_counts, truth_in
from veridice.simulate.heads import AROUND, COARSE, LABELS, LEVELS, LabelledHead
from veridice.simulate.lesion_bank import LesionBank
from veridice.simulate.lesions import ML
from veridice.simulate.plan import ContrastPlan, PatientPlan
from veridice.simulate.severity import uniform
from veridice.types import Mask

Numbers = np.ndarray[Any, Any]
CUT_BELOW_MM = (0.0, 45.0)
"""How far below the brain a whole head is shown."""
MARGIN_MM = (1.0, 4.0)
DONORS_MM = 160.0
LEAST_LEVEL = 0.05
"""What a brightness level has at least, of white matter."""
OF_THE_BANK = {"sclerosis": (1.0, 1.0), "mixed": (0.3, 0.7), "ageing": (0.0, 0.0)}
"""Share of the load that lesions of the bank are to have."""
STRIPPED_AT = (0.2, 0.8)
"""Skull stripping cuts at a share of brain that is drawn between these."""


@dataclass(frozen=True)
class CubePatient:
    """One patient on the cube.

    Args:
        images: (2, x, y, z) FLAIR and T1w in [0, 1].
        lesion: (1, x, y, z) share of each voxel that is lesion.
        tissue: (1, x, y, z) uint8, :class:`.Tissue`.
        spacing: of the voxels, mm.
    """

    images: Tensor
    lesion: Tensor
    tissue: Tensor
    spacing: tuple[float, float, float]

    @property
    def load_ml(self) -> float:
        """Of the lesions as they are shown."""
        return float((self.lesion >= 0.5).sum()) * float(np.prod(self.spacing)) / ML


def cube_patient(
    plan: PatientPlan, head: LabelledHead, bank: LesionBank | None, grid: int, device: torch.device
) -> CubePatient:
    """Make the patient of ``plan`` from ``head``; the same arguments give the same patient on the same kind of device.

    Args:
        plan: its anatomy and donors are not looked at.
        head: whose head it is; without surroundings it is always skull-stripped.
        bank: lesions of others; None: all are grown.
        grid: edge of the cube.
        device: where it is made.
    """
    rng = np.random.default_rng([plan.seed, plan.index, 5])
    noise = Noise(int(rng.integers(2**31)), (grid, grid, grid), device)
    whole = plan.whole_head and head.has_surroundings
    frame = _framed(head, whole, rng)
    # Planned sizes are those of the donors' box, in which every brain is as long as DONORS_MM.
    size = np.array(plan.deformation.size) * DONORS_MM / (head.brain_box[1] - head.brain_box[0])[1]
    share = uniform(rng, OF_THE_BANK[plan.lesions.style]) if bank else 0.0
    load_mm3 = share * plan.lesions.load_ml * ML / float(np.prod(size))
    donated = bank.pattern(head, load_mm3, rng) if bank and load_mm3 else np.zeros(head.labels.shape, bool)
    x, y, z = (float(n) for n in (frame[1] - frame[0]) * size / grid)
    shown, ground = _shown(plan, head, donated, frame, (x, y, z), noise, rng)
    lesion = lesion_map(ground, soften(shown[2:]), plan.lesions, noise, rng)
    flair, t1 = _with_lesions(shown[:1], shown[1:2], ground, lesion, plan, noise)
    brain = (soften((ground.tissue > 0).float()) >= rng.uniform(*STRIPPED_AT)).float()
    images, counts = [], []
    for image, acquisition in ((flair, plan.flair_acquisition), (t1, plan.t1_acquisition)):
        counts.append(slice_counts(acquisition, np.array(ground.spacing) * grid))
        images.append(acquire_on_cube(image, acquisition, counts[-1], None if whole else brain, noise, rng))
    return CubePatient(torch.cat(images), truth_in(lesion, counts[0]), ground.tissue, ground.spacing)


def _shown(
    plan: PatientPlan,
    head: LabelledHead,
    donated: Mask,
    frame: tuple[Numbers, Numbers],
    spacing: tuple[float, float, float],
    noise: Noise,
    rng: np.random.Generator,
) -> tuple[Tensor, Ground]:
    """FLAIR, T1w (white matter is 1) and lesions of the bank (3, x, y, z) as the cube shows them, and what lies there."""
    device = noise.device
    labels = torch.from_numpy(head.labels).to(device)
    # Painted at 1 mm, then sampled once: voxels of the cube that lie between two tissues show both.
    index = labels.int()
    levels = (_levels(plan.flair, rng, flair=True), _levels(plan.t1, rng, flair=False))
    painted = [torch.from_numpy(each).to(device)[index] for each in levels]
    places = _places(plan, head, *frame, noise, device)
    shown = sample(torch.stack([*painted, torch.from_numpy(donated).to(device).float()]), places)
    distances = sample(torch.from_numpy(np.stack([head.wall, head.depth])).to(device), places / COARSE)
    number = sample(labels[None].float(), places, nearest=True).to(torch.uint8)
    tissue = torch.where(number < AROUND, number // LEVELS, torch.zeros_like(number))
    return shown, Ground(tissue, distances[:1], distances[1:], spacing)


def _framed(head: LabelledHead, whole: bool, rng: np.random.Generator) -> tuple[Numbers, Numbers]:
    """Corners of what the cube shows: the brain, or the head as far down as the scanner goes."""
    start, stop = (corner.copy() for corner in (head.head_box if whole else head.brain_box))
    if whole:
        start[2] = max(start[2], head.brain_box[0][2] - rng.uniform(*CUT_BELOW_MM))
    margin = rng.uniform(*MARGIN_MM)
    return start - margin, stop + margin


def _places(plan: PatientPlan, head: LabelledHead, start: Numbers, stop: Numbers, noise: Noise, device: torch.device) -> Tensor:
    """Voxel of the head that each voxel of the cube shows (3, x, y, z)."""
    shape, deformation = noise.shape, plan.deformation
    middle, box = (start + stop) / 2, stop - start
    mirror = np.array([-1.0 if deformation.mirrored else 1.0, 1.0, 1.0])
    linear = turn(deformation.rotation) * (box * mirror / np.array(shape))
    places = affine_places(linear, middle.tolist(), shape, device)
    waves = noise.smooth(WAVE_SPACING_MM / (box / np.array(shape)), 3)
    places = places + deformation.wave_mm * waves
    return places + _ventricle_push(places, deformation.ventricle_mm, head, device)


def _ventricle_push(places: Tensor, push_mm: float, head: LabelledHead, device: torch.device) -> Tensor:
    """As in :mod:`.anatomy`: displacement towards the ventricles shows more ventricle, the reverse less."""
    wall = torch.from_numpy(head.wall).to(device)
    fields = torch.stack([wall, *(g / COARSE for g in torch.gradient(wall))])
    at, *gradient = sample(fields, places[:, ::COARSE, ::COARSE, ::COARSE] / COARSE)
    push = -push_mm * (1 - at.abs() / VENTRICLE_REACH_MM).clamp(0, 1) * torch.stack(gradient)
    return enlarge(push, tuple(places.shape[1:]))


def _levels(contrast: ContrastPlan, rng: np.random.Generator, flair: bool) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Intensity of every label; white matter is 1."""
    means = {
        Tissue.FLUID: contrast.csf,
        Tissue.VENTRICLE: contrast.csf * (rng.uniform(0.85, 1.0) if flair else 1.0),
        Tissue.CORTEX: contrast.grey,
        Tissue.DEEP_GREY: contrast.deep_grey,
        Tissue.WHITE: 1.0,
        Tissue.BRAINSTEM: rng.uniform(0.5, 1.0) * (1 - contrast.grey) / 2 + (1 + contrast.grey) / 2,
        Tissue.CEREBELLUM: rng.uniform(0.9, 1.05) * (1 + contrast.grey) / 2,
    }
    table = np.zeros(LABELS, np.float32)
    ladder = np.linspace(-1.2, 1.2, LEVELS)
    for tissue, mean in means.items():
        # On a T1w levels rise as they were found; on a FLAIR each goes its own way.
        step = contrast.texture * (np.abs(rng.normal(1, 0.3)) * ladder if not flair else rng.normal(0, 1, LEVELS))
        if tissue in (Tissue.FLUID, Tissue.VENTRICLE):
            step = rng.uniform(0, 0.3) * np.abs(contrast.grey - contrast.csf) * (ladder + 1.2) / 2.4
        table[tissue * LEVELS : (tissue + 1) * LEVELS] = np.maximum(mean + step, min(LEAST_LEVEL, mean))
    count = LABELS - AROUND
    bright = np.linspace(0, 1, 6)[:, None] * [contrast.fat] + (1 - np.linspace(0, 1, 6)[:, None]) * 0.3 * contrast.muscle
    around = np.concatenate([bright.ravel(), rng.uniform(0.03, contrast.fat, count - 6)])
    table[AROUND:] = around * np.exp(rng.normal(0, 0.3 if flair else 0.15, count))
    return table


def _with_lesions(
    flair: Tensor, t1: Tensor, ground: Ground, lesion: Tensor, plan: PatientPlan, noise: Noise
) -> tuple[Tensor, Tensor]:
    """Texture, mimics and lesions; both images (1, x, y, z)."""
    step = np.array(ground.spacing)
    brain = (ground.tissue > 0).float()
    grain = soften(noise.white()) * 3.0
    structure = brain * (0.6 * grain + 0.6 * noise.smooth(4.0 / step) + 0.5 * noise.smooth(25.0 / step))
    flair, t1 = flair * (1 + plan.flair.texture * structure), t1 * (1 + plan.t1.texture * structure)
    flair = _with_mimics(flair, ground, lesion, plan, noise)
    between, within = noise.smooth(9.0 / step), noise.smooth(2.5 / step)
    spread = (1 + plan.flair.lesion_spread * (0.8 * between + 0.6 * within)).clamp(0.6, 1.6)
    flair = flair * (1 - lesion) + plan.flair.lesion * spread * lesion
    if plan.black_holes > 0:
        holes = soften((noise.smooth(12.0 / step) > 2.5 * (0.5 - plan.black_holes)).float())
    else:
        holes = torch.zeros_like(lesion)
    dark = plan.t1.lesion * (1 - holes) + (0.35 * plan.t1.lesion + 0.65 * plan.t1.csf) * holes
    return flair, t1 * (1 - lesion) + dark * (1 + plan.t1.lesion_spread * between).clamp(0.5, 1.5) * lesion


def _with_mimics(flair: Tensor, ground: Ground, lesion: Tensor, plan: PatientPlan, noise: Noise) -> Tensor:
    """Bright places that are no lesions, as in :mod:`.appearance`."""
    mimics, step, tissue = plan.mimics, np.array(ground.spacing), ground.tissue
    rise = torch.zeros_like(flair)
    white, ventricle = (tissue == Tissue.WHITE).float(), (tissue == Tissue.VENTRICLE).float()
    if mimics.rim:
        rim = white * ((mimics.rim_mm - ground.wall) / 0.8 + 0.5).clamp(0, 1)
        rise = torch.maximum(rise, mimics.rim * rim)
    if mimics.choroid:
        rise = torch.maximum(rise, mimics.choroid * soften(ventricle * (noise.smooth(6.0 / step) > 1.0)))
    if mimics.septum:
        width = flair.shape[1]
        middle = (torch.arange(width, device=flair.device) - width / 2).abs().view(1, -1, 1, 1) * float(step[0])
        rise = torch.maximum(rise, mimics.septum * ((middle < 1.2) & (ground.wall < 4) & (ground.wall > 0) & (tissue > 0)))
    if mimics.flow:
        fluid = (ventricle + (tissue == Tissue.FLUID)) * (noise.smooth(12.0 / step) > 1.0)
        rise = torch.maximum(rise, mimics.flow * soften(fluid))
    if mimics.cortex:
        patches = (tissue == Tissue.CORTEX) * (noise.smooth(10.0 / step) - 0.8).clamp(0, 1)
        rise = torch.maximum(rise, mimics.cortex * patches)
    if mimics.penumbra:
        around = soften(soften(dilated(lesion >= 0.5).float())) * (white + 0.3 * (tissue == Tissue.CORTEX))
        rise = torch.maximum(rise, mimics.penumbra * around)
    gain = (plan.flair.lesion - flair).clamp(min=0)
    return flair + rise * gain * (1 - lesion)
