"""Shadowed sets against Pedrycz's sums, voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veridice.metrics.shadowed_sets import EMPTY, LEVELS, shadow_labels, shadowed_set


def imbalance(values: list[float], level: float) -> float:
    """What is lowered and raised, against the voxels in the shadow."""
    lowered = sum(value for value in values if value <= level)
    raised = sum(1 - value for value in values if value >= 1 - level)
    return abs(lowered + raised - sum(level < value < 1 - level for value in values))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_no_level_balances_the_areas_better(values: list[float]) -> None:
    found = shadowed_set(np.array(values).reshape(-1, 1, 1))
    seen = [value for value in values if value > EMPTY]
    if not seen:
        assert not found.core.any() and not found.shadow.any()
        return
    best = min(imbalance(seen, 0.5 * n / LEVELS) for n in range(1, LEVELS))
    assert imbalance(seen, found.threshold) == pytest.approx(best, abs=1e-6)
    assert found.core.ravel().tolist() == [value >= 1 - found.threshold for value in values]
    assert found.shadow.ravel().tolist() == [found.threshold < value < 1 - found.threshold for value in values]


def test_a_triangle_has_the_threshold_of_the_paper() -> None:
    """Of a triangular membership it is the square root of 2 minus 1, about 0.414 (Pedrycz 1998)."""
    triangle = np.concatenate([np.linspace(0, 1, 20_001), np.linspace(1, 0, 20_001)])
    assert shadowed_set(triangle).threshold == pytest.approx(np.sqrt(2) - 1, abs=1 / LEVELS)


def test_a_sure_map_has_no_shadow() -> None:
    sure = np.zeros((4, 4, 4))
    sure[1:3] = 1
    assert shadow_labels(sure).tolist() == (2 * sure).astype(int).tolist()
