"""What the critic says of a mask, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from veridice.quality.critic_evidence import critic_evidence, error_maps


def test_by_hand() -> None:
    mask = np.array([[[True, True, False, False]]])
    chance = np.array([[[1.0, 0.25, 0.5, 0.0]]], np.float32)
    false, missed = error_maps(mask, chance)
    np.testing.assert_allclose(false[0, 0], [0, 0.75, 0, 0])
    np.testing.assert_allclose(missed[0, 0], [0, 0, 0.5, 0])
    found = critic_evidence(mask, chance, 0.5)
    assert found["critic_dice"] == pytest.approx(2 * 1.25 / (2 + 1.75))
    assert found["critic_false_ml"] == pytest.approx(0.375) and found["critic_missed_ml"] == pytest.approx(0.25)


def test_nothing_marked_and_nothing_there_is_perfect() -> None:
    nothing = np.zeros((2, 2, 2))
    assert critic_evidence(nothing > 0, nothing, 1.0) == {"critic_dice": 1.0, "critic_false_ml": 0.0, "critic_missed_ml": 0.0}
