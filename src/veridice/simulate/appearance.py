"""Painting: from tissue and lesion maps to the two contrasts as an ideal scanner would see them (white matter is 1)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from veridice.simulate.anatomy import Head
from veridice.simulate.fields import distance_mm, smooth_field
from veridice.simulate.plan import ContrastPlan, MimicPlan, PatientPlan
from veridice.types import Mask, Voxels

DEEP_GREY_MM = 28.0
"""Grey matter deeper than this below the surface is thalamus and basal ganglia."""
SHELL_MARGIN = 24
"""Voxels (mm) that the canvas grows on all sides for skull and scalp."""


def paint(head: Head, lesion: Voxels, plan: PatientPlan) -> tuple[Voxels, Voxels]:
    """FLAIR and T1w (x, y, z) without bias, blur or noise, on the canvas or, with a head around, on a wider one.

    Args:
        head: the deformed brain.
        lesion: soft lesion map.
        plan: contrasts, mimics, whether there is a head around the brain.
    """
    rng = np.random.default_rng([plan.flair.seed, 1])
    if head.images is not None:
        flair, t1 = (_real(head, number, contrast) for number, contrast in enumerate((plan.flair, plan.t1)))
    else:
        # What makes tissue uneven: fine grain, coarser mottling and slow drifts, of unit deviation.
        grain = ndimage.gaussian_filter(rng.standard_normal(head.shape, dtype=np.float32), 0.7) * 3.0
        structure = 0.6 * grain + 0.6 * smooth_field(head.shape, 4.0, rng) + 0.5 * smooth_field(head.shape, 25.0, rng)
        flair, t1 = (_healthy(head, contrast, structure) for contrast in (plan.flair, plan.t1))
    flair = _add_mimics(flair, head, lesion, plan.flair, plan.mimics)
    between = smooth_field(head.shape, 9.0, rng)
    within = smooth_field(head.shape, 2.5, rng)
    spread = 1 + plan.flair.lesion_spread * (0.8 * between + 0.6 * within)
    flair = flair * (1 - lesion) + plan.flair.lesion * spread.clip(0.6, 1.6) * lesion
    holes = ndimage.gaussian_filter((smooth_field(head.shape, 12.0, rng) > _quantile(plan.black_holes)).astype(np.float32), 1)
    t1_lesion = plan.t1.lesion * (1 - holes) + (0.35 * plan.t1.lesion + 0.65 * plan.t1.csf) * holes
    t1 = t1 * (1 - lesion) + t1_lesion * (1 + plan.t1.lesion_spread * between).clip(0.5, 1.5) * lesion
    if plan.whole_head:
        around = build_shell(head, np.random.default_rng([plan.t1.seed, 2]))
        flair, t1 = (around.paint(np.pad(image, SHELL_MARGIN), c) for image, c in ((flair, plan.flair), (t1, plan.t1)))
    return flair.astype(np.float32), t1.astype(np.float32)


def _quantile(share: float) -> float:
    """Level of a roughly normal field above which about ``share`` of it lies."""
    return float("inf") if share <= 0 else 2.5 * (0.5 - share)


def _healthy(head: Head, contrast: ContrastPlan, structure: Voxels) -> Voxels:
    deep = np.clip((head.depth - DEEP_GREY_MM) / 4, 0, 1)
    grey = contrast.grey * (1 - deep) + contrast.deep_grey * deep
    tissue = contrast.csf * head.fluid + grey * head.grey + head.white
    return tissue * (1 + contrast.texture * structure)


def _real(head: Head, number: int, contrast: ContrastPlan) -> Voxels:
    """A real person's image, scaled so that white matter is 1, with a drawn change of contrast."""
    assert head.images is not None  # noqa: S101 (for the type checker)
    image = head.images[number]
    scaled = image / np.median(image[head.white > 0.9])
    exponent = 1 + 0.5 * (contrast.grey - 1) if number == 0 else 0.85 + 0.3 * contrast.grey
    return np.asarray(np.power(np.maximum(scaled, 0), exponent))


