"""Lesions on the cube: those of a bank, bent into this brain, and grown ones, up to the planned load. Torch, any device."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from veridice.imaging.tissue import Tissue
from veridice.simulate.cube_fields import Noise, dilated, eroded, soften
from veridice.simulate.lesions import ML, RIM_REACH_MM, SMALLEST_ML
from veridice.simulate.plan import LesionPlan

DEEP_MM = (12.0, 22.0)
"""Depth below the brain's surface at which grey matter begins to have lesions, and from which on it may."""
ROOM = {Tissue.WHITE: 1.0, Tissue.BRAINSTEM: 0.9, Tissue.CEREBELLUM: 0.6}
GREY_ROOM = 0.35
RARE = {Tissue.BRAINSTEM: 3.0, Tissue.CEREBELLUM: 3.0}
"""By how much less (units of the score) lesions grow there."""
UNFILLED, ROUNDS = 0.15, 3
"""Share of the load that may be missing, and how often more is taken until it is not."""
SLOPE = 0.2
"""About how much the score of grown lesions changes over a millimetre."""


@dataclass(frozen=True)
class Ground:
    """What lesions are placed on; all (1, x, y, z) on the cube.

    Args:
        tissue: :class:`.Tissue` of each voxel.
        wall: millimetres to the ventricles, below 0 inside.
        depth: millimetres below the brain's surface.
        spacing: of the voxels, mm.
    """

    tissue: Tensor
    wall: Tensor
    depth: Tensor
    spacing: tuple[float, float, float]

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel."""
        return float(np.prod(self.spacing)) / ML

    def room(self) -> Tensor:
        """What share of a voxel may be lesion."""
        table = torch.zeros(len(Tissue), device=self.tissue.device)
        for tissue, part in ROOM.items():
            table[tissue] = part
        low, high = DEEP_MM
        grey = (self.tissue == Tissue.DEEP_GREY) | (self.tissue == Tissue.CORTEX)
        deep = GREY_ROOM * ((self.depth - low) / (high - low)).clamp(0, 1) * grey
        share = soften(table[self.tissue.int()] + deep)
        return (1.6 * share).clamp(0, 1) * (self.tissue != Tissue.VENTRICLE)


def lesion_map(ground: Ground, donated: Tensor, plan: LesionPlan, noise: Noise, rng: np.random.Generator) -> Tensor:
    """Soft lesion map (1, x, y, z) whose half-way surface is the true border.

    Args:
        ground: the brain.
        donated: lesions of the bank on the cube, shares of each voxel.
        plan: load, border, style.
        noise: fields of this patient.
        rng: of single numbers.
    """
    if plan.load_ml <= 0:
        return torch.zeros_like(donated)
    room, aim = ground.room(), plan.load_ml / ground.voxel_ml
    lesion = _without_thin_rims(ground, donated * room)
    missing = aim - float((lesion >= 0.5).sum())
    inside = room > 0.5
    if missing > UNFILLED * aim and int(inside.sum()) > missing:
        score, taken = _liking(ground, noise, rng), missing
        # What is thin or tiny goes again, so that more has to be taken than is missing.
        for _ in range(ROUNDS):
            level = score[inside].kthvalue(max(1, int(inside.sum()) - round(taken))).values
            share = room * (0.5 + (score - level) / (2 * plan.border_mm * SLOPE)).clamp(0, 1)
            grown = torch.maximum(lesion, _without_thin_rims(ground, share))
            got = float((_without_crumbs(grown, ground.voxel_ml) >= 0.5).sum()) - (aim - missing)
            if got > (1 - UNFILLED) * missing:
                break
            taken = min(taken * min(2.0, missing / max(got, 1.0)), 0.9 * float(inside.sum()))
        lesion = grown
    return _without_crumbs(lesion, ground.voxel_ml)


def _liking(ground: Ground, noise: Noise, rng: np.random.Generator) -> Tensor:
    """An uneven field, highest beside the ventricles, in deep white matter or below the cortex, as it is drawn."""
    step = np.array(ground.spacing)
    score = rng.uniform(0.5, 1.2) * noise.smooth(rng.uniform(6, 14) / step) + rng.uniform(0.2, 0.8) * noise.smooth(4.0 / step)
    near, deep, below_cortex = ground.wall.clamp(min=0), ((ground.wall - 15) / 10).abs(), (ground.depth - 4).abs()
    priors = (near / rng.uniform(4, 12), deep, below_cortex / rng.uniform(3, 8))
    for weight, prior in zip(rng.dirichlet((3.0, 1.0, 0.5)), priors, strict=True):
        score = score - 3 * float(weight) * prior.clamp(max=4)
    for tissue, less in RARE.items():
        score = score - less * (ground.tissue == tissue)
    return score


def _without_thin_rims(ground: Ground, lesion: Tensor) -> Tensor:
    """What lies along a ventricle and is thinner than three voxels is normal, see :class:`.MimicPlan`."""
    inside = lesion >= 0.5
    thick = dilated(eroded(inside), 3)
    return lesion * ~(inside & (ground.wall <= RIM_REACH_MM) & ~thick)


def _without_crumbs(lesion: Tensor, voxel_ml: float) -> Tensor:
    """Voxels that have less than the smallest lesion around them, with their soft borders, go."""
    inside = lesion >= 0.5
    # Twice the mean of three is nearly the sum of five by five by five.
    enough = inside & (64 * soften(soften(inside.float())) >= SMALLEST_ML / voxel_ml)
    return lesion * dilated(enough, 2)
