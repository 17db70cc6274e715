"""From an interval to accept, review or reject."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veridice.quality.verdict import EMPTY_IS_WRONG_ML, decide, decide_by_rule, decide_empty

ORDER = ["reject", "review", "accept"]
INTERVALS = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(lambda ends: (min(ends), max(ends)))


@given(INTERVALS, st.floats(0, 1))
def test_the_rule(interval: tuple[float, float], min_dice: float) -> None:
    verdict = decide(interval, min_dice)
    assert (verdict == "accept") == (interval[0] >= min_dice)
    assert (verdict == "reject") == (interval[1] < min_dice)


@given(INTERVALS, st.floats(0, 1), st.floats(0, 1))
def test_a_better_mask_is_never_judged_worse(interval: tuple[float, float], more: float, min_dice: float) -> None:
    better = (min(1.0, interval[0] + more), min(1.0, interval[1] + more))
    assert ORDER.index(decide(interval, min_dice)) <= ORDER.index(decide(better, min_dice))


@given(INTERVALS, st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_what_the_models_do_not_know_is_never_accepted(
    interval: tuple[float, float], min_dice: float, predicted: float, threshold: float
) -> None:
    verdicts = {decide(interval, min_dice, known=False), decide_by_rule(predicted, threshold, interval, min_dice, known=False)}
    assert "accept" not in verdicts
    assert (decide(interval, min_dice) == "reject") == (decide(interval, min_dice, known=False) == "reject")


def test_the_rule_of_a_site() -> None:
    assert decide_by_rule(0.8, 0.8, (0.5, 0.95), 0.7, known=True) == "accept"
    assert decide_by_rule(0.79, 0.8, (0.75, 0.95), 0.7, known=True) == "review"
    assert decide_by_rule(0.3, 0.8, (0.1, 0.5), 0.7, known=True) == "reject"


@pytest.mark.parametrize("ends", [(math.nan, math.nan), (math.nan, 1.0), (0.0, math.nan)])
def test_no_number_is_for_a_person(ends: tuple[float, float]) -> None:
    assert decide(ends, 0.75) == "review"


def test_an_empty_mask() -> None:
    assert decide_empty(0.0) == "review"
    assert decide_empty(EMPTY_IS_WRONG_ML) == "reject"
