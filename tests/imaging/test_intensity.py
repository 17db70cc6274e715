"""Linear normalisation and its inverse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veridice.errors import InputError
from veridice.imaging.intensity import SCALE, IntensityRange, measure_range


@given(st.floats(-1e4, 1e4), st.floats(1e-2, 1e4))
def test_the_range_is_mapped_linearly(low: float, width: float) -> None:
    scale = IntensityRange(low, low + width)
    voxels = np.linspace(low, low + width, 27).reshape(3, 3, 3)
    normalised = scale.normalise(voxels)
    assert 0 <= normalised.min() <= normalised.max() <= SCALE
    np.testing.assert_allclose(normalised, SCALE * (voxels - low) / width, atol=1e-3 * (abs(low) + width) / width)


def test_one_bright_voxel_does_not_decide() -> None:
    voxels = np.random.default_rng(0).uniform(0, 100, (30, 30, 30))
    voxels[0, 0, 0] = 1e6
    assert measure_range(voxels).high < 101


def test_a_nearly_constant_image_falls_back_to_its_extremes() -> None:
    voxels = np.zeros((20, 20, 20))
    voxels[0, 0, 0] = 3
    assert measure_range(voxels) == IntensityRange(0.0, 3.0)


def test_a_constant_image_is_refused() -> None:
    with pytest.raises(InputError, match="constant"):
        measure_range(np.ones((4, 4, 4)))


@given(st.floats(-1e3, 1e3), st.floats(0.1, 1e3), st.floats(0, 1e3), st.floats(0, 1e3))
def test_what_lies_outside_the_range_is_clipped(low: float, width: float, under: float, over: float) -> None:
    scale = IntensityRange(low, low + width)
    voxels = np.array([low - under, low, low + width / 2, low + width, low + width + over]).reshape(5, 1, 1)
    np.testing.assert_allclose(scale.normalise(voxels).ravel(), [0, 0, SCALE / 2, SCALE, SCALE], atol=0.5)


@given(st.integers(0, 999))
def test_the_ends_are_the_percentiles_of_a_sorted_list(seed: int) -> None:
    voxels = np.random.default_rng(seed).normal(100, 20, (11, 13, 7))
    ordered = sorted(voxels.ravel())

    def percentile(share: float) -> float:
        place = share * (len(ordered) - 1)
        below = int(place)
        return ordered[below] + (place - below) * (ordered[below + 1] - ordered[below])

    measured = measure_range(voxels)
    assert (measured.low, measured.high) == pytest.approx((percentile(0.001), percentile(0.999)))
