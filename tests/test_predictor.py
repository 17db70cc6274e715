"""The predicted Dice follows the evidence, and knows how far off it may be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load, save

from veridice import predictor as module
from veridice.predictor import Predictor, Scaling, fit_predictor

NAMES = ("agreement_mean", "log_volume", "contrast")


def drawn(count: int, seed: int) -> pd.DataFrame:
    """The Dice is close to the agreement where masks are large, far from it where they are small."""
    rng = np.random.default_rng(seed)
    agreement, volume = rng.uniform(0, 1, count), rng.uniform(-3, 4, count)
    error = np.where(volume > 0, 0.03, 0.15) * rng.standard_normal(count)
    contrast = np.where(rng.random(count) < 0.2, np.nan, rng.standard_normal(count))
    return pd.DataFrame(
        {
            "agreement_mean": agreement,
            "log_volume": volume,
            "contrast": contrast,
            "dice": (0.1 + 0.8 * agreement + error).clip(0, 1),
            "person": [f"p{n // 4}" for n in range(count)],
        }
    )


@pytest.fixture(scope="module")
def fitted() -> Predictor:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MEMBERS", 3)
        return fit_predictor(drawn(400, 0), features=NAMES)


def test_predictions_and_spreads(fitted: Predictor) -> None:
    asked = drawn(400, 1)
    dice, spread = fitted.predict(asked)
    large = asked["log_volume"] > 0
    assert np.abs(dice - asked["dice"])[large].mean() < 0.05
    assert np.corrcoef(dice, asked["dice"])[0, 1] > 0.85
    assert spread[large & (asked["log_volume"] > 1)].mean() * 2 < spread[asked["log_volume"] < -1].mean()
    assert (spread > 0).all()


def test_what_is_absent_or_wild_gives_a_dice_all_the_same(fitted: Predictor) -> None:
    rows = [{}, {"agreement_mean": None}, {"agreement_mean": 1e9, "log_volume": -1e9, "contrast": float("nan")}]
    dice, spread = fitted.predict(rows)
    assert np.isfinite(dice).all() and np.isfinite(spread).all()
    assert ((dice >= 0) & (dice <= 1)).all()
    edge = fitted.predict([{"agreement_mean": 1.0, "log_volume": -3.0}])[0]
    assert dice[2] == pytest.approx(edge[0], abs=0.1)


def test_stored_and_back(fitted: Predictor) -> None:
    again = Predictor.from_arrays(NAMES, load(save(fitted.arrays())))
    asked = drawn(50, 2)
    for first, second in zip(fitted.predict(asked), again.predict(asked), strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)
    broken = fitted.arrays()
    del broken["scaling.low"]
    with pytest.raises(KeyError):
        Predictor.from_arrays(NAMES, broken)
    with pytest.raises(ValueError):
        Predictor.from_arrays(NAMES[:2], fitted.arrays())


def test_a_score_that_never_changes_says_nothing() -> None:
    scaling = Scaling.of(np.column_stack([np.ones(9), np.full(9, np.nan), np.arange(9.0)]))
    inputs = scaling(np.array([[7.0, 3.0, 4.0]]))
    np.testing.assert_allclose(inputs, 0, atol=1e-9)