def _add_mimics(flair: Voxels, head: Head, lesion: Voxels, contrast: ContrastPlan, mimics: MimicPlan) -> Voxels:
    """Bright places that are not in the truth; each rises towards the lesions' intensity by its share."""
    rng = np.random.default_rng(mimics.seed)
    beside = head.ventricle_distance
    rise = np.zeros(head.shape, np.float32)
    if mimics.rim:
        rim = head.white * np.clip((mimics.rim_mm - beside) / 0.8 + 0.5, 0, 1) * (head.ventricles < 0.5)
        rise = np.maximum(rise, mimics.rim * rim)
    if mimics.choroid:
        plexus = head.ventricles * (smooth_field(head.shape, 6.0, rng) > 1.0)
        rise = np.maximum(rise, mimics.choroid * ndimage.gaussian_filter(plexus.astype(np.float32), 0.7))
    if mimics.septum:
        middle = np.abs(np.arange(head.shape[0]) - head.shape[0] / 2)[:, None, None]
        rise = np.maximum(rise, mimics.septum * (middle < 1.2) * (beside < 4) * (1 - head.ventricles))
    if mimics.flow:
        fluid = ndimage.gaussian_filter(head.fluid * (smooth_field(head.shape, 12.0, rng) > 1.0), 1.0)
        rise = np.maximum(rise, mimics.flow * fluid)
    if mimics.cortex:
        patches = head.grey * np.clip(smooth_field(head.shape, 10.0, rng) - 0.8, 0, 1)
        rise = np.maximum(rise, mimics.cortex * patches)
    if mimics.penumbra:
        around = ndimage.gaussian_filter(lesion, 2.5) * np.clip(head.white + 0.3 * head.grey, 0, 1)
        rise = np.maximum(rise, mimics.penumbra * np.minimum(1, 1.5 * around))
    gain = np.maximum(contrast.lesion - flair, 0)
    return np.asarray(flair + rise * gain * (1 - lesion))


@dataclass(frozen=True)
class Shell:
    """What lies around the brain, as masks on the canvas, and an uneven field to paint it with."""

    meninges: Voxels
    skull: Mask
    marrow: Mask
    fat: Mask
    muscle: Mask
    eyes: Mask
    uneven: Voxels

    def paint(self, image: Voxels, contrast: ContrastPlan) -> Voxels:
        """Put the shell around the brain of ``image``."""
        around = np.zeros_like(image)
        around[self.muscle] = contrast.muscle
        around[self.fat] = contrast.fat
        around[self.skull] = 0.12
        around[self.marrow] = 0.5 * contrast.fat
        around[self.eyes] = 0.8 * contrast.csf
        around = ndimage.gaussian_filter(around * (1 + 0.15 * self.uneven), 0.6)
        inside = np.clip(image + contrast.csf * self.meninges, 0, None)
        return np.where(self.skull | self.marrow | self.fat | self.muscle | self.eyes, around, inside)


def build_shell(head: Head, rng: np.random.Generator) -> Shell:
    """Skull, marrow, scalp, face, neck and eyes by distance from the brain; crude, but bright and dark where heads are."""
    brain = np.pad(head.brain, SHELL_MARGIN)
    shape = brain.shape
    # The closed surface, without sulci: distances beyond it are those of a smooth skull.
    inside = distance_mm(distance_mm(~brain) < 6) > 6
    outside = distance_mm(~inside)
    uneven = smooth_field(shape, 8.0, rng)
    gap, bone, scalp = rng.uniform(1.0, 3.5), rng.uniform(4.0, 8.0), rng.uniform(3.0, 8.0)
    level = outside + 0.6 * smooth_field(shape, 35.0, rng)
    skull = (level > gap) & (level <= gap + bone)
    marrow = skull & (np.abs(level - gap - bone / 2) < bone / 5) & (uneven > -0.3)
    skin = (level > gap + bone) & (level <= gap + bone + scalp)
    x, y, z = np.meshgrid(*[np.arange(n) - n / 2 for n in shape], indexing="ij", sparse=True)
    reach = np.array(shape) / 2
    # Face and neck: one ellipsoid below the front, one column below the stem, both cut by the field of view.
    face = (x / 52) ** 2 + ((y - 0.55 * reach[1]) / 45) ** 2 + ((z + 0.75 * reach[2]) / 50) ** 2 < 1
    neck = (x / 48) ** 2 + ((y + 0.2 * reach[1]) / 55) ** 2 + 0 * z < 1
    soft = (face | (neck & (z < -0.45 * reach[2]))) & (level > gap + bone) & ~skin
    air = soft & (smooth_field(shape, 14.0, rng) > 0.9)
    fat = (skin & (uneven > -0.8)) | (soft & (uneven > 0.7))
    eyes = np.zeros(shape, bool)
    for side in (-1, 1):
        globe = (x - side * 31) ** 2 + (y - 0.62 * reach[1]) ** 2 + (z + 0.38 * reach[2]) ** 2
        eyes |= (globe < 12**2) & (level > gap + 1)
        fat |= (globe < 19**2) & (level > gap + 1)
    meninges = ((outside > 0) & (level <= gap)).astype(np.float32)
    return Shell(meninges, skull & ~eyes, marrow & ~eyes, fat & ~eyes & ~air, (soft | skin) & ~fat & ~air & ~eyes, eyes, uneven)
