"""Is this scan like those that the models know? Image descriptors and segmenter features, seen in three ways. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp

from veridice.errors import InputError
from veridice.quality.image_features import DESCRIPTORS
from veridice.types import Array

COMPONENTS = 12
"""Principal components of the segmenter's features that are kept."""
FOLDS = 5
FEWEST_PEOPLE = 2
CONSTANT = 1e-6
"""Deviation below which a descriptor is the same for all."""
FARTHEST = 4.0
"""Deviations beyond which a value says nothing more to the classifier, so that none outvotes all others."""
SHRINKAGE = 0.3
"""Of the classifier's covariance towards a round one."""
NARROWEST = 0.5
"""Least width of a descriptor's usual range on either side, in deviations."""
WORDS = ("kinds", "names")
"""What a detector has that is no array."""
KNOWN = ""
"""Kind of a scan that is not odd."""
PARTS = ("distance", "single", "surprise")
"""The three ways: all values together, the oddest descriptor alone, likeness to made odd scans."""
TOLERATED = (0.001, 0.001, 0.028)
"""Share of known scans, judged by people they are not of, that may exceed the limit of each part: 3 % together at most.

Most of it goes to the surprise, which tells nearest; the others are for what nobody thought of.
"""
USUAL = 0.02
"""Share of known scans on either side of a descriptor's usual range."""
WORTH_SAYING = 1.5
"""Usual half ranges from which on a descriptor is named."""


