"""Intervals hold what they promise, and say when they cannot promise anything."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veridice.errors import InputError
from veridice.quality.calibration import (
    CalibrationSet,
    dice_intervals,
    expected_shortfall,
    farther_than,
    fewest_cases,
    read_calibration,
    write_calibration,
)


def draw(count: int, seed: int, error: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions with an error of their own size each."""
    rng = np.random.default_rng(seed)
    predicted, spread = rng.uniform(0.2, 0.9, count), rng.uniform(0.02, 0.12, count)
    return predicted, spread, (predicted + error * spread * rng.standard_normal(count)).clip(0, 1)


def calibration_of(count: int, seed: int = 0, error: float = 1.0) -> CalibrationSet:
    predicted, spread, dice = draw(count, seed, error)
    return CalibrationSet(
        source="drawn", simulated=True, patients=count, predicted=tuple(predicted), spread=tuple(spread), dice=tuple(dice)
    )


@given(st.integers(20, 200), st.sampled_from([0.5, 0.8, 0.9, 0.95]), st.integers(0, 99))
@settings(max_examples=25)
def test_intervals_are_those_of_the_definition(count: int, coverage: float, seed: int) -> None:
    known = calibration_of(count, seed)
    predicted, spread, _ = draw(7, seed + 1)
    residuals = np.sort(np.abs(np.array(known.dice) - known.predicted) / known.spread)
    rank = int(np.ceil(round((count + 1) * coverage, 9)))
    found = dice_intervals(known, predicted, spread, coverage)
    if count < fewest_cases(coverage):
        assert (found == [0, 1]).all()
        return
    width = residuals[rank - 1] * spread
    # MAPIE adds 1e-8 to what it divides by.
    np.testing.assert_allclose(found, np.column_stack([predicted - width, predicted + width]).clip(0, 1), atol=1e-5)


def test_a_case_that_counts_twice_is_as_good_as_two() -> None:
    known = calibration_of(40)
    predicted, spread, _ = draw(5, 1)
    twice = [*range(40), *range(20)]
    doubled = known.model_copy(
        update={name: tuple(getattr(known, name)[n] for n in twice) for name in ("predicted", "spread", "dice")}
    )
    weighted = known.model_copy(update={"weight": (2.0,) * 20 + (1.0,) * 20})
    # A new case counts as the heaviest does, so a little more is asked for.
    wide, narrow = (np.ptp(dice_intervals(each, predicted, spread, 0.8), axis=1) for each in (weighted, doubled))
    assert (wide >= narrow - 1e-9).all() and (wide < narrow * 1.3).all()


def test_coverage_holds_on_new_cases() -> None:
    inside = []
    for seed in range(30):
        predicted, spread, dice = draw(200, 1000 + seed)
        ends = dice_intervals(calibration_of(100, seed), predicted, spread, 0.9)
        inside.append(((dice >= ends[:, 0]) & (dice <= ends[:, 1])).mean())
    assert np.mean(inside) == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize(("coverage", "count"), [(0.9, 11), (0.95, 21), (0.5, 3)])
def test_too_few_cases_promise_nothing(coverage: float, count: int) -> None:
    assert fewest_cases(coverage) == count
    assert (dice_intervals(calibration_of(count, error=0.1), *draw(3, 1)[:2], coverage) != [0, 1]).any()
    assert (dice_intervals(calibration_of(count - 1), *draw(3, 1)[:2], coverage) == [0, 1]).all()


def test_calibrations_are_stored_to_the_last_bit(tmp_path: Path) -> None:
    known = calibration_of(30)
    write_calibration(tmp_path / "c.json", known)
    assert read_calibration(tmp_path / "c.json") == known


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"source": "x"}',
        '{"source":"x","simulated":false,"patients":1,"predicted":[0.5],"spread":[0],"dice":[0.5]}',
        '{"source":"x","simulated":false,"patients":1,"predicted":[0.5],"spread":[0.1],"dice":[1.5]}',
        '{"source":"x","simulated":false,"patients":1,"predicted":[0.5, 0.6],"spread":[0.1],"dice":[0.5]}',
        '{"source":"x","simulated":false,"patients":1,"predicted":[NaN],"spread":[0.1],"dice":[0.5]}',
        '{"source":"x","simulated":false,"patients":1,"predicted":[],"spread":[],"dice":[]}',
    ],
)
def test_what_is_no_calibration_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(content)
    for path in (tmp_path / "c.json", tmp_path / "none.json", tmp_path):
        with pytest.raises(InputError, match="veridice calibrate"):
            read_calibration(path)


def with_distances(seed: int, shift: float) -> CalibrationSet:
    rng = np.random.default_rng(seed)
    distances = rng.lognormal(-1.3 + shift, 0.3, 120).clip(max=5)
    acceptable = rng.random(120) < 0.8
    return calibration_of(120, seed).model_copy(
        update={
            "unfamiliarity": tuple(np.where(acceptable, distances, 50)),
            "person": tuple(n // 2 for n in range(120)),
            "acceptable": tuple(acceptable.tolist()),
        }
    )


@pytest.mark.parametrize(("shift", "told"), [(0.0, False), (-1.0, False), (0.5, True)])
def test_a_study_whose_scans_lie_farther_out_is_told_and_a_nearer_one_is_not(shift: float, told: bool) -> None:
    found = []
    for seed in range(20):
        known, study = with_distances(seed, 0.0), with_distances(100 + seed, shift)
        distances = np.array(study.unfamiliarity)[study.usable]
        found.append(farther_than(known, distances, study.people[study.usable]) is not None)
    assert np.mean(found) == told


def test_without_distances_nothing_is_said_of_them() -> None:
    known = with_distances(0, 0.0)
    assert farther_than(known.model_copy(update={"unfamiliarity": ()}), np.full(50, 9.0), np.arange(50)) is None
    assert farther_than(known, np.zeros(0), np.zeros(0)) is None


def test_the_chance_of_failure_counts_people_by_their_weights() -> None:
    known = calibration_of(20)
    twice = known.model_copy(update={"weight": (2.0,) * 5 + (1.0,) * 15})
    columns = ("predicted", "spread", "dice")
    copied = known.model_copy(update={name: getattr(known, name)[:5] + getattr(known, name) for name in columns})
    assert expected_shortfall(twice, 0.7, 0.1, 0.75) == pytest.approx(expected_shortfall(copied, 0.7, 0.1, 0.75))
