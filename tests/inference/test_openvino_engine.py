"""The fast engine gives what PyTorch gives on the same dropout masks, and nothing depends on its cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from copy import deepcopy
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage

from veridice.config import InferenceSettings
from veridice.errors import InputError
from veridice.inference import openvino_engine
from veridice.inference.passes import Backend, bf16_supported, choose_backend, stochastic_passes, stochastic_samples
from veridice.metrics.overlap import dice
from veridice.networks.mc_unet import McUnet

if not openvino_engine.is_installed():
    pytest.skip("the extra openvino is not installed", allow_module_level=True)
TORCH, FAST = Backend("cpu", "fp32", 1), Backend("cpu", "fp32", 1, "openvino")
SHARED = (2, 16, 16, 16)
BF16_TOLERANCE, BF16_MEAN_TOLERANCE = 0.06, 0.005
"""Probability, at the worst voxel and on the average; bf16 has 8 bits, which a dozen layers spread a little."""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(openvino_engine.CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache with the graph of :func:`network`, for tests of what comes after the conversion."""
    folder = tmp_path_factory.mktemp("converted")
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(openvino_engine.CACHE_VARIABLE, str(folder))
        stochastic_passes(sharpened(), smooth_noise(), FAST, 2, seed=0)
    return folder


@pytest.fixture
def network() -> McUnet:
    return sharpened()


def sharpened() -> McUnet:
    """Sharpened, so that its random answer is one of lesion and background, as a trained one's is."""
    made = McUnet(features=4, depth=3, stem=2).eval()
    with torch.no_grad():
        made.heads[-1].bias.zero_()
        for head in made.heads:
            head.weight *= 3
    return made


@pytest.fixture
def images() -> np.ndarray:
    return smooth_noise()


def smooth_noise() -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal((2, 32, 32, 32))
    smooth = np.stack([ndimage.gaussian_filter(channel, 2) for channel in noise])
    return ((smooth - smooth.min()) / np.ptp(smooth)).astype(np.float32)


def samples_of(network: McUnet, images: np.ndarray, backend: Backend, passes: int, seed: int) -> np.ndarray:
    return np.stack([sample.numpy() for sample in stochastic_samples(network, images, backend, passes, seed)])


def test_the_same_masks_give_the_same_passes(network: McUnet, images: np.ndarray) -> None:
    plain, fast = (samples_of(network, images, b, 4, seed=3) for b in (TORCH, FAST))
    np.testing.assert_allclose(fast, plain, atol=1e-4)
    assert plain.std() > 0.1


@pytest.mark.parametrize(("stem", "shape"), [(1, (13, 18, 15)), (2, (24, 16, 36))])
def test_the_graph_holds_for_cubes_and_other_shapes(stem: int, shape: tuple[int, int, int]) -> None:
    network = McUnet(features=2, depth=3, stem=stem).eval()
    images = np.random.default_rng(1).random((2, *shape)).astype(np.float32)
    plain, fast = (stochastic_passes(network, images, b, 2, seed=3).mean for b in (TORCH, FAST))
    np.testing.assert_allclose(fast, plain, atol=1e-4)


@pytest.mark.skipif(not bf16_supported("cpu"), reason="this processor does not compute in bf16")
def test_in_bf16_scores_stay_within_one_percent(network: McUnet, images: np.ndarray) -> None:
    bf16 = Backend("cpu", "bf16", 2, "openvino")
    difference = np.abs(samples_of(network, images, bf16, 6, seed=1) - samples_of(network, images, TORCH, 6, seed=1))
    plain, fast = (stochastic_passes(network, images, backend, 6, seed=1) for backend in (TORCH, bf16))
    assert difference.max() < BF16_TOLERANCE
    assert difference.mean() < BF16_MEAN_TOLERANCE
    assert fast.entropy.sum() == pytest.approx(plain.entropy.sum(), rel=0.01)
    masks = [np.unpackbits(result.sample_masks, axis=1).astype(bool) for result in (fast, plain)]
    agreement = [np.mean([dice(a, b).dice for a, b in combinations(found, 2)]) for found in masks]
    assert agreement[0] == pytest.approx(agreement[1], rel=0.01)


