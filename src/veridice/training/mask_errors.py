"""Masks of every quality and kind of error, to learn from and to be tested on: as people's tools and hands make them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk
from scipy import ndimage
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from veridice.imaging.components import label_components
from veridice.types import Mask, ProbabilityMap, Voxels

LEVELS = (0.1, 0.25, 0.75, 0.9)
SMALLEST_VOXELS = 3
"""Classical segmenters drop what is smaller, on the cube."""
SAMPLED = 20_000
"""Brain voxels that mixtures and clusters are fitted to."""


@dataclass(frozen=True)
class Material:
    """What masks of a scan are made of; everything on the cube.

    Args:
        flair, t1: in [0, 1]; ``t1`` is zero where there is none.
        brain: brain mask.
        truth: true mask.
        probability: of the network whose masks are damaged too.
        passes: its stochastic passes at 0.5 (passes, x, y, z).
        others: probability maps of other networks.
        other_patient: somebody else's lesions.
    """

    flair: Voxels
    t1: Voxels
    brain: Mask
    truth: Mask
    probability: ProbabilityMap
    passes: np.ndarray[tuple[int, int, int, int], np.dtype[np.bool_]]
    others: tuple[ProbabilityMap, ...]
    other_patient: Mask


Maker = Callable[[Material, np.random.Generator], Mask]


def _other_level(material: Material, rng: np.random.Generator) -> Mask:
    return material.probability >= LEVELS[rng.integers(len(LEVELS))]


def _other_network(material: Material, rng: np.random.Generator) -> Mask:
    if not material.others:
        return _other_level(material, rng)
    return material.others[rng.integers(len(material.others))] >= 0.5


def _second_rater(material: Material, rng: np.random.Generator) -> Mask:
    """The truth with a border drawn a little elsewhere and some of the smallest lesions in or out."""
    wobble = ndimage.gaussian_filter(rng.standard_normal(material.truth.shape), 1.5)
    distance = ndimage.gaussian_filter(material.truth.astype(np.float32), rng.uniform(0.5, 1.0))
    drawn = distance + rng.uniform(0.1, 0.5) * wobble / wobble.std() * (distance > 0.05) >= rng.uniform(0.35, 0.6)
    share = rng.uniform(0.0, 0.3)
    labels, sizes = label_components(drawn)
    small = sizes <= np.median(sizes) if len(sizes) else np.ones(0, bool)
    return np.concatenate([[False], ~small | (rng.random(len(sizes)) >= share)])[labels]


def _threshold(material: Material, rng: np.random.Generator) -> Mask:
    """FLAIR so many interquartile ranges above the brain's median."""
    values = material.flair[material.brain]
    low, middle, high = np.percentile(values, [25, 50, 75])
    return _cleaned((material.flair > middle + rng.uniform(0.9, 2.2) * (high - low)) & material.brain, rng)


def _mixture(material: Material, rng: np.random.Generator) -> Mask:
    """The brightest class of a Gaussian mixture of FLAIR intensities, or of FLAIR and T1w."""
    features, sample = _brain_features(material, rng)
    model = GaussianMixture(int(rng.integers(3, 6)), random_state=int(rng.integers(2**31)), max_iter=60).fit(sample)
    brightest = int(np.argmax(model.means_[:, 0]))
    return _class_mask(material, model.predict_proba(features)[:, brightest] > rng.uniform(0.5, 0.95), rng)


def _clusters(material: Material, rng: np.random.Generator) -> Mask:
    """The brightest of several clusters of FLAIR intensities (k-means)."""
    features, sample = _brain_features(material, rng)
    model = KMeans(int(rng.integers(4, 8)), n_init=1, random_state=int(rng.integers(2**31))).fit(sample)
    brightest = int(np.argmax(model.cluster_centers_[:, 0]))
    return _class_mask(material, model.predict(features) == brightest, rng)


def _grown_region(material: Material, rng: np.random.Generator) -> Mask:
    """Region growing (ITK) from the brightest voxels of the brain."""
    values = np.where(material.brain, material.flair, 0)
    places = np.argwhere(values >= np.percentile(material.flair[material.brain], 99.5))
    seeds = places[rng.choice(len(places), min(30, len(places)), replace=False)]
    level = float(np.percentile(material.flair[material.brain], rng.uniform(90, 97)))
    image = sitk.GetImageFromArray(values.astype(np.float32))
    grown = sitk.ConnectedThreshold(image, [[int(n) for n in seed[::-1]] for seed in seeds], level, 2.0)
    return np.asarray(sitk.GetArrayFromImage(grown) > 0)


def _mirrored(material: Material, rng: np.random.Generator) -> Mask:
    """Left for right, as after a lost orientation."""
    return np.ascontiguousarray((material.truth if rng.random() < 0.5 else material.probability >= 0.5)[::-1])


