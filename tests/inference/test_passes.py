"""Stochastic passes: seeded, and equal to formulas over the samples."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import entropy as scipy_entropy

from veridice.config import InferenceSettings
from veridice.errors import InputError
from veridice.inference import passes as passes_module
from veridice.inference.passes import Backend, choose_backend, predict_dice, reconstruct, stochastic_passes, stochastic_samples
from veridice.networks.mc_unet import McUnet
from veridice.networks.reconstruction_unet import ReconstructionUnet
from veridice.networks.regression_net import RegressionNet

FP32 = Backend("cpu", "fp32", 1)
IMAGES = np.random.default_rng(0).random((2, 12, 13, 14)).astype(np.float32)


def samples_of(network: McUnet, images: np.ndarray, backend: Backend, passes: int, seed: int) -> np.ndarray:
    return np.stack([sample.numpy() for sample in stochastic_samples(network, images, backend, passes, seed)])


@pytest.fixture
def network() -> McUnet:
    torch.manual_seed(0)
    return McUnet(features=2, depth=3)


def test_pass_n_is_the_same_whatever_ran_before(network: McUnet) -> None:
    three = samples_of(network, IMAGES, FP32, 3, seed=5)
    torch.manual_seed(1234)
    stochastic_passes(network, IMAGES[::-1], FP32, 4, seed=6)
    five = samples_of(network, IMAGES, FP32, 5, seed=5)
    np.testing.assert_array_equal(three, five[:3])
    assert not np.array_equal(five[0], five[1])
    other = samples_of(network, IMAGES, FP32, 1, seed=6)
    assert not np.array_equal(other, three[:1])


def test_maps_and_masks_come_from_the_samples(network: McUnet) -> None:
    ticks: list[None] = []
    result = stochastic_passes(network, IMAGES, FP32, 4, seed=0, on_step=lambda: ticks.append(None))
    samples = samples_of(network, IMAGES, FP32, 4, seed=0)
    assert len(ticks) == 4
    np.testing.assert_allclose(result.mean, samples.mean(axis=0), atol=1e-6)
    unpacked = np.unpackbits(result.sample_masks, axis=1)[:, : IMAGES[0].size]
    np.testing.assert_array_equal(unpacked, samples.reshape(4, -1) >= 0.5)


def test_bf16_is_close_to_fp32(network: McUnet) -> None:
    maps = [stochastic_passes(network, IMAGES, Backend("cpu", p, 1), 3, seed=0).mean for p in ("bf16", "fp32")]  # type: ignore[arg-type]
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
    assert str(description["engine"]).split()[0] in ("torch", "openvino")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_that_is_not_there_is_refused() -> None:
    with pytest.raises(InputError, match="no CUDA device"):
        choose_backend(InferenceSettings(device="cuda"))


def test_all_maps_equal_formulas_over_the_kept_samples(network: McUnet) -> None:
    result = stochastic_passes(network, IMAGES, FP32, 5, seed=1)
    samples = samples_of(network, IMAGES, FP32, 5, seed=1).astype(np.float64)

    def entropy(p: np.ndarray) -> np.ndarray:
        return scipy_entropy(np.stack([p, 1 - p]), base=2, axis=0)

    mean = samples.mean(axis=0)
    assert mean.std() > 0
    np.testing.assert_allclose(result.mean, mean, atol=1e-6)
    np.testing.assert_allclose(result.entropy, entropy(mean), atol=1e-5)
    np.testing.assert_allclose(result.variance, samples.var(axis=0), atol=1e-6)
    expected = entropy(mean) - np.mean([entropy(sample) for sample in samples], axis=0)
    np.testing.assert_allclose(result.mutual_information, expected, atol=1e-5)


def test_a_sample_is_the_sigmoid_of_one_pass_and_training_mode_does_not_matter(network: McUnet) -> None:
    first = samples_of(network.train(), IMAGES, FP32, 2, seed=3)
    again = samples_of(network.eval(), IMAGES, FP32, 2, seed=3)
    np.testing.assert_array_equal(first, again)
    plain = np.log(first / (1 - first))
    seeds = [torch.Generator().manual_seed(3 * 1_000_003 + number) for number in range(2)]
    with torch.inference_mode():
        expected = [network(torch.from_numpy(IMAGES)[None], seed)[0, 0].numpy() for seed in seeds]
    np.testing.assert_allclose(plain, np.stack(expected), atol=1e-3)


def test_the_callers_images_and_random_state_are_left_alone(network: McUnet) -> None:
    images, state = IMAGES.copy(), torch.get_rng_state()
    stochastic_passes(network, images, FP32, 2, seed=0)
    np.testing.assert_array_equal(images, IMAGES)
    assert torch.equal(torch.get_rng_state(), state)


class Spy(torch.nn.Module):
    """Remembers what it is shown."""

    pool = 1

    def forward(self, shown: torch.Tensor) -> torch.Tensor:
        self.shown = shown
        return shown.sum(dim=(1, 2, 3, 4)) if shown.shape[1] > 1 else shown


def test_the_reconstruction_network_is_shown_zeros_inside_the_mask() -> None:
    spy, mask = Spy(), IMAGES[1] > 0.5
    reconstruct(spy, IMAGES[0], mask, FP32)
    np.testing.assert_array_equal(spy.shown[0, 0].numpy(), IMAGES[0] * ~mask)


def test_the_regression_network_is_shown_the_segmentation_last() -> None:
    spy = Spy()
    value = predict_dice(spy, [IMAGES[0], IMAGES[1]], IMAGES[0] > 0.3, FP32)
    np.testing.assert_array_equal(spy.shown[0].numpy(), np.stack([*IMAGES, IMAGES[0] > 0.3]))
    assert value == pytest.approx(float(spy.shown.sum()), rel=1e-5)


def test_the_device_asked_for_is_the_one_used() -> None:
    assert choose_backend(InferenceSettings(device="cpu")).device == "cpu"
    assert choose_backend(InferenceSettings(device="cpu", precision="bf16")).precision == "bf16"


def test_maps_are_pooled_for_a_regressor_that_asks_for_it() -> None:
    torch.manual_seed(0)
    coarse = RegressionNet(2, (2, 4), pool=2).eval()
    maps = np.random.default_rng(0).random((2, 16, 16, 16)).astype(np.float32)
    blocks = maps.reshape(2, 8, 2, 8, 2, 8, 2).mean(axis=(2, 4, 6))
    expected = coarse(torch.from_numpy(blocks)[None]).item()
    assert predict_dice(coarse, [maps[0]], maps[1], Backend("cpu", "fp32", 1)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("amx", "avx512_bf16", "maker", "pays"),
    [
        (True, True, "GenuineIntel", True),
        (False, True, "GenuineIntel", False),
        (False, True, "AuthenticAMD", True),
        (False, False, "AuthenticAMD", False),
    ],
)
def test_bf16_is_chosen_by_the_processor_and_not_by_a_clock(
    amx: bool, avx512_bf16: bool, maker: str, pays: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(passes_module, "_processor", lambda: f"vendor_id : {maker}")
    assert passes_module.bf16_pays.__wrapped__("cpu") == pays
