"""Is this scan like those that the models know? Plain image descriptors and the segmenter's own features. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.model_selection import GroupKFold

from veridice.input_checks import depth_correlation
from veridice.types import Mask, Voxels

Array = np.ndarray[Any, np.dtype[np.float64]]
COMPONENTS = 12
"""Principal components of the segmenter's features that are kept."""
TOLERATED = 0.02
"""Share of known scans, judged by people they are not of, that may seem unfamiliar."""
FOLDS = 5
CONSTANT = 1e-6
"""Deviation below which a descriptor is the same for all."""

DESCRIPTORS = {
    "brain_volume": "volume of the brain",
    "head_share": "amount of head around the brain",
    "median": "brightness of the brain",
    "spread": "contrast within the brain",
    "dark": "darkness of its darkest parts (cerebrospinal fluid on a FLAIR)",
    "bright": "brightness of its brightest parts",
    "skewness": "shape of the histogram",
    "noise": "noise",
    "air": "signal outside the head (motion, ghosts)",
    "depth": "how tissue brightens towards the middle (a T1w does, a FLAIR does not)",
    "symmetry": "likeness of left and right",
    "smoothness": "sharpness",
}
"""What is measured on the FLAIR, in words."""
FEATURES = "what the segmenter sees in it"
"""In words, for the distance that the segmenter's features alone make."""


def describe_scan(flair: Voxels, brain: Mask, voxel_volume_ml: float) -> dict[str, float]:
    """Numbers of :data:`DESCRIPTORS` for a FLAIR (x, y, z; in [0, 1]) on the cube; NaN where there is no brain.

    Args:
        flair: on the cube.
        brain: on the cube.
        voxel_volume_ml: of a voxel of the cube.
    """
    values = flair[brain]
    if values.size < 100:
        return dict.fromkeys(DESCRIPTORS, np.nan)
    head = flair > 0.05
    low, quarter, middle, three, high = (float(v) for v in np.percentile(values, [2, 25, 50, 75, 98]))
    spread = max(three - quarter, 1e-3)
    inner = ndimage.binary_erosion(brain, iterations=2)
    residue = (flair - ndimage.median_filter(flair, size=3))[inner] if inner.any() else np.zeros(1)
    outside = flair[~ndimage.binary_dilation(head | brain, iterations=2)]
    slopes = [np.abs(np.diff(flair, axis=axis))[_along(inner, axis)] for axis in range(3)]
    return {
        "brain_volume": float(np.log(np.count_nonzero(brain) * voxel_volume_ml)),
        "head_share": float(np.count_nonzero(head & ~brain) / values.size),
        "median": middle,
        "spread": float(np.log(spread)),
        "dark": (low - middle) / spread,
        "bright": (high - middle) / spread,
        "skewness": float(((values - values.mean()) ** 3).mean() / max(values.std(), 1e-3) ** 3),
        "noise": float(np.log(np.median(np.abs(residue)) / spread + 1e-3)),
        "air": float(outside.mean() / max(middle, 1e-3)) if outside.size else 0.0,
        "depth": depth_correlation(flair, np.where(brain, flair, 0)),
        "symmetry": _symmetry(flair, brain),
        "smoothness": float(np.log(np.mean([slope.mean() if slope.size else 0.0 for slope in slopes]) / spread + 1e-3)),
    }


def _along(mask: Mask, axis: int) -> Mask:
    return np.asarray(np.delete(mask, -1, axis=axis))


def _symmetry(flair: Voxels, brain: Mask) -> float:
    """Correlation of the blurred brain with its mirror image; the cube's first axis is left to right."""
    places = np.argwhere(brain)
    start, stop = places.min(axis=0), places.max(axis=0) + 1
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    image = ndimage.gaussian_filter(np.where(brain, flair, 0)[box], 3)
    both = brain[box] & brain[box][::-1]
    if np.count_nonzero(both) < 100 or image[both].std() == 0:
        return 0.0
    return float(np.corrcoef(image[both], image[::-1][both])[0, 1])