KINDS: dict[str, tuple[Maker, float]] = {
    "other level": (_other_level, 1.0),
    "one pass": (lambda material, rng: material.passes[rng.integers(len(material.passes))], 0.5),
    "other network": (_other_network, 2.5),
    "second rater": (_second_rater, 1.5),
    "damaged truth": (lambda material, rng: damage_mask(material.truth, rng), 2.0),
    "damaged own": (lambda material, rng: damage_mask(material.probability >= 0.5, rng), 1.0),
    "threshold": (_threshold, 1.5),
    "mixture": (_mixture, 1.0),
    "clusters": (_clusters, 0.7),
    "grown region": (_grown_region, 0.7),
    "stranger": (lambda material, _rng: material.other_patient, 0.3),
    "mirrored": (_mirrored, 0.2),
    "empty": (lambda material, _rng: np.zeros_like(material.truth), 0.2),
}
"""How each is made, and how often it is drawn relative to the others; our own mask comes beside them."""


OF_LESIONS = frozenset({"threshold", "mixture", "clusters", "grown region", "mirrored"})
"""Kinds that tools make of bright scattered things alone."""


def draw_kinds(count: int, rng: np.random.Generator, scattered: bool = True) -> list[str]:
    """Names of ``count`` kinds, of a target that is scattered as lesions are or one of a kind; different ones while there are
    any.
    """
    known = {name: weight for name, (_, weight) in KINDS.items() if scattered or name not in OF_LESIONS}
    names, weights = list(known), np.array(list(known.values()))
    return [str(name) for name in rng.choice(names, size=count, replace=count > len(names), p=weights / weights.sum())]


def make_mask(kind: str, material: Material, rng: np.random.Generator) -> Mask:
    """A mask of this kind, on the cube; where no brain was found, all that is not black takes its place."""
    if not material.brain.any():
        material = replace(material, brain=material.flair > 0)
    return KINDS[kind][0](material, rng)


def _brain_features(material: Material, rng: np.random.Generator) -> tuple[Voxels, Voxels]:
    images = [material.flair, material.t1] if material.t1.any() and rng.random() < 0.5 else [material.flair]
    features = np.stack([image[material.brain] for image in images], axis=-1).astype(np.float64)
    chosen = rng.choice(len(features), min(SAMPLED, len(features)), replace=False)
    return features, features[chosen]


def _class_mask(material: Material, members: np.ndarray[tuple[int], np.dtype[np.bool_]], rng: np.random.Generator) -> Mask:
    mask = np.zeros(material.brain.shape, bool)
    mask[material.brain] = members
    return _cleaned(mask, rng)


def _cleaned(mask: Mask, rng: np.random.Generator) -> Mask:
    """As tools do: opened, or without the smallest parts, or as it is."""
    choice = rng.random()
    if choice < 0.3:
        return np.asarray(ndimage.binary_opening(mask))
    if choice < 0.5:
        return mask
    labels, sizes = label_components(mask)
    return np.concatenate([[False], sizes >= int(rng.integers(SMALLEST_VOXELS, 30))])[labels]


def damage_mask(mask: Mask, rng: np.random.Generator) -> Mask:
    """A mask with one or two of the errors that segmenters and people make, of random amount."""
    damages = (_grow_or_shrink, _drop_lesions, _shift, _invent_lesions)
    for number in rng.choice(len(damages), size=rng.integers(1, 3), replace=False):
        mask = damages[number](mask, rng)
    return mask


def _grow_or_shrink(mask: Mask, rng: np.random.Generator) -> Mask:
    change = ndimage.binary_dilation if rng.random() < 0.5 else ndimage.binary_erosion
    return change(mask, iterations=int(rng.integers(1, 4)))


def _drop_lesions(mask: Mask, rng: np.random.Generator) -> Mask:
    labels, count = ndimage.label(mask)
    return np.concatenate([[False], rng.random(count) < rng.uniform(0.0, 0.9)])[labels]


def _shift(mask: Mask, rng: np.random.Generator) -> Mask:
    return np.roll(mask, rng.integers(-4, 5, size=3), axis=(0, 1, 2))


def _invent_lesions(mask: Mask, rng: np.random.Generator) -> Mask:
    # Blobs where smooth noise is highest, within the middle of the cube, where brains are.
    noise = ndimage.gaussian_filter(rng.standard_normal(mask.shape), rng.uniform(1.5, 3.0))
    middle = tuple(slice(n // 5, n - n // 5) for n in mask.shape)
    invented = np.zeros_like(mask)
    invented[middle] = noise[middle] > np.quantile(noise[middle], 1 - rng.uniform(0.0005, 0.02))
    return mask | invented
