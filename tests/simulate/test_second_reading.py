"""A second reader agrees with the first as the way in which they differ asks."""

from __future__ import annotations

import numpy as np
import pytest

from veridice.simulate.second_reading import Reading, second_reading_dice

SAME = Reading(blur_mm=0.01, leaning=0.0, wander=0.0, overlooked=0.0)


def balls(radius: float, count: int = 3) -> np.ndarray:
    """Share of each voxel of 1 mm that lies in one of some balls."""
    x, y, z = np.mgrid[:60, :40, :40]
    distance = np.min([np.hypot(np.hypot(x - 12 - 18 * n, y - 20), z - 20) for n in range(count)], axis=0)
    return (radius - distance + 0.5).clip(0, 1).astype(np.float32)


def mean_dice(share: np.ndarray, reading: Reading, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> float:
    return float(np.mean([second_reading_dice(share, spacing, np.random.default_rng(seed), reading) for seed in range(20)]))


def test_readers_who_see_the_same_agree() -> None:
    assert mean_dice(balls(4), SAME) == pytest.approx(1.0)


def test_readers_who_draw_other_borders_agree_less_on_small_lesions() -> None:
    small, large = (mean_dice(balls(radius), Reading(overlooked=0.0)) for radius in (2, 6))
    assert 0.4 < small < large < 0.98


def test_what_one_overlooks_and_the_other_does_not_is_lost_to_both() -> None:
    # Of three lesions each reader marks two thirds by chance: of a mean of 2 + 2 marked ones 2 * 4 / 3 are shared.
    third = Reading(blur_mm=0.01, leaning=0.0, wander=0.0, overlooked=1 / 3, overlooked_ml=1e9)
    share = balls(3)
    found = [second_reading_dice(share, (1.0, 1.0, 1.0), np.random.default_rng(seed), third) for seed in range(300)]
    # A lesion counts as marked elsewhere as often as it is left out.
    assert np.mean(found) == pytest.approx(2 / 3, abs=0.05)


def test_thick_slices_leave_less_to_agree_on() -> None:
    share = balls(3)
    thick = share.reshape(60, 40, 8, 5).mean(axis=3)
    assert mean_dice(thick, Reading(), (1.0, 1.0, 5.0)) < mean_dice(share, Reading())