@dataclass(frozen=True)
class OodDetector:
    """How far a scan is from known ones; the largest of three parts, each against its own limit, counts.

    ``distance``: Mahalanobis distance (Lee et al. 2018, arXiv:1807.03888) of descriptors and segmenter features together.
    ``single``: the descriptor that is farthest out, in half ranges of known scans. ``surprise``: minus the logarithm of the
    chance that it is known, by a linear discriminant that was shown odd scans (Hendrycks et al. 2019, arXiv:1812.04606).

    Args:
        mean, scale: of the descriptors, then the features, each (values,).
        components: (components, features) principal axes of the scaled features, in deviations of known scans.
        centre: mean of scaled descriptors and components.
        precision: inverse of their covariance.
        middle, below, above: median of each descriptor and its usual range on either side, in units of ``scale``.
        weights, intercept: of the classifier, (classes, inputs) and (classes,); the first class is "known".
        limits: of :data:`PARTS`, beyond which a scan is unfamiliar.
        kinds: names of the other classes.
        names: of the descriptors, those that it learnt from.
    """

    mean: Array
    scale: Array
    components: Array
    centre: Array
    precision: Array
    middle: Array
    below: Array
    above: Array
    weights: Array
    intercept: Array
    limits: Array
    kinds: tuple[str, ...] = ()
    names: tuple[str, ...] = tuple(DESCRIPTORS)

    def unfamiliarity(self, descriptors: Mapping[str, float], features: Array) -> float:
        """Of one scan, 1 is the most that is tolerated; infinite where a descriptor is missing."""
        values = _values(self.names, descriptors, features)
        if not np.isfinite(values).all():
            return np.inf
        return float((self._parts(values[None])[0] / self.limits).max())

    def parts(self, descriptors: Mapping[str, float], features: Array) -> dict[str, float]:
        """Each of :data:`PARTS` in units of its limit; infinite where a descriptor is missing."""
        values = _values(self.names, descriptors, features)
        found = self._parts(values[None])[0] / self.limits if np.isfinite(values).all() else np.full(len(PARTS), np.inf)
        return dict(zip(PARTS, found.tolist(), strict=True))

    def unusual(self, descriptors: Mapping[str, float], most: int = 3) -> list[str]:
        """Descriptors that are farthest from the known ones, in words, the farthest first; none within the usual range."""
        away = self._away(np.array([[descriptors[name] for name in self.names]]))[0]
        if not np.isfinite(away).all():
            return ["no brain was found"]
        order = [place for place in np.argsort(-np.abs(away)) if abs(away[place]) >= WORTH_SAYING]
        return [f"{DESCRIPTORS[self.names[place]]}: too {'high' if away[place] > 0 else 'low'}" for place in order[:most]]

    def most_like(self, descriptors: Mapping[str, float], features: Array) -> str | None:
        """Kind of odd scan that this one is most like; None where it is more like a known one."""
        values = _values(self.names, descriptors, features)
        if not self.kinds or not np.isfinite(values).all():
            return None
        scores = self._scores(values[None])[0]
        return self.kinds[int(scores[1:].argmax())] if scores[1:].max() > scores[0] else None

    def _parts(self, values: Array) -> Array:
        """Rows of values to rows of :data:`PARTS`, not yet against the limits."""
        away = self._reduced(values) - self.centre
        distance = np.sqrt(np.einsum("ij,jk,ik->i", away, self.precision, away))
        single = np.abs(self._away(values[:, : len(self.names)])).max(axis=1)
        scores = self._scores(values)
        return np.column_stack([distance, single, logsumexp(scores, axis=1) - scores[:, 0]])

    def _away(self, descriptors: Array) -> Array:
        known = len(self.names)
        away = (descriptors - self.mean[:known]) / self.scale[:known] - self.middle
        return np.asarray(away / np.where(away < 0, self.below, self.above))

    def _scores(self, values: Array) -> Array:
        return np.asarray(_inputs(self._reduced(values)) @ self.weights.T + self.intercept)

    def _reduced(self, values: Array) -> Array:
        return _reduced(values, self.mean, self.scale, self.components, len(self.names))

    def arrays(self) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
        """Everything but the words, for a safetensors file."""
        stored = {name: value for name, value in self.__dict__.items() if name not in WORDS}
        return {f"familiarity.{name}": np.ascontiguousarray(value, np.float32) for name, value in stored.items()}

    @classmethod
    def from_arrays(cls, stored: Mapping[str, np.ndarray[Any, Any]], kinds: Sequence[str], names: Sequence[str]) -> OodDetector:
        """What :meth:`arrays` gave.

        Raises:
            KeyError: an array is missing.
            ValueError: they are of other descriptors or kinds.
        """
        parts = [name for name in cls.__dataclass_fields__ if name not in WORDS]
        found = {name: np.asarray(stored[f"familiarity.{name}"], np.float64) for name in parts}
        fits = found["middle"].shape == (len(names),) and len(found["weights"]) == len(kinds) + 1
        if not fits or not set(names) <= set(DESCRIPTORS):
            raise ValueError("the scans that are known were described in another way")
        return cls(**found, kinds=tuple(kinds), names=tuple(names))


def _values(names: Sequence[str], descriptors: Mapping[str, float], features: Array) -> Array:
    return np.concatenate([[descriptors[name] for name in names], np.asarray(features, np.float64)])


def _reduced(values: Array, mean: Array, scale: Array, components: Array, known: int) -> Array:
    scaled = (values - mean) / scale
    return np.column_stack([scaled[:, :known], scaled[:, known:] @ components.T])


def _inputs(reduced: Array) -> Array:
    """What the classifier sees: each value and, since too much and too little are both odd, its size."""
    near = np.clip(reduced, -FARTHEST, FARTHEST)
    return np.column_stack([near, np.abs(near)])


