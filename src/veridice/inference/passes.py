"""Running the networks; the only place that knows devices and precision."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from veridice.config import InferenceSettings
from veridice.errors import InputError
from veridice.inference.openvino_engine import can_run, compiled_segmenter, is_installed, run_compiled
from veridice.inference.uncertainty import uncertainty_maps
from veridice.metrics.maps import GridMaps, StochasticMaps
from veridice.networks.mc_unet import McUnet
from veridice.networks.regression_net import RegressionNet
from veridice.progress import OnStep
from veridice.types import Mask, ProbabilityMap, Voxels


@dataclass(frozen=True)
class Backend:
    """Where and how precisely the networks run; every result says which it used."""

    device: Literal["cpu", "cuda"]
    precision: Literal["bf16", "fp32"]
    threads: int
    engine: Literal["torch", "openvino"] = "torch"

    def for_network(self, segmenter: nn.Module) -> Backend:
        """The same, with PyTorch where the other engine cannot run this network."""
        return self if self.engine == "torch" or can_run(segmenter) else replace(self, engine="torch")

    def describe(self) -> dict[str, str | int]:
        """JSON-ready, for provenance; ``engine`` runs the stochastic passes, everything else is PyTorch."""
        return {
            "engine": f"{self.engine} {version(self.engine)}",
            "device": self.device,
            "precision": self.precision,
            "threads": self.threads,
        }


def choose_backend(settings: InferenceSettings) -> Backend:
    """CUDA when there, else the CPU; bf16 where the hardware is faster in it (see :func:`bf16_pays`), else fp32.

    Raises:
        InputError: CUDA or OpenVINO was asked for and is not there.
    """
    cuda = torch.cuda.is_available()
    if settings.device == "cuda" and not cuda:
        raise InputError("--device cuda: no CUDA device is usable here; use --device cpu or install a CUDA build of torch")
    device: Literal["cpu", "cuda"] = "cuda" if cuda and settings.device != "cpu" else "cpu"
    precision: Literal["bf16", "fp32"] = "bf16" if bf16_pays(device) else "fp32"
    if settings.precision != "auto":
        precision = settings.precision
    if settings.engine == "openvino" and (device == "cuda" or not is_installed()):
        raise InputError("--engine openvino: needs --device cpu and `pip install veridice[openvino]`; or use --engine torch")
    fast = settings.engine != "torch" and device == "cpu" and is_installed()
    return Backend(device, precision, torch.get_num_threads(), "openvino" if fast else "torch")


def bf16_supported(device: str) -> bool:
    """Whether the device multiplies in bf16 itself (avx512_bf16 or AMX on a CPU) instead of emulating it."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported()
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


@cache
def bf16_pays(device: str) -> bool:
    """Whether bf16 is supported and, on a CPU, faster than fp32: with AMX, or with avx512_bf16 on an AMD.

    Without AMX, Intel's avx512_bf16 has about half the rate of fp32, AMD's about twice. Nothing is measured here, since a busy
    machine would now and then say something else, and two processes of one study would differ.
    """
    if device == "cuda" or not bf16_supported(device):
        return bf16_supported(device)
    return torch.cpu._is_amx_tile_supported() or "AuthenticAMD" in _processor()


def _processor() -> str:
    """What the system says of the processor; its maker is in it."""
    known = Path("/proc/cpuinfo")
    return known.read_text(encoding="ascii", errors="ignore") if known.exists() else platform.processor()


def stochastic_passes(
    segmenter: nn.Module, images: Voxels, backend: Backend, passes: int, seed: int, on_step: OnStep | None = None
) -> StochasticMaps:
    """Segment ``images`` (contrasts, x, y, z; in [0, 1]) ``passes`` times with dropout on.

    Pass ``n`` draws its dropout from ``seed`` and ``n`` alone, on the CPU, so that the same scan gives the same answer
    whatever ran before and, up to rounding, on any device.
    """

    def counted() -> Iterator[Tensor]:
        for sample in stochastic_samples(segmenter, images, backend, passes, seed):
            yield sample
            if on_step is not None:
                on_step()

    return uncertainty_maps(counted())


def stochastic_samples(segmenter: nn.Module, images: Voxels, backend: Backend, passes: int, seed: int) -> Iterator[Tensor]:
    """The probability map (x, y, z) of each pass, see :func:`stochastic_passes`; of several parts (parts, x, y, z)."""
    segmenter = _placed(segmenter, backend)
    assert isinstance(segmenter, McUnet)  # noqa: S101 (for the type checker: cards name the kind of network)
    generators = [torch.Generator().manual_seed(seed * 1_000_003 + number) for number in range(passes)]
    with torch.inference_mode(), _autocast(backend):
        shared = segmenter.shared_features(_batch(images, backend))
    if backend.for_network(segmenter).engine == "openvino":
        shared = shared.float()
        compiled = compiled_segmenter(segmenter, tuple(shared.shape[1:]), backend.precision == "bf16", backend.threads)
        yield from map(torch.from_numpy, run_compiled(compiled, shared, map(segmenter.draw_masks, generators)))
        return
    for generator in generators:
        with torch.inference_mode(), _autocast(backend):
            logits = segmenter.finish(shared, generator)
        yield torch.sigmoid(_alone(logits[0].float()))


