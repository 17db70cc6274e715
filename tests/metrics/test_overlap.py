"""Dice, and what it is when masks are empty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from veridice.metrics.overlap import dice


@given(st.integers(0, 999), st.floats(0.1, 0.9))
def test_dice_is_f1_symmetric_and_in_range(seed: int, filled: float) -> None:
    rng = np.random.default_rng(seed)
    first, second = rng.random((2, 4, 5, 6)) < filled
    value = dice(first, second).dice
    assert value == dice(second, first).dice
    assert value == pytest.approx(f1_score(first.ravel(), second.ravel()))
    assert dice(first, first).dice == 1.0


def test_empty_masks_follow_the_policy_and_say_so() -> None:
    empty, full = np.zeros((2, 2, 2), dtype=bool), np.ones((2, 2, 2), dtype=bool)
    assert dice(empty, empty).dice == 1.0
    assert "both" in dice(empty, empty).note
    for pair in ((empty, full), (full, empty)):
        assert dice(*pair).dice == 0.0
        assert "one of" in dice(*pair).note
    assert dice(full, full).note == ""


@given(st.integers(0, 40), st.integers(0, 40), st.integers(-40, 40))
def test_dice_of_two_runs_of_voxels_is_counted_by_hand(first: int, second: int, shift: int) -> None:
    a, b = set(range(40, 40 + first)), set(range(40 + shift, 40 + shift + second))
    masks = [np.isin(np.arange(120), list(run)).reshape(4, 5, 6) for run in (a, b)]
    found = dice(*masks)
    if a and b:
        assert found.dice == pytest.approx(2 * len(a & b) / (len(a) + len(b)))
        assert found.note == ""
    else:
        assert found.dice == float(not a and not b)
        assert "by policy" in found.note
    assert 0 <= found.dice <= 1
