"""Classes of quality and their chances."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from veridice.quality.calibration import CalibrationSet
from veridice.quality.quality_classes import CLASSES, LIMITS, class_chances, class_of


def calibration(count: int = 60, weights: tuple[float, ...] = ()) -> CalibrationSet:
    rng = np.random.default_rng(count)
    predicted, spread = rng.uniform(0.2, 0.9, count), rng.uniform(0.02, 0.2, count)
    dice = (predicted + spread * rng.normal(size=count)).clip(0, 1)
    columns = {"predicted": tuple(predicted), "spread": tuple(spread), "dice": tuple(dice), "weight": weights}
    return CalibrationSet(source="x", simulated=True, patients=count, **columns)


def slowly(cases: CalibrationSet, predicted: float, spread: float) -> list[float]:
    """One case after the other: where the true Dice would lie if the prediction were as wrong as there."""
    shares, people = [0.0] * len(CLASSES), list(cases.people)
    columns = cases.dice, cases.predicted, cases.spread, cases.weights_of_cases, people
    for dice, expected, unit, weight, person in zip(*columns, strict=True):
        likely = predicted + spread * (dice - expected) / unit
        shares[sum(likely >= limit for limit in LIMITS)] += weight / people.count(person)
    doubted = [share + sum(shares) / len(set(people)) for share in shares]
    return [share / sum(doubted) for share in doubted]


@given(some.floats(0, 1), some.floats(0.01, 1), some.booleans(), some.booleans())
def test_chances_are_those_of_a_slow_count(predicted: float, spread: float, weighted: bool, several: bool) -> None:
    cases = calibration(40, tuple(np.linspace(0.1, 2, 40)) if weighted else ())
    if several:
        cases = cases.model_copy(update={"person": tuple(int(number**0.5) for number in range(40))})
    found = class_chances(cases, [predicted], [spread])[0]
    np.testing.assert_allclose(found, slowly(cases, predicted, spread), atol=1e-6)
    assert found.sum() == pytest.approx(1) and found.min() > 0


def test_what_is_surely_good_or_poor_is_called_so() -> None:
    chances = class_chances(calibration(), [0.05, 0.62, 0.98], [0.01, 0.01, 0.01])
    assert [CLASSES[place] for place in chances.argmax(axis=1)] == ["poor", "fair", "good"]
    assert chances.max(axis=1).min() > 0.9


def test_limits_belong_to_the_better_class() -> None:
    assert [CLASSES[place] for place in class_of([0.0, 0.499, 0.5, 0.749, 0.75, 1.0])] == [
        "poor", "poor", "fair", "fair", "good", "good",
    ]  # fmt: skip


def test_chances_hold_on_new_cases_like_those_of_the_calibration() -> None:
    cases, new = calibration(800), calibration(801)
    chances, truth = class_chances(cases, new.predicted, new.spread), class_of(new.dice)
    for place in range(len(CLASSES)):
        said, true = chances[:, place].mean(), (truth == place).mean()
        assert said == pytest.approx(true, abs=0.03)
