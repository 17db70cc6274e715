"""Methods that learn from the scores of the training cases, predicted by segmenters that never saw these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer

Numbers = Mapping[str, float]

SIMPLE = ("volume", "lesion_count", "mask_contrast", "mean_foreground_entropy", "entropy_sum")
"""What anybody can read off a mask and an uncertainty map."""
NOT_EVIDENCE = ("dice", "dice_native", "load_ml", "true_error_sum", "true_absolute_error_sum", "ensemble")
"""The truth and what needs it; and the ensemble, which is not there for cases that its members know."""


def forest_on_simple_features(known: Sequence[Numbers], judged: Mapping[str, Numbers], seed: int) -> dict[str, float]:
    """Dice of each judged case from a few simple features by a random forest (Breiman 2001)."""
    model = make_pipeline(SimpleImputer(keep_empty_features=True), _forest(seed))
    return _fit_and_predict(model, known, judged, SIMPLE)


def combination(known: Sequence[Numbers], people: Sequence[str], judged: Mapping[str, Numbers], seed: int) -> dict[str, float]:
    """Dice of each judged case from all scores by whichever model does best in cross-validation on the known ones.

    The choice and the fit see training cases alone: validation and test stay out. ``people`` says whose each known one is.
    """
    names = sorted(set.intersection(*(set(numbers) for numbers in known)) - set(NOT_EVIDENCE))
    spread = QuantileTransformer(n_quantiles=max(2, min(50, len(known) // 2)), output_distribution="normal")
    imputer = SimpleImputer(keep_empty_features=True)
    candidates = [
        make_pipeline(imputer, spread, RidgeCV(np.logspace(-2, 4, 13))),
        make_pipeline(imputer, _forest(seed)),
        make_pipeline(imputer, GradientBoostingRegressor(n_estimators=100, max_depth=2, subsample=0.7, random_state=seed)),
    ]
    features, dice = _table(known, names), np.array([numbers["dice"] for numbers in known])
    folds = list(GroupKFold(min(5, len(set(people))), shuffle=True, random_state=seed).split(features, groups=people))
    errors = [np.abs(cross_val_predict(clone(model), features, dice, cv=folds) - dice).mean() for model in candidates]
    return _fit_and_predict(candidates[int(np.argmin(errors))], known, judged, names)


def _forest(seed: int) -> RandomForestRegressor:
    return RandomForestRegressor(n_estimators=300, min_samples_leaf=3, random_state=seed)


def _table(cases: Sequence[Numbers], names: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([[numbers[name] for name in names] for numbers in cases], np.float64)


def _fit_and_predict(
    model: Any, known: Sequence[Numbers], judged: Mapping[str, Numbers], names: Sequence[str]
) -> dict[str, float]:
    model.fit(_table(known, names), [numbers["dice"] for numbers in known])
    predicted = model.predict(_table(list(judged.values()), names)).clip(0, 1)
    return dict(zip(judged, map(float, predicted), strict=True))
