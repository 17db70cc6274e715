"""The predicted Dice of any mask and how far off it may be, from evidence: scikit-learn's models as plain arrays. No torch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import expit, logit

from veridice.types import Array

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.ensemble import ExtraTreesRegressor

BASE = "expected_dice"
"""What the prediction begins with; the forest learns by how much its odds are off."""
FEATURES = (
    "agreement_mean",
    "agreement_deviation",
    "agreement_lowest",
    "pairwise_dice",
    "expected_dice",
    "expected_precision",
    "expected_recall",
    "own_dice",
    "own_tolerant_dice",
    "log_volume",
    "own_log_volume",
    "log_volume_ratio",
    "supported_lesions",
    "supported_volume",
    "missed_lesions",
    "missed_volume",
    "log_lesions",
    "log_mean_size",
    "brightness",
    "contrast",
    "mask_entropy",
    "outside_brain",
    "surface",
    "bright_outside",
    "bright_beyond",
    "dark_inside",
    "halfway_dice",
    "edge",
    "bright_elsewhere",
    "predicted_dice_image",
    "predicted_dice_uncertainty",
    "predicted_dice_error",
)
"""Scores that the prediction is made from."""
WITH_CRITIC = (*FEATURES, "critic_dice")
"""The same, where the weights have a critic."""
TREES, SMALLEST_LEAF = 200, 3
PERCEPTRONS, FARTHEST_INPUT = 3, 4.0
PERCEPTRON = {"hidden_layer_sizes": (48, 48), "alpha": 1.0, "learning_rate_init": 3e-3, "max_iter": 150}
"""Of scikit-learn's networks. The mean of forest and networks errs less than either (``benchmarks/ranking_loss.py``)."""
ENDS = 0.02
"""A Dice of 0 counts as this when odds are taken, one of 1 as 1 minus this."""
SMALLEST_SPREAD = 0.01
REAL_COUNTS = 3
"""As so many masks of simulated patients counts one of a real person in a fit that knows both: there are few of them. It is
repeated, so a leaf of a tree may hold one real mask alone; weighted, masks of left-out people are told apart less well."""
INNER_FOLDS = 5


@dataclass(frozen=True)
class Forest:
    """Extremely randomised trees (Geurts, Ernst, Wehenkel 2006), all nodes one after the other, a left child after its parent.

    Args:
        roots: first node of each tree.
        step: how many nodes on the right child lies; 0 in a leaf.
        feature: left where it is at most ``value``.
        value: threshold of an inner node, prediction of a leaf.
    """

    roots: Array
    step: Array
    feature: Array
    value: Array

    @classmethod
    def of(cls, fitted: ExtraTreesRegressor) -> Forest:
        """From scikit-learn's, whose trees are grown depth first; each number in the smallest type that holds all."""
        trees = [estimator.tree_ for estimator in fitted.estimators_]
        roots = np.cumsum([0, *(tree.node_count for tree in trees[:-1])])
        inner = np.concatenate([tree.children_left >= 0 for tree in trees])
        steps = np.concatenate([tree.children_right - np.arange(tree.node_count) for tree in trees])
        feature = np.concatenate([tree.feature for tree in trees])
        leaves, thresholds = (
            np.concatenate([getattr(tree, name).ravel() for tree in trees]) for name in ("value", "threshold")
        )
        return cls(
            roots.astype(np.int32),
            _smallest(np.where(inner, steps, 0)),
            _smallest(np.where(inner, feature, 0)),
            np.where(inner, thresholds, leaves).astype(np.float32),
        )

    def predict(self, inputs: Array) -> Array:
        """Mean over the trees for each row of ``inputs`` (cases, features); compared in float32."""
        inputs = np.asarray(inputs, np.float32)
        place = np.tile(self.roots, (len(inputs), 1))
        rows = np.arange(len(inputs))[:, None]
        while (step := self.step[place].astype(np.int32)).any():
            left = inputs[rows, self.feature[place]] <= self.value[place]
            place += np.where(left & (step > 0), 1, step)
        return np.asarray(self.value[place].mean(axis=1, dtype=np.float64))


