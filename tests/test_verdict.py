"""From a predicted Dice to accept or reject."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from veridice.verdict import clip_dice, provisional_verdict


@given(st.floats(0, 1), st.floats(0, 1))
def test_reject_is_strictly_below_the_threshold(predicted: float, threshold: float) -> None:
    assert provisional_verdict(threshold, threshold) == "accept"
    assert (provisional_verdict(predicted, threshold) == "reject") == (predicted < threshold)
    if threshold > 0:
        assert provisional_verdict(math.nextafter(threshold, -1), threshold) == "reject"


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))
def test_a_better_mask_is_never_judged_worse(first: float, second: float, threshold: float) -> None:
    order = ["reject", "review", "accept"]
    worse, better = (order.index(provisional_verdict(value, threshold)) for value in sorted((first, second)))
    assert worse <= better


@given(st.floats(allow_nan=False))
def test_clipping_changes_only_what_is_no_dice(raw: float) -> None:
    clipped = clip_dice(raw)
    assert clipped == (raw if 0 <= raw <= 1 else float(raw > 1))
    assert clip_dice(clipped) == clipped


@pytest.mark.parametrize("predicted", [math.nan, clip_dice(math.nan)])
def test_a_prediction_that_is_no_number_is_never_accepted(predicted: float) -> None:
    assert provisional_verdict(predicted, 0.75) != "accept"


@pytest.mark.parametrize("threshold", [0.0, 1.0])
def test_the_extreme_thresholds(threshold: float) -> None:
    assert provisional_verdict(1.0, threshold) == "accept"
    assert provisional_verdict(0.0, threshold) == ("accept" if threshold == 0 else "reject")
