"""Targets of several parts, such as a hippocampus: masks that exclude one another, numbers that are means over the parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from veridice.config import Task
from veridice.types import Mask, ProbabilityMap, Voxels


def together(maps: Sequence[Voxels]) -> Voxels:
    """The highest value of any part in each voxel (x, y, z)."""
    return np.asarray(np.maximum.reduce(maps))


def masks_from_probabilities(probabilities: Sequence[ProbabilityMap]) -> list[Mask]:
    """Mask (x, y, z) of each part: voxels that are the target rather than not, each of its likeliest part."""
    if len(probabilities) == 1:
        return [probabilities[0] >= 0.5]
    likeliest, marked = np.argmax(probabilities, axis=0), together(probabilities) >= 0.5
    return [marked & (likeliest == number) for number in range(len(probabilities))]


def label_map(parts: Sequence[Mask], task: Task) -> Voxels:
    """Parts as one image (x, y, z) with the labels that the task gives them; of a target that is one part its mask."""
    if not task.parts:
        return parts[0]
    labels = np.zeros(parts[0].shape, np.min_scalar_type(max(task.parts.values())))
    for part, label in zip(parts, task.parts.values(), strict=True):
        labels[part] = label
    return labels


def mean_numbers(parts: Sequence[Mapping[str, float | None]]) -> dict[str, float | None]:
    """Each number's mean over the parts that have it; None where none has. NaN counts as not there."""
    means: dict[str, float | None] = {}
    for name in parts[0]:
        there = [value for part in parts if (value := part[name]) is not None and not np.isnan(value)]
        means[name] = float(np.mean(there)) if there else None
    return means
