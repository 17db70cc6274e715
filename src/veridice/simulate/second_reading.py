"""What a second expert would draw of the same scan, and how well that agrees with the first. No image is needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from veridice.imaging.components import bounding_box, label_components
from veridice.types import ProbabilityMap, Voxels


@dataclass(frozen=True)
class Reading:
    """How two readings differ. The sizes are guesses; no real second readings were at hand (docs/promise.md).

    Args:
        blur_mm: deviation of the Gaussian within which a border is uncertain to the eye.
        leaning: deviation of the level at which a reader draws borders, of the blurred share of lesion.
        wander: deviation of how much that level changes along a border.
        wander_mm: over which distance it does.
        overlooked: chance that a reader does not mark a lesion of no size ...
        overlooked_ml: ... which falls to a third of it at this volume; as often the other marks what this one does not.
    """

    blur_mm: float = 0.8
    leaning: float = 0.12
    wander: float = 0.15
    wander_mm: float = 4.0
    overlooked: float = 0.7
    overlooked_ml: float = 0.06


def second_reading_dice(
    share: ProbabilityMap, spacing: tuple[float, float, float], rng: np.random.Generator, reading: Reading
) -> float:
    """Dice of a second reading with the first, which is drawn where at least half of a voxel is lesion.

    Args:
        share: part of each voxel that is lesion (x, y, z); some voxel has half.
        spacing: edges of a voxel (mm).
        rng: of what the second reader does.
        reading: how readers differ.
    """
    box = bounding_box(share > 0, 2 + int(np.ceil(3 * reading.blur_mm / min(spacing))))
    part = share[box]
    first = part >= 0.5
    soft = ndimage.gaussian_filter(part.astype(np.float32), reading.blur_mm / np.array(spacing))
    # The blurred border of a small lesion lies below half: a reader draws what he sees, so the level follows the first one's.
    usual = _level_of_same_volume(soft, first)
    level = usual * (1 + 2 * rng.normal(0, reading.leaning)) + 2 * usual * reading.wander * _wandering(
        part.shape, spacing, rng, reading
    )
    drawn = (soft >= level) & (soft > 0.02)
    labels, sizes = label_components(first | drawn)
    volumes = np.bincount(labels[first], minlength=len(sizes) + 1)[1:] * float(np.prod(spacing)) / 1000
    chance = reading.overlooked * np.exp(-volumes / reading.overlooked_ml)
    seen = np.concatenate([[False], rng.random(len(sizes)) >= chance])[labels]
    # As much as one reader leaves out, the other would: it counts where the second one marks it elsewhere.
    elsewhere = np.concatenate([[0.0], rng.random(len(sizes)) < chance])[labels] * first
    second = drawn & seen
    total = first.sum() + second.sum() + elsewhere.sum()
    return float(2 * (first & second).sum() / total)


def _level_of_same_volume(soft: Voxels, first: np.ndarray[tuple[int, int, int], np.dtype[np.bool_]]) -> float:
    return float(np.partition(soft.ravel(), soft.size - int(first.sum()))[soft.size - int(first.sum())])


def _wandering(
    shape: tuple[int, ...], spacing: tuple[float, float, float], rng: np.random.Generator, reading: Reading
) -> Voxels:
    noise = ndimage.gaussian_filter(rng.standard_normal(shape), reading.wander_mm / np.array(spacing))
    return np.asarray(noise / max(float(noise.std()), 1e-6), np.float32)
