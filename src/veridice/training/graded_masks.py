"""Masks as users have them, near-expert to poor, in the scan's own voxels; an error is as large as a wanted Dice asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from veridice.imaging.components import bounding_box, label_components
from veridice.metrics.overlap import dice
from veridice.types import Mask, Numbers, ProbabilityMap, Voxels

WORST, BEST = 0.3, 0.97
"""Between these the wanted Dice is drawn evenly."""
STEPS = 7
"""Of the bisection that finds how large an error has to be."""
ROOM_MM = 12.0
"""Around the truth and our own mask in which errors are made."""


@dataclass(frozen=True)
class NativeMaterial:
    """What graded masks are made of, in the scan's own grid (x, y, z).

    Args:
        truth: true mask, not empty.
        flair: intensities.
        brain: brain mask.
        probability: mean of our passes.
        spacing: edges of a voxel (mm).
        scattered: whether pieces of the target can be left out or put in, as lesions are.
    """

    truth: Mask
    flair: Voxels
    brain: Mask
    probability: ProbabilityMap
    spacing: tuple[float, float, float]
    scattered: bool = True

    def cropped(self) -> tuple[NativeMaterial, tuple[slice, slice, slice]]:
        """The same near lesions, where all errors happen, and where that lies."""
        margin = int(np.ceil(ROOM_MM / min(self.spacing)))
        box = bounding_box(self.truth | (self.probability >= 0.5), margin)
        truth, flair, brain, probability = (map_[box] for map_ in (self.truth, self.flair, self.brain, self.probability))
        return replace(self, truth=truth, flair=flair, brain=brain, probability=probability), box


Grade = Callable[[float], Mask]
"""From the size of an error in [0, 1] to the mask: the truth at 0, poor at 1."""
Maker = Callable[[NativeMaterial, np.random.Generator], Grade]


def _second_expert(material: NativeMaterial, rng: np.random.Generator) -> Grade:
    """A border that wanders, a little outside or inside on the whole, and some of the smallest lesions left out or put in."""
    inside, wobble = _signed_distance(material), _smooth_noise(material, rng, rng.uniform(2, 5))
    leaning, left_out = rng.uniform(-1.5, 1.5), rng.uniform(0, 0.5)
    rank, extra = _rank_of_lesions(material, rng), _bright_blobs(material, rng)

    def grade(amount: float) -> Mask:
        drawn = inside + amount * (leaning + 2.5 * wobble) > 0
        if not material.scattered:
            return drawn
        return (drawn & ~(material.truth & (rank < amount * left_out))) | (extra < 0.15 * amount)

    return grade


def _generous(material: NativeMaterial, rng: np.random.Generator) -> Grade:
    inside, uneven = _signed_distance(material), 1 + 0.5 * _smooth_noise(material, rng, 4)
    return lambda amount: inside > -8 * amount * uneven


def _tight(material: NativeMaterial, rng: np.random.Generator) -> Grade:
    inside, uneven = _signed_distance(material), 1 + 0.5 * _smooth_noise(material, rng, 4)
    return lambda amount: inside > 5 * amount * uneven


def _smoothed(material: NativeMaterial, rng: np.random.Generator) -> Grade:
    """Too smooth and round, as networks on coarse grids draw."""
    truth, level = material.truth.astype(np.float32), rng.uniform(0.3, 0.55)

    def grade(amount: float) -> Mask:
        blurred = ndimage.gaussian_filter(truth, 5 * amount / np.array(material.spacing), truncate=2)
        return np.asarray(blurred >= 0.5 + min(1.0, 10 * amount) * (level - 0.5))

    return grade


def _lesions_left_out(material: NativeMaterial, rng: np.random.Generator) -> Grade:
    """Single lesions are missing, whatever their size."""
    labels, sizes = label_components(material.truth)
    order = rng.random(len(sizes))
    return lambda amount: np.concatenate([[False], order >= amount])[labels]


def _only_large(material: NativeMaterial, rng: np.random.Generator) -> Grade:
    rank = _rank_of_lesions(material, rng)
    return lambda amount: material.truth & (rank >= amount)


def _cores(material: NativeMaterial, _rng: np.random.Generator) -> Grade:
    """Only the brightest part of each lesion, as a high threshold leaves it."""
    smooth = ndimage.gaussian_filter(material.flair, 0.6 / np.array(material.spacing))
    rank = np.ones(material.truth.shape)
    rank[material.truth] = smooth[material.truth].argsort().argsort() / np.count_nonzero(material.truth)
    return lambda amount: material.truth & (rank >= amount)


def _rims(material: NativeMaterial, _rng: np.random.Generator) -> Grade:
    """The rims of dark places deep in the brain, which are ventricles, beside the truth."""
    values = material.flair[material.brain] if material.brain.any() else material.flair
    depth = ndimage.distance_transform_edt(material.brain, sampling=material.spacing)
    dark = (material.flair < np.percentile(values, 15)) & (depth > 20)
    away = ndimage.distance_transform_edt(~dark, sampling=material.spacing) if dark.any() else np.full(dark.shape, np.inf)
    return lambda amount: material.truth | (material.brain & (away > 0) & (away <= 8 * amount))


def _false_bright(material: NativeMaterial, rng: np.random.Generator) -> Grade:
    """Bright places that are no lesions: cortex, choroid plexus, vessels."""
    rank = _bright_blobs(material, rng)
    return lambda amount: material.truth | (rank < amount)


def _better_network(material: NativeMaterial, _rng: np.random.Generator) -> Grade:
    """Between the truth and our own mask, and on to a worse one: a network that sees more than ours, or less."""
    soft = ndimage.gaussian_filter(material.truth.astype(np.float32), 0.5 / np.array(material.spacing))
    blurred = ndimage.gaussian_filter(material.probability, 2.5 / np.array(material.spacing))

    def grade(amount: float) -> Mask:
        share = min(1.0, 2 * amount)
        beyond = max(0.0, 2 * amount - 1)
        seen = (1 - beyond) * material.probability + beyond * blurred
        return (1 - share) * soft + share * seen >= 0.5 if amount else material.truth

    return grade


def _shifted_level(material: NativeMaterial, rng: np.random.Generator) -> Grade:
    """Our own probability at another level, mixed with the truth while the error is small."""
    sign = 1 if rng.random() < 0.5 else -1
    soft = ndimage.gaussian_filter(material.truth.astype(np.float32), 0.5 / np.array(material.spacing))

    def grade(amount: float) -> Mask:
        mixed = (1 - amount) * soft + amount * material.probability
        return mixed >= 0.5 + sign * 0.48 * amount if amount else material.truth

    return grade


GRADED: dict[str, tuple[Maker, float]] = {
    "second expert": (_second_expert, 3.0),
    "better network": (_better_network, 3.0),
    "generous": (_generous, 1.0),
    "tight": (_tight, 1.0),
    "smoothed": (_smoothed, 1.0),
    "lesions left out": (_lesions_left_out, 1.0),
    "only large": (_only_large, 1.0),
    "cores": (_cores, 1.0),
    "rims": (_rims, 1.0),
    "false bright": (_false_bright, 1.0),
    "other level, graded": (_shifted_level, 1.0),
}
"""How each is made, and how often it is drawn relative to the others."""


OF_LESIONS = frozenset({"lesions left out", "only large", "cores", "rims", "false bright"})
"""Kinds of bright scattered things alone."""


def draw_graded(count: int, rng: np.random.Generator, scattered: bool = True) -> list[str]:
    """Names of ``count`` kinds, of a target that is scattered as lesions are or one of a kind; different ones while there are
    any.
    """
    known = {name: weight for name, (_, weight) in GRADED.items() if scattered or name not in OF_LESIONS}
    weights = np.array(list(known.values()))
    chosen = rng.choice(list(known), size=count, replace=count > len(known), p=weights / weights.sum())
    return [str(name) for name in chosen]


def graded_mask(kind: str, material: NativeMaterial, rng: np.random.Generator) -> Mask:
    """A mask of this kind whose Dice with the truth is about one drawn evenly from :data:`WORST` to :data:`BEST`.

    Where the kind cannot be as poor as that, the poorest that it makes. Most kinds get worse as the error grows; where one
    does not, any error that passes the wanted Dice will do.
    """
    near, box = material.cropped()
    grade, wanted = GRADED[kind][0](near, rng), rng.uniform(WORST, BEST)
    low, high = 0.0, 1.0
    tried = {1.0: grade(1.0)}
    off = {1.0: dice(tried[1.0], near.truth).dice - wanted}
    while off[high] < 0 and len(tried) <= STEPS:
        middle = (low + high) / 2
        tried[middle] = grade(middle)
        off[middle] = dice(tried[middle], near.truth).dice - wanted
        low, high = (middle, high) if off[middle] >= 0 else (low, middle)
    mask = np.zeros(material.truth.shape, bool)
    mask[box] = tried[min(off, key=lambda amount: abs(off[amount]))]
    return mask


def _signed_distance(material: NativeMaterial) -> Voxels:
    """Millimetres inside the truth's border; outside below zero."""
    distances = (ndimage.distance_transform_edt(part, sampling=material.spacing) for part in (material.truth, ~material.truth))
    inside, outside = distances
    half = 0.5 * min(material.spacing)
    return np.where(material.truth, inside - half, half - outside).astype(np.float32)


