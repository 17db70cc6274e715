"""Lesion by lesion: what each part of a mask rests on, and where one looks missed. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from veridice.imaging.components import bounding_box, label_components
from veridice.quality.scan_analysis import ScanAnalysis
from veridice.types import Mask, ProbabilityMap, Voxels

if TYPE_CHECKING:
    import pandas as pd

MOST_LESIONS = 10_000
"""A mask of more parts is noise; its largest are listed."""
LIKELY = 0.5
"""Probability from which on a voxel that is not in the mask looks missed."""
FEATURES = ("mean_probability", "highest_probability", "share_of_passes", "log_volume", "brightness")
"""What the confidence in a lesion is computed from, and ``critic_chance`` where there is a critic; see :class:`LesionModel`."""


@dataclass(frozen=True)
class Lesion:
    """One connected part (26 neighbours) of a mask, or of what it misses.

    Args:
        number: in the label map of its mask, from 1.
        volume_ml: its volume.
        x, y, z: its centre of mass (mm, RAS+, as the affine has it).
        mean_probability, highest_probability: of our network, over its voxels.
        share_of_passes: in how many of our passes any of its voxels is a lesion.
        brightness: mean FLAIR against the brain's median, in its interquartile ranges.
        critic_chance: mean chance of a lesion over its voxels, by the critic; None without one.
    """

    number: int
    volume_ml: float
    x: float
    y: float
    z: float
    mean_probability: float
    highest_probability: float
    share_of_passes: float
    brightness: float
    critic_chance: float | None = None

    def features(self) -> list[float]:
        """In the order of :data:`FEATURES`, the critic's last."""
        row = {**asdict(self), "log_volume": float(np.log(self.volume_ml))}
        return [*(row[name] for name in FEATURES), *([] if self.critic_chance is None else [self.critic_chance])]


@dataclass(frozen=True)
class LesionModel:
    """Confidence that a lesion is one: a logistic function of :meth:`Lesion.features`.

    Args:
        intercept: of the logit.
        weights: one a feature.
    """

    intercept: float
    weights: tuple[float, ...]

    def confidence(self, lesions: Sequence[Lesion]) -> list[float]:
        """Of each lesion, between 0 and 1."""
        count = len(self.weights)
        logits = [self.intercept + float(np.dot(self.weights, lesion.features()[:count])) for lesion in lesions]
        return [float(1 / (1 + np.exp(-np.clip(logit, -50, 50)))) for logit in logits]


def fit_lesion_model(known: pd.DataFrame) -> LesionModel:
    """Logistic regression (scikit-learn) on lesions of which it is known whether they are real.

    Args:
        known: the fields of :class:`Lesion` and ``real``, one row a lesion; ``critic_chance`` of all or of none.
    """
    from sklearn.linear_model import LogisticRegression

    names = [field.name for field in fields(Lesion) if field.name in known and known[field.name].notna().all()]
    features = np.array([Lesion(**{name: row[name] for name in names}).features() for row in known.to_dict("records")])
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    scaled = (features - mean) / np.where(deviation > 0, deviation, 1.0)
    fitted = LogisticRegression(max_iter=1000).fit(scaled, known["real"].astype(bool))
    weights = fitted.coef_[0] / np.where(deviation > 0, deviation, 1.0)
    return LesionModel(float(fitted.intercept_[0] - weights @ mean), tuple(map(float, weights)))


def label_lesions(mask: Mask) -> tuple[np.ndarray[Any, np.dtype[np.int32]], int]:
    """Parts of a mask, the largest first; beyond :data:`MOST_LESIONS` they are left out (label 0)."""
    box = bounding_box(mask)
    labels, sizes = label_components(mask[box])
    count = len(sizes)
    order = 1 + np.argsort(-sizes, kind="stable")
    rank = np.zeros(count + 1, np.int32)
    rank[order] = np.arange(1, count + 1)
    rank[rank > MOST_LESIONS] = 0
    ranked = np.zeros(mask.shape, np.int32)
    ranked[box] = rank[labels]
    return ranked, min(count, MOST_LESIONS)


def describe_lesions(
    labels: np.ndarray[Any, np.dtype[np.int32]],
    count: int,
    flair: Voxels,
    analysis: ScanAnalysis,
    chance: ProbabilityMap | None = None,
) -> list[Lesion]:
    """What is known of each part of a label map (native grid), in the order of its numbers.

    Args:
        labels: (x, y, z), 0 is none.
        count: how many there are.
        flair: the scan in its own intensities.
        analysis: of the same scan.
        chance: of a lesion in each voxel, by the critic (native grid); None without one.
    """
    places = np.unravel_index(np.flatnonzero(labels), labels.shape)
    which = labels[places] - 1
    sizes = np.bincount(which, minlength=count).astype(float)
    centres = np.stack([np.bincount(which, axis, minlength=count) for axis in places]) / sizes
    millimetres = analysis.geometry.affine @ np.vstack([centres, np.ones(count)])
    probability = analysis.probability[places].astype(float)
    highest = np.zeros(count)
    np.maximum.at(highest, which, probability)
    middle, spread = _brain_intensities(flair, analysis)
    bright = (np.bincount(which, flair[places], minlength=count) / sizes - middle) / spread
    mean = np.bincount(which, probability, minlength=count) / sizes
    passes = _share_of_passes(labels, count, analysis)
    volumes = sizes * analysis.geometry.voxel_volume_ml
    columns = (volumes, *millimetres[:3], mean, highest, passes, bright)
    if chance is not None:
        columns = (*columns, np.bincount(which, chance[places].astype(float), minlength=count) / sizes)
    return [Lesion(number + 1, *(float(column[number]) for column in columns)) for number in range(count)]


def _share_of_passes(labels: np.ndarray[Any, np.dtype[np.int32]], count: int, analysis: ScanAnalysis) -> Any:
    inside = analysis.transform.crop(labels)[analysis.samples.region]
    seen = np.zeros(count + 1)
    for each in analysis.samples.masks:
        seen[np.unique(inside[each])] += 1
    return seen[1:] / max(1, len(analysis.samples.masks))


def _brain_intensities(flair: Voxels, analysis: ScanAnalysis) -> tuple[float, float]:
    brain = flair[analysis.native_brain]
    if brain.size < 2:
        return 0.0, 1.0
    low, middle, high = (float(value) for value in np.percentile(brain, [25, 50, 75]))
    return middle, (high - low) or 1.0


def missed_mask(mask: Mask, analysis: ScanAnalysis) -> Mask:
    """Parts of our own segmentation of which the mask has no voxel: places that look like missed lesions (native grid)."""
    likely = analysis.probability >= LIKELY
    box = bounding_box(likely)
    labels, sizes = label_components(likely[box])
    touched = np.zeros(len(sizes) + 1, bool)
    touched[0] = True
    touched[labels[mask[box]]] = True
    missed = np.zeros(mask.shape, bool)
    missed[box] = ~touched[labels]
    return missed
