"""The stochastic passes in OpenVINO: one compiled graph whose second input are the dropout masks. Optional, CPU only.

A pass is a pure function of image and masks, so the graph is compiled once and the dropout stays ours: the same masks give
the same answer as PyTorch, up to bf16's rounding (tests). Converting takes seconds; the converted graph is kept in the
user's cache folder, under a checksum of the weights. Whatever is wrong with the cache costs only that time again.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import warnings
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from veridice.networks.mc_unet import McUnet
from veridice.types import ProbabilityMap, Voxels

CACHE_VARIABLE = "VERIDICE_CACHE"
KEPT_GRAPHS = 4
"""Graphs of older weights are removed from the cache beyond this number."""


def is_installed() -> bool:
    """Whether the extra ``openvino`` is there."""
    return find_spec("openvino") is not None


def can_run(network: nn.Module) -> bool:
    """Whether the graph of this network can be compiled: dropout of whole channels has a mask that is a plain vector."""
    return is_installed() and isinstance(network, McUnet) and network.dropout_kind == "channel"


class CompiledSegmenter:
    """A segmenter compiled for one image shape.

    Args:
        network: on the CPU, float32.
        shape: of the images (contrasts, x, y, z).
        bf16: compute in bf16 instead of float32.
        threads: processor threads.
    """

    def __init__(self, network: McUnet, shape: tuple[int, ...], bf16: bool, threads: int) -> None:
        import openvino

        model = _cached(network, shape)
        options = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        self._request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()

    def __call__(self, images: Voxels, masks: Tensor) -> ProbabilityMap:
        """Lesion probability (x, y, z) of ``images`` (contrasts, x, y, z) under dropout ``masks`` (all channels,)."""
        results = self._request.infer([np.ascontiguousarray(images, np.float32)[None], masks.numpy()])
        return np.array(results[0][0, 0])


class _Pass(nn.Module):
    def __init__(self, network: McUnet) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        return torch.sigmoid(self.network.forward_with_masks(images, masks))


def cache_folder() -> Path:
    """Where converted graphs are kept; ``VERIDICE_CACHE`` names another place."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "veridice"


def _key(network: McUnet, shape: tuple[int, ...]) -> str:
    import openvino

    checksum = hashlib.sha256(repr((openvino.__version__, shape, network.stem, network.dropout_channels)).encode())
    for name, value in sorted(network.state_dict().items()):
        checksum.update(name.encode())
        checksum.update(value.detach().cpu().numpy().tobytes())
    return checksum.hexdigest()[:32]


def _cached(network: McUnet, shape: tuple[int, ...]) -> Any:
    """The graph from the cache or, failing that, converted and left there for the next time."""
    import openvino

    folder = cache_folder()
    stored = folder / f"segmenter-{_key(network, shape)}"
    try:
        return openvino.Core().read_model(stored / "graph.xml")
    except (RuntimeError, OSError):  # not there, damaged, or of another version
        graph = _convert(network, shape)
    with suppress(RuntimeError, OSError):  # a read-only home folder or a full disk: convert again next time
        _keep(graph, stored)
    return graph


def _convert(network: McUnet, shape: tuple[int, ...]) -> Any:
    import openvino

    example = torch.zeros(1, *shape), torch.ones(sum(network.dropout_channels))
    with warnings.catch_warnings(), torch.inference_mode():
        # The shape is fixed on purpose; tracing warns about that.
        warnings.simplefilter("ignore")
        graph = openvino.convert_model(_Pass(network.eval()), example_input=example)
    graph.reshape({number: list(value.shape) for number, value in enumerate(example)})
    return graph


def _keep(graph: Any, stored: Path) -> None:
    """Write the graph to a folder of its own that appears whole; the oldest graphs make room."""
    import openvino

    stored.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=".segmenter-", dir=stored.parent))
    try:
        openvino.save_model(graph, stage / "graph.xml", compress_to_fp16=False)
        shutil.rmtree(stored, ignore_errors=True)
        stage.replace(stored)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    kept = sorted(stored.parent.glob("segmenter-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in kept[KEPT_GRAPHS:]:
        shutil.rmtree(old, ignore_errors=True)
