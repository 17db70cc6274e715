"""What other limits would do to a study is what a study with these limits does."""

from __future__ import annotations

import numpy as np
import pandas as pd

from veridice.cohort.other_limits import LEVELS, other_limits
from veridice.quality.calibration import CalibrationSet
from veridice.quality.decision import p_values


def calibration(people: int, seed: int) -> CalibrationSet:
    rng = np.random.default_rng(seed)
    dice = rng.uniform(0.2, 1.0, people)
    predicted, spread = dice + rng.normal(0, 0.05, people), np.full(people, 0.05)
    return CalibrationSet(
        source="drawn", simulated=True, patients=people, predicted=tuple(predicted), spread=tuple(spread), dice=tuple(dice)
    )


def test_each_limit_accepts_what_its_tests_accept_and_bounds_what_is_bad() -> None:
    known, new = calibration(300, 0), calibration(60, 1)
    table = pd.DataFrame({"predicted_dice": new.predicted, "predicted_spread": new.spread, "p_bad": 0.5})
    table.loc[3, ["predicted_dice", "predicted_spread", "p_bad"]] = None
    found = other_limits(table, known, 0.72)
    assert found is not None
    assert found["dices"] == [0.6, 0.65, 0.7, 0.72, 0.75, 0.8]
    rest = np.arange(60) != 3
    for dice, from_level, most_bad in zip(found["dices"], found["from_level"], found["most_bad"], strict=True):
        assert from_level[3] is None
        tests = p_values(known, np.array(new.predicted)[rest], np.array(new.spread)[rest], dice)
        for number, level in enumerate(LEVELS):
            accepted = np.array([first is not None and first <= number for first in from_level])
            assert (accepted[rest] == tests.acceptable(level)).all()
            assert np.count_nonzero(accepted & (np.array(new.dice) < dice)) <= most_bad[number] <= accepted.sum()


def test_a_study_without_tests_has_no_other_limits() -> None:
    table = pd.DataFrame({"predicted_dice": [0.8], "predicted_spread": [0.1], "p_bad": [np.nan]})
    assert other_limits(table, calibration(50, 0), 0.75) is None