def test_a_converted_graph_is_used_again(
    network: McUnet, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stochastic_passes(network, images, FAST, 2, seed=0).mean
    assert len(list((tmp_path / "cache").iterdir())) == 1
    monkeypatch.setattr(openvino_engine, "_convert", None)
    np.testing.assert_array_equal(stochastic_passes(deepcopy(network), images, FAST, 2, seed=0).mean, first)


def test_a_network_is_compiled_once_and_anew_when_its_weights_change(
    network: McUnet, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = stochastic_passes(network, images, FAST, 2, seed=0).mean
    with monkeypatch.context() as patched:
        patched.setattr(openvino_engine, "_graph", None)
        np.testing.assert_array_equal(stochastic_passes(network, images, FAST, 2, seed=0).mean, first)
    with torch.no_grad():
        network.heads[-1].bias += 1.0
    assert (stochastic_passes(network, images, FAST, 2, seed=0).mean > first).all()


def test_other_weights_are_another_graph_and_old_ones_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_engine, "KEPT_GRAPHS", 3)
    for seed in range(openvino_engine.KEPT_GRAPHS + 1):
        torch.manual_seed(seed)
        openvino_engine.compile_segmenter(McUnet(features=2, depth=3).eval(), SHARED, bf16=False, threads=1)
    assert len(list((tmp_path / "cache").iterdir())) == openvino_engine.KEPT_GRAPHS


@pytest.mark.parametrize("damage", ["short", "altered", "missing"])
@pytest.mark.parametrize("file", ["graph.xml", "graph.bin", "sha256"])
def test_a_damaged_cache_costs_only_time(
    network: McUnet, images: np.ndarray, converted: Path, tmp_path: Path, damage: str, file: str
) -> None:
    shutil.copytree(converted, tmp_path / "cache")
    expected = stochastic_passes(network, images, TORCH, 2, seed=0).mean
    (stored,) = (tmp_path / "cache").iterdir()
    content = (stored / file).read_bytes()
    if damage == "missing":
        (stored / file).unlink()
    else:
        middle = len(content) // 2
        altered = content[:middle] + bytes(b ^ 0x40 for b in content[middle : middle + 8]) + content[middle + 8 :]
        (stored / file).write_bytes(content[:20] if damage == "short" else altered)
    np.testing.assert_allclose(stochastic_passes(network, images, FAST, 2, seed=0).mean, expected, atol=1e-4)
    openvino_engine._read(stored)  # it was mended


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = tmp_path / "cache" / ".segmenter-killed"
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    monkeypatch.setattr(openvino_engine, "KEPT_GRAPHS", 3)
    for seed in range(openvino_engine.KEPT_GRAPHS):
        torch.manual_seed(seed)
        openvino_engine.compile_segmenter(McUnet(features=2, depth=3).eval(), SHARED, bf16=False, threads=1)
    assert not left.exists()


def test_a_cache_that_cannot_be_written_costs_only_time(
    network: McUnet, images: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(openvino_engine.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    assert stochastic_passes(network, images, FAST, 2, seed=0).mean.shape == (32, 32, 32)


def test_a_user_without_a_home_costs_only_time(network: McUnet, images: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv(openvino_engine.CACHE_VARIABLE)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert stochastic_passes(network, images, FAST, 2, seed=0).mean.shape == (32, 32, 32)


def test_nothing_is_reported_to_anybody(tmp_path: Path) -> None:
    """OpenVINO's telemetry leaves a folder `intel` in the home when it starts, even where it cannot send."""
    code = (
        "import sys, numpy as np\n"
        "from veridice.inference.passes import Backend, stochastic_passes\n"
        "from veridice.networks.mc_unet import McUnet\n"
        "images = np.zeros((2, 16, 16, 16), np.float32)\n"
        "stochastic_passes(McUnet(features=2, depth=3), images, Backend('cpu', 'fp32', 1, 'openvino'), 2, 0)\n"
        "assert not [name for name in sys.modules if name.startswith('openvino_telemetry.')]\n"
    )
    # Telemetry turns itself off in a CI job, where this test would then see nothing.
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | {"HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=300)
    assert not (tmp_path / "intel").exists()


def test_signals_are_heard_after_networks_have_come_and_gone() -> None:
    """In a process of its own, which a signal ended once: each network had a core of its own, with a stack for signals."""
    code = (
        "import gc, signal, numpy as np\n"
        "from veridice.inference.passes import Backend, stochastic_passes\n"
        "from veridice.networks.mc_unet import McUnet\n"
        "images, networks = np.zeros((2, 16, 16, 16), np.float32), [McUnet(features=2, depth=3) for _ in range(2)]\n"
        "for network in networks:\n"
        "    stochastic_passes(network, images, Backend('cpu', 'fp32', 1, 'openvino'), 2, 0)\n"
        "del network\n"
        "while networks:\n"
        "    networks.pop(0)\n"
        "    gc.collect()\n"
        "heard = []\n"
        "signal.signal(signal.SIGALRM, lambda *_: heard.append(1))\n"
        "signal.raise_signal(signal.SIGALRM)\n"
        "assert heard\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_dropout_of_single_elements_is_left_to_torch(images: np.ndarray) -> None:
    network = McUnet(features=2, depth=3, dropout_kind="element").eval()
    assert FAST.for_network(network).describe()["engine"].startswith("torch")  # type: ignore[union-attr]
    plain, fast = (stochastic_passes(network, images, b, 2, seed=3).mean for b in (TORCH, FAST))
    np.testing.assert_array_equal(plain, fast)


def test_without_the_extra_torch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_backend(InferenceSettings(device="cpu")).engine == "openvino"
    assert choose_backend(InferenceSettings(device="cpu", engine="torch")).engine == "torch"
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert choose_backend(InferenceSettings(device="cpu")).engine == "torch"
    with pytest.raises(InputError, match="pip install"):
        choose_backend(InferenceSettings(engine="openvino"))
