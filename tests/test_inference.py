"""Stochastic passes: seeded, and equal to formulas over the samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from veridice.config import InferenceSettings
from veridice.errors import InputError
from veridice.inference import Backend, choose_backend, predict_dice, reconstruct, stochastic_passes
from veridice.networks.mc_unet import McUnet
from veridice.networks.reconstruction_unet import ReconstructionUnet
from veridice.networks.regression_net import RegressionNet

FP32 = Backend("cpu", "fp32", 1)
IMAGES = np.random.default_rng(0).random((2, 12, 13, 14)).astype(np.float32)


@pytest.fixture
def network() -> McUnet:
    torch.manual_seed(0)
    return McUnet(features=2, depth=3)


def test_pass_n_is_the_same_whatever_ran_before(network: McUnet) -> None:
    three = stochastic_passes(network, IMAGES, FP32, 3, seed=5, keep_samples=True).samples
    torch.manual_seed(1234)
    stochastic_passes(network, IMAGES[::-1], FP32, 4, seed=6)
    five = stochastic_passes(network, IMAGES, FP32, 5, seed=5, keep_samples=True).samples
    assert three is not None
    assert five is not None
    np.testing.assert_array_equal(three, five[:3])
    assert not np.array_equal(five[0], five[1])
    other = stochastic_passes(network, IMAGES, FP32, 1, seed=6, keep_samples=True).samples
    assert not np.array_equal(other, three[:1])


def test_maps_and_masks_come_from_the_samples(network: McUnet) -> None:
    ticks: list[None] = []
    result = stochastic_passes(network, IMAGES, FP32, 4, seed=0, keep_samples=True, tick=lambda: ticks.append(None))
    assert result.samples is not None
    assert len(ticks) == 4
    np.testing.assert_allclose(result.maps.mean, result.samples.mean(axis=0), atol=1e-6)
    unpacked = np.unpackbits(result.sample_masks, axis=1)[:, : IMAGES[0].size]
    np.testing.assert_array_equal(unpacked, result.samples.reshape(4, -1) >= 0.5)


def test_samples_are_kept_only_when_asked_for(network: McUnet) -> None:
    assert stochastic_passes(network, IMAGES, FP32, 2, seed=0).samples is None


def test_bf16_is_close_to_fp32(network: McUnet) -> None:
    maps = [stochastic_passes(network, IMAGES, Backend("cpu", p, 1), 3, seed=0).maps.mean for p in ("bf16", "fp32")]  # type: ignore[arg-type]
    np.testing.assert_allclose(maps[0], maps[1], atol=0.03)


def test_reconstruction_sees_no_voxel_of_the_mask() -> None:
    torch.manual_seed(0)
    network = ReconstructionUnet(2, 3)
    mask = np.zeros(IMAGES.shape[1:], dtype=bool)
    mask[3:6, 3:6, 3:6] = True
    other = np.where(mask, 0.9, IMAGES[0])
    np.testing.assert_array_equal(reconstruct(network, IMAGES[0], mask, FP32), reconstruct(network, other, mask, FP32))
    assert reconstruct(network, IMAGES[0], mask, FP32).shape == mask.shape


def test_dice_is_predicted_in_evaluation_mode() -> None:
    network = RegressionNet(2, (2, 4)).train()
    values = [predict_dice(network, [IMAGES[0]], IMAGES[1], FP32) for _ in range(2)]
    assert values[0] == values[1]


def test_backend_follows_hardware_and_settings() -> None:
    assert choose_backend(InferenceSettings(precision="fp32")).precision == "fp32"
    description = choose_backend(InferenceSettings()).describe()
    assert description["precision"] in ("bf16", "fp32")
    assert str(description["engine"]).startswith("torch ")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="no CUDA device"):
        choose_backend(InferenceSettings(device="cuda"))
