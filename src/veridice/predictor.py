"""The predicted Dice of any mask and how far off it may be, from evidence. Learnt with scikit-learn; plain arrays. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold
from sklearn.neural_network import MLPRegressor

Array = np.ndarray[Any, np.dtype[np.float64]]
Layers = tuple[tuple[Array, Array], ...]
"""Weights (inputs, outputs) and biases (outputs,) from the first layer to the last."""

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
    "thickness",
    "predicted_dice_image",
    "predicted_dice_uncertainty",
    "predicted_dice_error",
)
"""Scores that the prediction is made from."""
MEMBERS, HIDDEN = 10, (24, 12)
PENALTY = 0.3
"""Weight of the squared weights; chosen on left-out people (docs/any-mask.md)."""
SMALLEST_SPREAD = 0.01
INNER_FOLDS = 5


@dataclass(frozen=True)
class Scaling:
    """From scores to inputs of the nets, each (features,).

    What is missing is filled, what is far out is brought to the edge of what was seen; then centred and scaled.
    """

    fill: Array
    low: Array
    high: Array
    mean: Array
    scale: Array

    @classmethod
    def of(cls, values: Array) -> Scaling:
        """From known cases (cases, features)."""
        with np.errstate(all="ignore"):
            fill = np.nan_to_num(np.nanmedian(values, axis=0))
        filled = np.where(np.isfinite(values), values, fill)
        low, high = np.percentile(filled, [0.5, 99.5], axis=0)
        inside = filled.clip(low, high)
        deviation = inside.std(axis=0)
        return cls(fill, low, high, inside.mean(axis=0), np.where(deviation > 0, deviation, 1.0))

    def __call__(self, values: Array) -> Array:
        filled = np.where(np.isfinite(values), values, self.fill)
        return np.asarray((filled.clip(self.low, self.high) - self.mean) / self.scale)


@dataclass(frozen=True)
class Predictor:
    """An ensemble of small nets for the Dice, and one of the logarithm of its error.

    Args:
        features: names of the scores, in order.
        scaling: of the scores.
        dice: members that predict the Dice.
        error: members that predict the logarithm of its absolute error, from the same inputs and the predicted Dice.
    """

    features: tuple[str, ...]
    scaling: Scaling
    dice: tuple[Layers, ...]
    error: tuple[Layers, ...]

    def predict(self, scores: Sequence[Mapping[str, float | None]] | pd.DataFrame) -> tuple[Array, Array]:
        """Predicted Dice in [0, 1] and expected size of its error, each (masks,); a score that is absent is filled in."""
        table = pd.DataFrame(scores if isinstance(scores, pd.DataFrame) else list(scores))
        values = table.reindex(columns=list(self.features)).to_numpy(np.float64, na_value=np.nan)
        inputs = self.scaling(values)
        dice = _ensemble(self.dice, inputs).clip(0.0, 1.0)
        spread = np.exp(_ensemble(self.error, np.column_stack([inputs, dice])))
        return dice, spread.clip(SMALLEST_SPREAD, 1.0)

    def arrays(self) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
        """Everything but the names, for a safetensors file."""
        stored = {f"scaling.{name}": value for name, value in self.scaling.__dict__.items()}
        for kind, members in (("dice", self.dice), ("error", self.error)):
            for number, layers in enumerate(members):
                for depth, (weights, biases) in enumerate(layers):
                    stored |= {f"{kind}.{number}.{depth}.weights": weights, f"{kind}.{number}.{depth}.biases": biases}
        return {name: np.ascontiguousarray(value, np.float32) for name, value in stored.items()}

    @classmethod
    def from_arrays(cls, features: Sequence[str], stored: Mapping[str, np.ndarray[Any, Any]]) -> Predictor:
        """What :meth:`arrays` gave.

        Raises:
            KeyError, ValueError: an array is missing or its shape does not fit.
        """
        known = {name: np.asarray(value, np.float64) for name, value in stored.items()}
        scaling = Scaling(*(known[f"scaling.{name}"] for name in ("fill", "low", "high", "mean", "scale")))
        predictor = cls(tuple(features), scaling, _members(known, "dice"), _members(known, "error"))
        predictor.predict([dict.fromkeys(features, 0.0)])
        return predictor


def _members(known: Mapping[str, Array], kind: str) -> tuple[Layers, ...]:
    members = sorted({int(name.split(".")[1]) for name in known if name.startswith(f"{kind}.")})
    found = []
    for member in members:
        depths = sorted({int(name.split(".")[2]) for name in known if name.startswith(f"{kind}.{member}.")})
        layers = ((known[f"{kind}.{member}.{d}.weights"], known[f"{kind}.{member}.{d}.biases"]) for d in depths)
        found.append(tuple(layers))
    return tuple(found)


def _ensemble(members: tuple[Layers, ...], inputs: Array) -> Array:
    return np.asarray(np.mean([_forward(layers, inputs) for layers in members], axis=0))


def _forward(layers: Layers, inputs: Array) -> Array:
    values = inputs
    for weights, biases in layers[:-1]:
        values = np.tanh(values @ weights + biases)
    weights, biases = layers[-1]
    return np.asarray((values @ weights + biases)[:, 0])


def fit_predictor(known: pd.DataFrame, seed: int = 0, features: Sequence[str] = FEATURES) -> Predictor:
    """Learn from masks with a known Dice.

    The error is learnt from predictions of people who were left out of the fit, so that it is not that of remembered ones.

    Args:
        known: columns ``dice``, ``person`` and the features; one row a mask.
        seed: of the nets.
        features: names of the scores to use.
    """
    values, dice = known.reindex(columns=list(features)).to_numpy(np.float64), known["dice"].to_numpy(np.float64)
    scaling = Scaling.of(values)
    inputs = scaling(values)
    left_out = np.zeros(len(known))
    folds = GroupKFold(min(INNER_FOLDS, known["person"].nunique()), shuffle=True, random_state=seed)
    for train, rest in folds.split(inputs, groups=known["person"]):
        left_out[rest] = _ensemble(_fit(inputs[train], dice[train], seed), inputs[rest]).clip(0, 1)
    error = np.log(np.abs(left_out - dice).clip(SMALLEST_SPREAD, 1.0))
    members = _fit(inputs, dice, seed)
    return Predictor(tuple(features), scaling, members, _fit(np.column_stack([inputs, left_out]), error, seed))


def _fit(inputs: Array, target: Array, seed: int) -> tuple[Layers, ...]:
    members = []
    for number in range(MEMBERS):
        net = MLPRegressor(
            hidden_layer_sizes=HIDDEN,
            activation="tanh",
            alpha=PENALTY,
            batch_size=min(64, len(target)),
            max_iter=300,
            random_state=seed * 1000 + number,
        ).fit(inputs, target)
        members.append(tuple((np.asarray(w), np.asarray(b)) for w, b in zip(net.coefs_, net.intercepts_, strict=True)))
    return tuple(members)