@dataclass(frozen=True)
class Perceptrons:
    """Some networks of two hidden layers, which begin from other random weights (networks first in each array).

    Args:
        middle, scale: of each input (inputs,); what lies beyond :data:`FARTHEST_INPUT` scales counts as that far.
        weights, biases: of each layer (networks, from, to) and (networks, to).
    """

    middle: Array
    scale: Array
    weights: tuple[Array, ...]
    biases: tuple[Array, ...]

    @classmethod
    def fit(cls, inputs: Array, target: Array, seed: int) -> Perceptrons:
        """Learn with scikit-learn, which brings the optimiser."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPRegressor

        middle, scale = inputs.mean(axis=0), inputs.std(axis=0) + 1e-6
        shown = _limited((inputs - middle) / scale)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # they are stopped early on purpose
            made = [MLPRegressor(**PERCEPTRON, random_state=seed + number).fit(shown, target) for number in range(PERCEPTRONS)]
        layers = range(len(made[0].coefs_))
        weights = tuple(np.stack([one.coefs_[layer] for one in made]).astype(np.float32) for layer in layers)
        biases = tuple(np.stack([one.intercepts_[layer] for one in made]).astype(np.float32) for layer in layers)
        return cls(middle, scale, weights, biases)

    def predict(self, inputs: Array) -> Array:
        """Of each network, for each row of ``inputs`` (networks, cases)."""
        values = np.tile(_limited((inputs - self.middle) / self.scale), (len(self.weights[0]), 1, 1))
        for number, (weights, biases) in enumerate(zip(self.weights, self.biases, strict=True)):
            values = (values if number == 0 else values.clip(0.0)) @ weights + biases[:, None]
        return np.asarray(values[..., 0], np.float64)

    def arrays(self) -> dict[str, Array]:
        layers = {f"weights.{n}": part for n, part in enumerate(self.weights)}
        return {"middle": self.middle, "scale": self.scale, **layers, **{f"biases.{n}": b for n, b in enumerate(self.biases)}}

    @classmethod
    def from_arrays(cls, stored: Mapping[str, Array]) -> Perceptrons:
        """What :meth:`arrays` gave."""
        layers = range(sum(name.startswith("weights.") for name in stored))
        weights, biases = (tuple(stored[f"{name}.{n}"] for n in layers) for name in ("weights", "biases"))
        return cls(stored["middle"], stored["scale"], weights, biases)


def _limited(values: Array) -> Array:
    return values.clip(-FARTHEST_INPUT, FARTHEST_INPUT)


def _smallest(numbers: Array) -> Array:
    return numbers.astype(np.min_scalar_type(int(numbers.max(initial=0))))


@dataclass(frozen=True)
class Predictor:
    """A forest and small networks for the odds of the expected Dice, a forest for the logarithm of what is left of it.

    Args:
        features: names of the scores, in order.
        fill: what takes the place of a score that is missing (features,).
        odds: predicts the log odds of the true Dice minus those of :data:`BASE`, so that what is sure stays so.
        networks: predict the same; the predicted Dice is the mean of the forest's and theirs. None: the forest's alone, as in
            weights of older versions.
        error: predicts the logarithm of the absolute error, from the same inputs and the predicted Dice.
    """

    features: tuple[str, ...]
    fill: Array
    odds: Forest
    error: Forest
    networks: Perceptrons | None = None

    def predict(self, scores: Sequence[Mapping[str, float | None]] | pd.DataFrame) -> tuple[Array, Array]:
        """Predicted Dice in [0, 1] and expected size of its error, each (masks,); a score that is absent is filled in."""
        inputs = _filled(_values(scores, self.features), self.fill)
        dice = _predicted(log_odds(inputs[:, self.features.index(BASE)]), inputs, self.odds, self.networks)
        spread = np.exp(self.error.predict(np.column_stack([inputs, dice])))
        return dice, spread.clip(SMALLEST_SPREAD, 1.0)

    def arrays(self) -> dict[str, Array]:
        """Everything but the names, for a safetensors file."""
        stored = {"fill": self.fill}
        for name, forest in (("odds", self.odds), ("error", self.error)):
            stored |= {f"{name}.{part}": value for part, value in forest.__dict__.items()}
        if self.networks:
            stored |= {f"networks.{part}": value for part, value in self.networks.arrays().items()}
        return {name: np.ascontiguousarray(value) for name, value in stored.items()}

    @classmethod
    def from_arrays(cls, features: Sequence[str], stored: Mapping[str, np.ndarray[Any, Any]]) -> Predictor:
        """What :meth:`arrays` gave.

        Raises:
            KeyError, ValueError, IndexError: an array is missing or does not fit.
        """
        parts = ("roots", "step", "feature", "value")
        odds, error = (Forest(*(np.asarray(stored[f"{name}.{part}"]) for part in parts)) for name in ("odds", "error"))
        begin = "networks."
        of_networks = {name.removeprefix(begin): np.asarray(stored[name]) for name in stored if name.startswith(begin)}
        networks = Perceptrons.from_arrays(of_networks) if of_networks else None
        predictor = cls(tuple(features), np.asarray(stored["fill"]), odds, error, networks)
        if len(predictor.fill) != len(predictor.features):
            raise ValueError("as many features as fillings are needed")
        predictor.predict([dict.fromkeys(features, 0.0)])
        return predictor


def _predicted(base: Array, inputs: Array, forest: Forest, networks: Perceptrons | None) -> Array:
    """Dice (cases,) where ``base`` has the log odds that are corrected."""
    dice = from_odds(base + forest.predict(inputs))
    return dice if networks is None else (dice + from_odds(base + networks.predict(inputs)).mean(axis=0)) / 2


def log_odds(dice: Array) -> Array:
    """Of a Dice, drawn in from both ends by :data:`ENDS`."""
    return np.asarray(logit(ENDS + (1 - 2 * ENDS) * dice.clip(0.0, 1.0)))


def from_odds(odds: Array) -> Array:
    """The inverse of :func:`log_odds`, within [0, 1]."""
    return np.asarray((expit(odds) - ENDS) / (1 - 2 * ENDS)).clip(0.0, 1.0)


def _values(scores: Sequence[Mapping[str, float | None]] | pd.DataFrame, features: Sequence[str]) -> Array:
    rows: Any = scores.to_dict("records") if hasattr(scores, "to_dict") else scores
    values = [[row.get(name) for name in features] for row in rows]
    return np.array(values, np.float64).reshape(-1, len(features))


def _filled(values: Array, fill: Array) -> Array:
    return np.where(np.isfinite(values), values, fill)


def evidence_in(known: pd.DataFrame) -> tuple[str, ...]:
    """Those of :data:`WITH_CRITIC` that a table of masks has numbers of."""
    return tuple(name for name in WITH_CRITIC if name in known and known[name].notna().any())


def fit_predictor(known: pd.DataFrame, seed: int = 0, features: Sequence[str] | None = None, trees: int = 0) -> Predictor:
    """Learn from masks with a known Dice.

    The error is learnt from predictions of people who were left out of the fit, so that it is not that of remembered ones.

    Args:
        known: columns ``dice``, ``person`` and the features, and ``simulated`` where some are; one row a mask.
        seed: of forests and networks.
        features: names of the scores to use, :data:`BASE` among them; None: :func:`evidence_in` the table.
        trees: of each forest; 0: :data:`TREES`.
    """
    from sklearn.model_selection import GroupKFold

    features = evidence_in(known) if features is None else features
    if "simulated" in known and known["simulated"].any():
        known = known.loc[known.index.repeat(np.where(known["simulated"], 1, REAL_COUNTS))]
    values, dice = _values(known, features), known["dice"].to_numpy(np.float64)
    finite = np.where(np.isfinite(values), values, np.nan)
    fill = np.array([np.nanmedian(column) if np.isfinite(column).any() else 0.0 for column in finite.T])
    inputs = _filled(values, fill)
    base = log_odds(inputs[:, list(features).index(BASE)])
    missing = log_odds(dice) - base
    left_out = np.zeros(len(known))
    folds = GroupKFold(min(INNER_FOLDS, known["person"].nunique()), shuffle=True, random_state=seed)
    for train, rest in folds.split(inputs, groups=known["person"]):
        models = _fit(inputs[train], missing[train], seed, trees), Perceptrons.fit(inputs[train], missing[train], seed)
        left_out[rest] = _predicted(base[rest], inputs[rest], *models)
    error = np.log(np.abs(left_out - dice).clip(SMALLEST_SPREAD, 1.0))
    error_forest = _fit(np.column_stack([inputs, left_out]), error, seed, trees)
    networks = Perceptrons.fit(inputs, missing, seed)
    return Predictor(tuple(features), fill, _fit(inputs, missing, seed, trees), error_forest, networks)


def _fit(inputs: Array, target: Array, seed: int, trees: int) -> Forest:
    from sklearn.ensemble import ExtraTreesRegressor

    return Forest.of(ExtraTreesRegressor(trees or TREES, min_samples_leaf=SMALLEST_LEAF, random_state=seed).fit(inputs, target))