def fit_ood_detector(
    descriptors: Sequence[Mapping[str, float]],
    features: Sequence[Array],
    people: Sequence[str],
    kinds: Sequence[str] | None = None,
    seed: int = 0,
    weights: Sequence[float] | None = None,
) -> OodDetector:
    """Learn what known scans look like and how odd ones differ; the limits come from people who were left out of the fit.

    Args:
        descriptors: one a scan.
        features: of the segmenter, one vector a scan.
        people: whose scans they are; an odd version is its person's too.
        kinds: of each scan, :data:`KNOWN` or what is odd about it; None: all are known.
        seed: of the folds.
        weights: how much each scan counts where the limits are drawn; None: all the same.

    Raises:
        InputError: fewer than two people have a known scan.
    """
    from sklearn.model_selection import GroupKFold

    values = np.stack([_values(tuple(DESCRIPTORS), known, found) for known, found in zip(descriptors, features, strict=True)])
    usable = np.isfinite(values).all(axis=1)
    values, groups = values[usable], np.asarray(people)[usable]
    labels = np.array([KNOWN] * len(people) if kinds is None else list(kinds))[usable]
    counts = np.asarray(np.ones(len(people)) if weights is None else weights, np.float64)[usable]
    known = labels == KNOWN
    if len(set(groups[known])) < FEWEST_PEOPLE:
        raise InputError("what known scans look like is learnt from at least two people; add scans to the manifest")
    left_out = np.zeros((len(values), len(PARTS)))
    for train, rest in GroupKFold(min(FOLDS, len(set(groups))), shuffle=True, random_state=seed).split(values, groups=groups):
        left_out[rest] = _fit(values[train], labels[train])._parts(values[rest])
    whole = _fit(values, labels)
    return OodDetector(**{**whole.__dict__, "limits": _limits(left_out[known], counts[known])})


def _limits(left_out: Array, counts: Array) -> Array:
    """Limits that let :data:`TOLERATED` of known scans exceed each of them."""
    ends = [
        np.quantile(part, 1 - share, weights=counts, method="inverted_cdf")
        for part, share in zip(left_out.T, TOLERATED, strict=True)
    ]
    return np.maximum(ends, CONSTANT)


def _fit(values: Array, labels: np.ndarray[Any, Any]) -> OodDetector:
    from sklearn.covariance import LedoitWolf
    from sklearn.decomposition import PCA

    usual, known = values[labels == KNOWN], len(DESCRIPTORS)
    mean, deviation = usual.mean(axis=0), usual.std(axis=0)
    scale = np.where(deviation > CONSTANT, deviation, 1.0)
    scaled, every = (usual - mean) / scale, (values - mean) / scale
    count = min(COMPONENTS, len(usual) - 1, scaled.shape[1] - known)
    # Axes along which odd scans differ too; each in deviations of known ones.
    axes = PCA(count, random_state=0).fit(every[:, known:]).components_
    components = axes / np.maximum((scaled[:, known:] @ axes.T).std(axis=0), CONSTANT)[:, None]
    covariance = LedoitWolf().fit(_reduced(usual, mean, scale, components, known))
    low, middle, high = np.quantile(scaled[:, :known], [USUAL, 0.5, 1 - USUAL], axis=0)
    kinds = tuple(sorted(set(labels.tolist()) - {KNOWN}))
    weights, intercept = _classifier(_inputs(_reduced(values, mean, scale, components, known)), labels, kinds)
    return OodDetector(
        mean,
        scale,
        components,
        covariance.location_,
        covariance.precision_,
        middle,
        np.maximum(middle - low, NARROWEST),
        np.maximum(high - middle, NARROWEST),
        weights,
        intercept,
        np.ones(len(PARTS)),
        kinds,
    )


def _classifier(inputs: Array, labels: np.ndarray[Any, Any], kinds: tuple[str, ...]) -> tuple[Array, Array]:
    """Weights of "known" and of each kind; a scan is taken to be as likely known as odd before it is looked at.

    A covariance that all classes share, shrunk, is what a dozen examples of a kind can bear.
    """
    if not kinds:
        return np.zeros((1, inputs.shape[1])), np.zeros(1)
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    classes = [0 if label == KNOWN else 1 + kinds.index(label) for label in labels]
    chances = np.array([0.5, *[0.5 / len(kinds)] * len(kinds)])
    fitted = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE, priors=chances).fit(inputs, classes)
    if len(kinds) > 1:
        return fitted.coef_, fitted.intercept_
    return np.vstack([-fitted.coef_, fitted.coef_]) / 2, np.concatenate([-fitted.intercept_, fitted.intercept_]) / 2
