"""The predicted Dice follows the evidence, and knows how far off it may be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load, save
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPRegressor

from veridice.quality import predictor as module
from veridice.quality.predictor import Forest, Perceptrons, Predictor, fit_predictor, from_odds, log_odds

NAMES = ("expected_dice", "log_volume", "contrast")


def drawn(count: int, seed: int) -> pd.DataFrame:
    """The Dice is close to the agreement where masks are large, far from it where they are small."""
    rng = np.random.default_rng(seed)
    agreement, volume = rng.uniform(0, 1, count), rng.uniform(-3, 4, count)
    error = np.where(volume > 0, 0.03, 0.15) * rng.standard_normal(count)
    contrast = np.where(rng.random(count) < 0.2, np.nan, rng.standard_normal(count))
    return pd.DataFrame(
        {
            "expected_dice": agreement,
            "log_volume": volume,
            "contrast": contrast,
            "dice": (0.1 + 0.8 * agreement + error).clip(0, 1),
            "person": [f"p{n // 4}" for n in range(count)],
        }
    )


@pytest.fixture(scope="module")
def fitted() -> Predictor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TREES", 40)
        return fit_predictor(drawn(400, 0), features=NAMES)


def test_predictions_and_spreads(fitted: Predictor) -> None:
    asked = drawn(400, 1)
    dice, spread = fitted.predict(asked)
    large = asked["log_volume"] > 0
    assert np.abs(dice - asked["dice"])[large].mean() < 0.05
    assert np.corrcoef(dice, asked["dice"])[0, 1] > 0.85
    assert spread[large & (asked["log_volume"] > 1)].mean() * 2 < spread[asked["log_volume"] < -1].mean()
    assert (spread > 0).all()


def test_a_real_mask_counts_as_several_simulated_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TREES", 10)
    known, real = drawn(60, 2), np.arange(60) % 6 == 0
    repeated = known.loc[known.index.repeat(np.where(real, 3, 1))]
    mixed = fit_predictor(known.assign(simulated=~real), features=NAMES).predict(known)
    np.testing.assert_array_equal(mixed, fit_predictor(repeated, features=NAMES).predict(known))
    alone = fit_predictor(known.assign(simulated=False), features=NAMES).predict(known)
    np.testing.assert_array_equal(alone, fit_predictor(known, features=NAMES).predict(known))


def test_what_is_absent_or_wild_gives_a_dice_all_the_same(fitted: Predictor) -> None:
    rows = [{}, {"expected_dice": None}, {"expected_dice": 1e9, "log_volume": -1e9, "contrast": float("nan")}]
    dice, spread = fitted.predict(rows)
    assert np.isfinite(dice).all() and np.isfinite(spread).all()
    assert ((dice >= 0) & (dice <= 1)).all()
    assert dice[2] > 0.8


@given(st.floats(0, 1))
def test_odds_and_back(dice: float) -> None:
    values = np.array([dice])
    assert from_odds(log_odds(values)) == pytest.approx(values, abs=1e-12)
    assert np.isfinite(log_odds(values)).all()
    assert (from_odds(log_odds(values) + np.array([-1e3, 1e3])) == [0, 1]).all()


def test_stored_and_back(fitted: Predictor) -> None:
    again = Predictor.from_arrays(NAMES, load(save(fitted.arrays())))
    asked = drawn(50, 2)
    for first, second in zip(fitted.predict(asked), again.predict(asked), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-12)
    broken = fitted.arrays()
    del broken["error.step"]
    with pytest.raises(KeyError):
        Predictor.from_arrays(NAMES, broken)
    with pytest.raises(ValueError):
        Predictor.from_arrays(NAMES[:2], fitted.arrays())


def test_a_forest_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    inputs, target = rng.normal(size=(150, 4)), rng.normal(size=150)
    fitted = ExtraTreesRegressor(20, min_samples_leaf=3, random_state=0).fit(inputs, target)
    asked = rng.normal(size=(60, 4)) * 3
    np.testing.assert_allclose(Forest.of(fitted).predict(asked), fitted.predict(asked), atol=1e-6)


def test_a_score_that_nobody_has_is_no_obstacle() -> None:
    known = drawn(60, 4).assign(contrast=np.nan)
    dice, _ = fit_predictor(known, features=NAMES).predict(known)
    assert np.isfinite(dice).all()


def test_networks_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(3)
    inputs, target = rng.standard_normal((300, 4)) * [1, 5, 0.1, 1] + [0, 9, 0, 1], rng.standard_normal(300)
    found, asked = Perceptrons.fit(inputs, target, 7), rng.standard_normal((20, 4)) * [1, 5, 0.1, 99]
    shown, new = (((part - inputs.mean(axis=0)) / (inputs.std(axis=0) + 1e-6)).clip(-4, 4) for part in (inputs, asked))
    with pytest.warns(ConvergenceWarning):
        slow = [MLPRegressor(**module.PERCEPTRON, random_state=7 + n).fit(shown, target).predict(new) for n in range(3)]
    np.testing.assert_allclose(found.predict(asked), slow, atol=1e-4)
    assert found.predict(inputs[:0]).shape == (3, 0)
    again = Perceptrons.from_arrays(load(save(found.arrays())))
    np.testing.assert_array_equal(again.predict(asked), found.predict(asked))


def test_weights_of_older_versions_have_a_forest_alone(fitted: Predictor) -> None:
    asked = drawn(40, 2)
    stored = {name: value for name, value in fitted.arrays().items() if not name.startswith("networks.")}
    older = Predictor.from_arrays(NAMES, stored)
    assert older.networks is None and fitted.networks is not None
    assert not np.allclose(older.predict(asked)[0], fitted.predict(asked)[0])