def prepare(segmenter: nn.Module, grid_shape: tuple[int, int, int], backend: Backend) -> None:
    """Compile what is compiled for cubes of this shape, while there is time."""
    if backend.for_network(segmenter).engine == "openvino" and isinstance(segmenter, McUnet):
        shape = (segmenter.dropout_channels[0], *(edge // segmenter.stem for edge in grid_shape))
        compiled_segmenter(segmenter, shape, backend.precision == "bf16", backend.threads)


def deterministic_pass(segmenter: nn.Module, images: Voxels, backend: Backend) -> ProbabilityMap:
    """Probability (x, y, z) of ``images`` (contrasts, x, y, z; in [0, 1]) without dropout; of several parts, a map each."""
    probability: ProbabilityMap = torch.sigmoid(_alone(all_outputs(segmenter, images, backend)[0])).cpu().numpy()
    return probability


def _alone(maps: Tensor) -> Tensor:
    """The only map (x, y, z) of a network that marks one part; all maps, where it marks several."""
    return maps[0] if len(maps) == 1 else maps


def deepest_features(segmenter: nn.Module, images: Voxels, backend: Backend) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """What the segmenter's deepest level makes of ``images`` (contrasts, x, y, z; in [0, 1]): one number a channel."""
    segmenter = _placed(segmenter, backend)
    assert isinstance(segmenter, McUnet)  # noqa: S101 (for the type checker: cards name the kind of network)
    with torch.inference_mode(), _autocast(backend):
        found = segmenter.deepest_features(segmenter.shared_features(_batch(images, backend)))
    return found[0].float().cpu().numpy().astype(np.float64)


def reconstruct(reconstructor: nn.Module, flair: Voxels, mask: Mask, backend: Backend) -> Voxels:
    """FLAIR (x, y, z; in [0, 1]) as the reconstruction U-net rebuilds it when ``mask`` is cut out."""
    rebuilt: Voxels = _output(reconstructor, np.where(mask, 0, flair)[None], backend).cpu().numpy()
    return rebuilt


def predict_dice(regressor: RegressionNet, maps: list[Voxels], segmentation: ProbabilityMap, backend: Backend) -> float:
    """Dice that the regression network expects of ``segmentation`` (x, y, z), shown beside ``maps``; not clipped."""
    stacked = torch.from_numpy(np.stack([*maps, segmentation]).astype(np.float32))[None]
    # Always fp32: the network is small, and bf16 would round its one number to three digits.
    with torch.inference_mode():
        pooled = functional.avg_pool3d(stacked, regressor.pool)
        value = _placed(regressor, backend)(pooled.to(backend.device))
    return float(value)


def _batch(images: Voxels, backend: Backend) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))[None].to(backend.device)


def _output(network: nn.Module, images: Voxels, backend: Backend) -> Tensor:
    """What a network says of ``images`` (channels, x, y, z), float32 (x, y, z)."""
    return all_outputs(network, images, backend)[0, 0]


def all_outputs(network: nn.Module, images: Voxels, backend: Backend) -> Tensor:
    """The same of a network of several maps, float32 (1, maps, x, y, z)."""
    with torch.inference_mode(), _autocast(backend):
        said: Tensor = _placed(network, backend)(_batch(images, backend)).float()
    return said


def _placed(network: nn.Module, backend: Backend) -> nn.Module:
    # Batch statistics and the like must be frozen; dropout needs no training mode here.
    return network.eval().to(backend.device)


def _autocast(backend: Backend) -> torch.autocast:
    return torch.autocast(backend.device, torch.bfloat16, enabled=backend.precision == "bf16")


REGRESSORS = {"image": "regressor-image", "uncertainty": "regressor-uncertainty", "error": "regressor-error"}


def predict_all(regressors: dict[str, RegressionNet], images: Voxels, maps: GridMaps, backend: Backend) -> dict[str, float]:
    """Dice predicted from each of the paper's input pairs (Reg-net), not clipped, as scores by name.

    Args:
        regressors: by input pair: ``image``, ``uncertainty``, ``error``.
        images: FLAIR and T1w on the cube (2, x, y, z).
        maps: of the same scan.
        backend: device and precision.
    """
    inputs = {"image": [*images], "uncertainty": [maps.entropy], "error": [maps.error]}
    return {
        f"predicted_dice_{pair}": predict_dice(network, inputs[pair], maps.segmentation, backend)
        for pair, network in regressors.items()
    }
