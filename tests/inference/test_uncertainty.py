"""Uncertainty maps against formulas over all samples at once."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from veridice.inference.uncertainty import binary_entropy, uncertainty_maps


@given(st.floats(0, 1, width=32))
def test_entropy_is_the_scalar_formula(p: float) -> None:
    expected = sum(-q * math.log2(q) for q in (p, 1 - p) if q > 0)
    value = binary_entropy(torch.tensor(p)).item()
    assert 0 <= value <= 1
    assert value == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("passes", [1, 2, 7])
def test_running_sums_equal_all_samples_at_once(passes: int) -> None:
    samples = np.random.default_rng(passes).random((passes, 4, 5, 6))
    maps = uncertainty_maps(map(torch.from_numpy, samples))

    def entropy(p: np.ndarray) -> np.ndarray:
        return -p * np.log2(p) - (1 - p) * np.log2(1 - p)

    mean = samples.mean(axis=0)
    np.testing.assert_allclose(maps.mean, mean, atol=1e-6)
    np.testing.assert_allclose(maps.entropy, entropy(mean), atol=1e-5)
    np.testing.assert_allclose(maps.variance, samples.var(axis=0), atol=1e-6)
    np.testing.assert_allclose(maps.mutual_information, entropy(mean) - entropy(samples).mean(axis=0), atol=1e-5)


def test_samples_that_agree_leave_no_mutual_information() -> None:
    maps = uncertainty_maps([torch.full((2, 2, 2), 0.3)] * 3)
    assert maps.mutual_information.max() == pytest.approx(0, abs=1e-6)
    assert maps.variance.max() == pytest.approx(0, abs=1e-6)


def test_certain_samples_that_disagree_are_all_mutual_information() -> None:
    maps = uncertainty_maps(torch.full((2, 2, 2), value) for value in (0.0, 1.0))
    assert maps.entropy.min() == pytest.approx(1)
    assert maps.mutual_information.min() == pytest.approx(1)


def test_no_samples_no_maps() -> None:
    with pytest.raises(ValueError, match="no sample"):
        uncertainty_maps([])


@given(arrays(np.float32, st.tuples(st.integers(1, 9), *[st.integers(1, 4)] * 3), elements=st.floats(0, 1, width=32)))
def test_any_samples_give_the_maps_of_all_at_once(samples: np.ndarray) -> None:
    """Also for probabilities of exactly 0 and 1."""
    maps = uncertainty_maps(map(torch.from_numpy, samples))

    def entropy(p: float) -> float:
        return sum(-q * math.log2(q) for q in (p, 1 - p) if q > 0)

    for index in np.ndindex(samples.shape[1:]):
        values = [float(sample[index]) for sample in samples]
        mean = math.fsum(values) / len(values)
        disagreement = entropy(mean) - math.fsum(entropy(value) for value in values) / len(values)
        assert maps.mean[index] == pytest.approx(mean, abs=1e-5)
        assert maps.entropy[index] == pytest.approx(entropy(mean), abs=2e-4)
        assert maps.variance[index] == pytest.approx(math.fsum((v - mean) ** 2 for v in values) / len(values), abs=1e-5)
        assert maps.mutual_information[index] == pytest.approx(disagreement, abs=2e-4)
    assert maps.entropy.max() <= 1
    assert min(map_.min() for map_ in (maps.mean, maps.entropy, maps.variance, maps.mutual_information)) >= 0


def test_samples_are_left_alone() -> None:
    samples = [torch.full((2, 2, 2), value) for value in (0.25, 0.75)]
    assert uncertainty_maps(samples).mean.max() == 0.5
    assert (samples[0] == 0.25).all() and (samples[1] == 0.75).all()