@dataclass(frozen=True)
class Familiarity:
    """A Mahalanobis distance (Lee et al. 2018, arXiv:1807.03888) of descriptors and segmenter features together.

    Args:
        mean, scale: of the descriptors, then the features, each (values,).
        components: (components, features) principal axes of the scaled features.
        centre: mean of scaled descriptors and components.
        precision: inverse of their covariance.
        limit: distance beyond which a scan is unfamiliar.
    """

    mean: Array
    scale: Array
    components: Array
    centre: Array
    precision: Array
    limit: float

    def distance(self, descriptors: Mapping[str, float], features: Array) -> float:
        """Of one scan; infinite where a descriptor is missing."""
        values = _values(descriptors, features)
        if not np.isfinite(values).all():
            return np.inf
        away = self._reduced(values[None])[0] - self.centre
        return float(np.sqrt(away @ self.precision @ away))

    def oddities(self, descriptors: Mapping[str, float], most: int = 3) -> list[str]:
        """Descriptors that are farthest from the known ones, in words, the farthest first; beyond three deviations."""
        names = list(DESCRIPTORS)
        away = (np.array([descriptors[name] for name in names]) - self.mean[: len(names)]) / self.scale[: len(names)]
        order = [place for place in np.argsort(-np.abs(away)) if not np.abs(away[place]) < 3]
        return [DESCRIPTORS[names[place]] for place in order[:most]]

    def _reduced(self, values: Array) -> Array:
        scaled = (values - self.mean) / self.scale
        known = len(DESCRIPTORS)
        return np.column_stack([scaled[:, :known], scaled[:, known:] @ self.components.T])

    def arrays(self) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
        """For a safetensors file."""
        stored = {name: value for name, value in self.__dict__.items() if name != "limit"} | {"limit": np.array([self.limit])}
        return {f"familiarity.{name}": np.ascontiguousarray(value, np.float32) for name, value in stored.items()}

    @classmethod
    def from_arrays(cls, stored: Mapping[str, np.ndarray[Any, Any]]) -> Familiarity:
        """What :meth:`arrays` gave.

        Raises:
            KeyError: an array is missing.
        """
        names = ("mean", "scale", "components", "centre", "precision", "limit")
        mean, scale, components, centre, precision, limit = (np.asarray(stored[f"familiarity.{n}"], np.float64) for n in names)
        return cls(mean, scale, components, centre, precision, float(limit[0]))


def _values(descriptors: Mapping[str, float], features: Array) -> Array:
    return np.concatenate([[descriptors[name] for name in DESCRIPTORS], np.asarray(features, np.float64)])


def fit_familiarity(
    descriptors: Sequence[Mapping[str, float]], features: Sequence[Array], people: Sequence[str], seed: int = 0
) -> Familiarity:
    """Learn what known scans look like; the limit comes from people who were left out of the fit.

    Args:
        descriptors: one a scan.
        features: of the segmenter, one vector a scan.
        people: whose scans they are.
        seed: of the folds.
    """
    values = np.stack([_values(known, found) for known, found in zip(descriptors, features, strict=True)])
    usable = np.isfinite(values).all(axis=1)
    values, groups = values[usable], np.asarray(people)[usable]
    left_out = np.zeros(len(values))
    for train, rest in GroupKFold(min(FOLDS, len(set(groups))), shuffle=True, random_state=seed).split(values, groups=groups):
        fitted = _fit(values[train])
        away = fitted._reduced(values[rest]) - fitted.centre
        left_out[rest] = np.sqrt(np.einsum("ij,jk,ik->i", away, fitted.precision, away))
    whole = _fit(values)
    limit = float(np.quantile(left_out, 1 - TOLERATED))
    return Familiarity(whole.mean, whole.scale, whole.components, whole.centre, whole.precision, limit)


def _fit(values: Array) -> Familiarity:
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    scale = np.where(deviation > CONSTANT, deviation, 1.0)
    known = len(DESCRIPTORS)
    scaled = (values - mean) / scale
    count = min(COMPONENTS, len(values) - 1, scaled.shape[1] - known)
    components = PCA(count, random_state=0).fit(scaled[:, known:]).components_
    reduced = np.column_stack([scaled[:, :known], scaled[:, known:] @ components.T])
    covariance = LedoitWolf().fit(reduced)
    return Familiarity(mean, scale, components, covariance.location_, covariance.precision_, np.inf)
