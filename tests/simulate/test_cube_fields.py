"""Torch operations on the cube against SciPy and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from veridice.simulate.cube_fields import Noise, dilated, enlarge, eroded, from_slices, sample, soften, to_slices
from veridice.simulate.fields import smooth_field

CPU = torch.device("cpu")


def volume(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(3))


def test_enlarged_is_linear_between_first_and_last() -> None:
    coarse = volume(2, 4, 3, 5)
    ours = enlarge(coarse, (9, 6, 8))
    places = np.stack(
        np.meshgrid(*(np.linspace(0, n - 1, m) for n, m in zip((4, 3, 5), (9, 6, 8), strict=True)), indexing="ij")
    )
    slow = np.stack([ndimage.map_coordinates(channel, places, order=1) for channel in coarse.numpy()])
    np.testing.assert_allclose(ours.numpy(), slow, atol=1e-5)


def test_sampled_as_scipy_does() -> None:
    image = volume(2, 7, 8, 9)
    places = volume(3, 5, 5, 5) * 6
    slow = np.stack([ndimage.map_coordinates(channel, places.numpy(), order=1) for channel in image.numpy()])
    np.testing.assert_allclose(sample(image, places).numpy(), slow, atol=1e-5)
    whole = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in (7, 8, 9)), indexing="ij"))
    np.testing.assert_array_equal(sample(image, whole, nearest=True).numpy(), image.numpy())
    assert (sample(image, whole + 20) == 0).all()


def test_means_and_growth_as_scipy_does() -> None:
    image = volume(1, 8, 7, 6)
    np.testing.assert_allclose(
        soften(image.clone())[0].numpy(), ndimage.uniform_filter(image[0].numpy(), 3, mode="nearest"), atol=1e-6
    )
    mask = image > 0.8
    cube = np.ones((3, 3, 3), bool)
    np.testing.assert_array_equal(dilated(mask, 2)[0].numpy(), ndimage.binary_dilation(mask[0].numpy(), cube, 2))
    slow = ndimage.binary_erosion(~mask[0].numpy(), cube, border_value=True)
    np.testing.assert_array_equal(eroded(~mask)[0].numpy(), slow)


def test_slices_are_means_and_come_back() -> None:
    image = volume(1, 8, 8, 12)
    coarse = to_slices(image, (8, 20, 4))
    np.testing.assert_allclose(coarse.numpy(), image.reshape(1, 8, 8, 4, 3).mean(-1).numpy(), atol=1e-6)
    assert from_slices(coarse, (8, 8, 12)).shape == image.shape
    assert from_slices(image, (8, 8, 12)) is image


def test_fields_are_those_of_the_reference_and_follow_their_seed() -> None:
    first, again = (Noise(5, (48, 48, 48), CPU).smooth(4.0, 2) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first[0], first[1])
    reference = smooth_field((48, 48, 48), 4.0, np.random.default_rng(0))
    assert float(first.std()) == pytest.approx(reference.std(), rel=0.1)
