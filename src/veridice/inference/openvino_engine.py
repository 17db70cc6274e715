"""The stochastic passes in OpenVINO: one compiled graph whose second input are the dropout masks. Optional, CPU only.

The graph begins where dropout does; what comes before is the same in every pass and is computed once, by PyTorch. A pass is
a pure function of those features and masks, so the graph is compiled once and the dropout stays ours: the same masks give
the same answer as PyTorch, up to rounding (tests). Converting takes about a second; the converted graph is kept in the
user's cache folder, under a checksum of weights and code. Whatever is wrong with the cache costs only that time again.

OpenVINO reports its use to Google Analytics, unasked, whenever it is imported or converts. Patients' data lie on the
machines that this runs on: here it is imported without that.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from veridice.networks import blocks, mc_unet
from veridice.networks.mc_unet import McUnet
from veridice.types import ProbabilityMap

CACHE_VARIABLE = "VERIDICE_CACHE"
KEPT_GRAPHS = 4
"""Graphs of older weights are removed from the cache beyond this number."""


def _openvino() -> Any:
    """The library without its telemetry; a process that had imported it before has made its own choice.

    Raises:
        ImportError: it is not there, or its binaries do not run on this system.
    """
    # With this entry the import of the telemetry fails, and OpenVINO takes its own stub in its place.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@cache
def _core() -> Any:
    """The only one of this process.

    Each gives the process another stack for its signals, frees that at its end, and sets again the one that it found. Of two
    that end in the order in which they began, the second sets the freed one of the first: the next Ctrl-C would be a crash
    (openvino pull request 11894 has the code).
    """
    return _openvino().Core()


def is_installed() -> bool:
    """Whether the extra ``openvino`` is there and can be loaded."""
    try:
        _openvino()
    except ImportError:
        return False
    return True


def can_run(network: nn.Module) -> bool:
    """Whether the graph of this network can be compiled: dropout of whole channels has a mask that is a plain vector, and one
    map comes out.
    """
    return is_installed() and isinstance(network, McUnet) and network.dropout_kind == "channel" and network.classes == 1


def compile_segmenter(network: McUnet, shape: tuple[int, ...], bf16: bool, threads: int) -> Any:
    """The stochastic part of a segmenter, compiled for one shape.

    Args:
        network: on the CPU, float32.
        shape: of the shared features (features, x, y, z).
        bf16: compute in bf16 instead of float32.
        threads: processor threads.
    """
    options = {
        "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
    }
    return _core().compile_model(_graph(network, shape), "CPU", options)


_compiled: WeakKeyDictionary[McUnet, dict[tuple[Any, ...], Any]] = WeakKeyDictionary()


def compiled_segmenter(network: McUnet, shape: tuple[int, ...], bf16: bool, threads: int) -> Any:
    """The compiled segmenter, kept as long as the network lives and its weights stay as they are."""
    key = (shape, bf16, threads, sum(parameter._version for parameter in network.parameters()))
    known = _compiled.setdefault(network, {})
    if key not in known:
        known.clear()
        known[key] = compile_segmenter(network, shape, bf16, threads)
    return known[key]


def run_compiled(compiled: Any, shared: Tensor, passes: Iterable[Tensor]) -> Iterator[ProbabilityMap]:
    """Lesion probability (x, y, z) of ``shared`` (1, features, x, y, z; float32) under each pass's masks (all channels,)."""
    request = compiled.create_infer_request()
    for masks in passes:
        yield np.array(request.infer([shared.numpy(), masks.numpy()])[0][0, 0])


class _Pass(nn.Module):
    def __init__(self, network: McUnet) -> None:
        super().__init__()
        self.network = network

    def forward(self, shared: Tensor, masks: Tensor) -> Tensor:
        return torch.sigmoid(self.network.finish_with_masks(shared, masks))


def cache_folder() -> Path:
    """Where converted graphs are kept; ``VERIDICE_CACHE`` names another place."""
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "veridice"


def _key(network: McUnet, shape: tuple[int, ...]) -> str:
    """Checksum of all that the graph depends on.

    Raises:
        OSError: the package's source is not at hand.
    """
    checksum = hashlib.sha256(repr((_openvino().__version__, shape, network.stem, network.dropout_channels)).encode())
    for module in (mc_unet, blocks, sys.modules[__name__]):
        checksum.update(inspect.getsource(module).encode())
    for name, value in sorted(network.state_dict().items()):
        checksum.update(name.encode())
        checksum.update(value.detach().cpu().numpy().tobytes())
    return checksum.hexdigest()[:32]


def _graph(network: McUnet, shape: tuple[int, ...]) -> Any:
    """The graph from the cache or, failing that, converted and left there for the next time."""
    stored = None
    with suppress(OSError, RuntimeError):  # not there, damaged, of another version; a user without a home
        stored = cache_folder() / f"segmenter-{_key(network, shape)}"
        return _read(stored)
    graph = _convert(network, shape)
    if stored is not None:
        with suppress(OSError, RuntimeError):  # a read-only home or a full disk: convert again next time
            _keep(graph, stored)
    return graph


def _convert(network: McUnet, shape: tuple[int, ...]) -> Any:
    # Not openvino.convert_model: the same front end does the work, without telemetry and the seconds that waits for it.
    openvino = _openvino()
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    # The trace holds for any shape (tests), so the smallest that leaves something to normalise at the bottom will do.
    edge = 2 ** len(network.encoder)
    example = torch.zeros(1, shape[0], edge, edge, edge), torch.ones(sum(network.dropout_channels))
    with warnings.catch_warnings(), torch.inference_mode():
        # Numbers of channels become constants, as they should; tracing warns about that.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(_Pass(network.eval()), example, check_trace=False)
        # The decoder must outlive the conversion; its own copy of the weights lets the network go.
        decoder = TorchScriptPythonDecoder(traced, example_input=example, shared_memory=False)
        front_end = openvino.frontend.FrontEndManager().load_by_framework("pytorch")
        graph = front_end.convert(front_end.load(decoder))
    graph.reshape({0: [1, *shape], 1: list(example[1].shape)})
    return graph


def _keep(graph: Any, stored: Path) -> None:
    """Write the graph to a folder of its own that appears whole; the oldest graphs make room."""
    stored.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=".segmenter-", dir=stored.parent))
    try:
        _openvino().save_model(graph, stage / "graph.xml", compress_to_fp16=False)
        (stage / "sha256").write_bytes(_checksum(stage))
        shutil.rmtree(stored, ignore_errors=True)
        stage.replace(stored)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
    # What a killed process left half-written goes the same way.
    kept = sorted(stored.parent.glob("*segmenter-*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in kept[KEPT_GRAPHS:]:
        shutil.rmtree(old, ignore_errors=True)


def _read(stored: Path) -> Any:
    """The graph in folder ``stored``, only if it is what was written there: OpenVINO itself takes altered weights.

    Raises:
        OSError: not there, or damaged.
        RuntimeError: OpenVINO cannot read it.
    """
    if (stored / "sha256").read_bytes() != _checksum(stored):
        raise OSError(f"{stored}: damaged")
    return _core().read_model(stored / "graph.xml")


def _checksum(folder: Path) -> bytes:
    content = (folder / "graph.xml").read_bytes() + (folder / "graph.bin").read_bytes()
    return hashlib.sha256(content).hexdigest().encode()