def _smooth_noise(material: NativeMaterial, rng: np.random.Generator, width: float) -> Voxels:
    """Of unit deviation, ``width`` mm smooth."""
    noise = ndimage.gaussian_filter(rng.standard_normal(material.truth.shape), width / np.array(material.spacing))
    return np.asarray(noise / max(float(noise.std()), 1e-6))


def _rank_of_lesions(material: NativeMaterial, rng: np.random.Generator) -> Numbers:
    """Place of each voxel's lesion by size, from 0 (smallest) to 1; 1 outside."""
    labels, sizes = label_components(material.truth)
    order = (sizes * rng.uniform(0.7, 1.4, len(sizes))).argsort().argsort()
    return np.concatenate([[1.0], order / max(1, len(sizes))])[labels]


def _bright_blobs(material: NativeMaterial, rng: np.random.Generator) -> Numbers:
    """Bright places of the brain that touch no lesion, in random order from 0 to 1; infinite elsewhere."""
    values = material.flair[material.brain] if material.brain.any() else material.flair
    smooth = ndimage.gaussian_filter(material.flair, 0.8 / np.array(material.spacing))
    bright = (smooth > np.percentile(values, rng.uniform(93, 98))) & material.brain
    labels, sizes = label_components(bright)
    touched = np.bincount(labels[ndimage.binary_dilation(material.truth)], minlength=len(sizes) + 1)[1:] > 0
    order = np.where(touched, np.inf, rng.permutation(len(sizes)) / max(1, len(sizes)))
    return np.concatenate([[np.inf], order])[labels]
