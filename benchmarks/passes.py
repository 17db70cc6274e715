"""Twenty stochastic passes on a 128x128x128 cube: MONAI's UNet as its users run it, a plain fp32 loop, and ours.

python benchmarks/passes.py [--passes 20] [--rounds 3] [--features 16 --stem 2 --depth 4]

Rounds alternate, so that a busy machine is busy for all; medians. Without --features the shipped segmenter is used. The
peak is this machine's own matrix product, the best of all rounds. The second table is for processes that start cold and
do nothing but ours: seconds from start to end, and peak memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from monai.inferers import sliding_window_inference
from monai.networks.nets import UNet
from torch import nn

from veridice.config import InferenceSettings
from veridice.inference.openvino_engine import CACHE_VARIABLE, is_installed
from veridice.inference.passes import choose_backend, stochastic_passes
from veridice.inference.weights import load_network
from veridice.io.weight_cards import bundled_weights
from veridice.networks.mc_unet import McUnet

SHAPE = (2, 128, 128, 128)
Engine = Literal["torch", "openvino", "auto"]


@dataclass
class Row:
    """One way of doing the passes, and its seconds by round."""

    network: nn.Module
    precision: str
    run: Callable[[], None]
    seconds: list[float] = field(default_factory=list)


def monai_unet() -> UNet:
    """Near the paper's size: 16 features, two residual units, dropout."""
    return UNet(3, 2, 1, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2, dropout=0.2)


def as_users_do(network: nn.Module, images: torch.Tensor, passes: int, bf16: bool) -> None:
    """Dropout on by ``train()``, sliding window, a mean of the samples."""
    network.train()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        samples = [torch.sigmoid(sliding_window_inference(images, SHAPE[1:], 1, network)) for _ in range(passes)]
        torch.stack(samples).float().mean(dim=0)


def plain_loop(network: McUnet, images: torch.Tensor, passes: int) -> None:
    """Pass after pass in fp32, then the mean."""
    with torch.inference_mode():
        torch.stack([torch.sigmoid(network(images, torch.Generator().manual_seed(n))) for n in range(passes)]).mean(dim=0)


def ours(network: McUnet, images: torch.Tensor, passes: int, engine: Engine) -> None:
    """As ``veridice check`` does it: masks, maps and all."""
    backend = choose_backend(InferenceSettings(device="cpu", engine=engine))
    stochastic_passes(network, images[0].numpy(), backend, passes, seed=0)


def gflop(network: nn.Module, images: torch.Tensor) -> float:
    """Multiplications and additions of all convolutions in one pass, times 1e-9."""
    counted: list[float] = []

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        voxels = inputs[0] if isinstance(layer, nn.ConvTranspose3d) else output
        weight = layer.get_parameter("weight")
        counted.append(2e-9 * weight.numel() * voxels[0, 0].numel())

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)]
    with torch.inference_mode():
        network(images)
    for hook in hooks:
        hook.remove()
    return sum(counted)


def matrix_gflops(dtype: torch.dtype, size: int = 4096) -> float:
    """Best of three matrix products."""
    left, right = (torch.rand(size, size).to(dtype) for _ in range(2))
    return 2e-9 * size**3 / min(timed(lambda: left @ right) for _ in range(3))


def timed(work: Callable[[], object]) -> float:
    """Wall seconds."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def cold(engine: Engine, cache: str | None) -> tuple[float, float]:
    """Wall seconds and peak memory (GiB) of a process that does ours once, with graphs in folder ``cache``."""
    environment = {**os.environ, **({CACHE_VARIABLE: cache} if cache else {})}
    command = [sys.executable, *sys.argv, "--once", engine]
    begin = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600, env=environment)
    return time.perf_counter() - begin, float(done.stdout.split()[-1])


def segmenter(features: int | None, stem: int, depth: int) -> McUnet:
    """The shipped one, or an untrained one of a given layout."""
    if features is not None:
        return McUnet(features=features, depth=depth, stem=stem).eval()
    network, _ = load_network(bundled_weights(), "segmenter")
    assert isinstance(network, McUnet)  # noqa: S101
    return network


def measure(rows: dict[str, Row], rounds: int) -> dict[str, float]:
    """Fill in the seconds; returns the peak by precision."""
    peaks = {"fp32": 0.0, "bf16": 0.0}
    for _ in range(rounds):
        for row in rows.values():
            row.seconds.append(timed(row.run))
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            peaks[name] = max(peaks[name], matrix_gflops(dtype))
    return peaks


def table(rows: dict[str, Row], images: torch.Tensor, passes: int, peaks: dict[str, float]) -> list[str]:
    """Markdown, one line a row; ratios are to the plain loop."""
    cost = {network: gflop(network, images) for network in {row.network for row in rows.values()}}
    plain = statistics.median(rows["our network, plain fp32 loop"].seconds)
    lines = [f"| {passes} passes | seconds | plain loop / this | GFLOP a pass | GFLOP/s | of the peak |", "|---|" + "---:|" * 5]
    for name, row in rows.items():
        seconds = statistics.median(row.seconds)
        rate = passes * cost[row.network] / seconds
        cells = f"{seconds:.2f} | {plain / seconds:.1f} | {cost[row.network]:.0f} | {rate:.0f}"
        lines.append(f"| {name} | {cells} | {rate / peaks[row.precision]:.0%} |")
    return [*lines, f"\nPeak: fp32 {peaks['fp32']:.0f}, bf16 {peaks['bf16']:.0f} GFLOP/s, {torch.get_num_threads()} threads\n"]


def cold_table(rounds: int) -> list[str]:
    """Markdown: whole processes, by engine."""
    lines = ["| whole process, started cold | seconds | peak memory, GiB |", "|---|---:|---:|"]
    ways: dict[str, tuple[Engine, bool]] = {"torch": ("torch", False), "auto": ("auto", False)}
    if is_installed():
        ways["openvino, graph not in the cache"] = ("openvino", True)
    runs: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (engine, new) in ways.items():
            with tempfile.TemporaryDirectory() as empty:
                runs[name].append(cold(engine, empty if new else None))
    for name, values in runs.items():
        seconds, memory = zip(*values, strict=True)
        lines.append(f"| ours, {name} | {statistics.median(seconds):.2f} | {max(memory):.2f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--features", type=int)
    parser.add_argument("--stem", type=int, default=2)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--once", choices=["torch", "openvino", "auto"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    network = segmenter(arguments.features, arguments.stem, arguments.depth)
    images, passes = torch.rand(1, *SHAPE), arguments.passes
    if arguments.once:
        ours(network, images, passes, arguments.once)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)  # noqa: T201
        return
    precision = choose_backend(InferenceSettings(device="cpu")).precision
    engines: tuple[Engine, ...] = ("torch", "openvino", "auto") if is_installed() else ("torch", "auto")
    theirs = monai_unet()
    rows = {
        "MONAI UNet, fp32": Row(theirs, "fp32", lambda: as_users_do(theirs, images, passes, False)),
        "MONAI UNet, bf16": Row(theirs, "bf16", lambda: as_users_do(theirs, images, passes, True)),
        "our network, plain fp32 loop": Row(network, "fp32", lambda: plain_loop(network, images, passes)),
        **{f"ours, {e}, {precision}": Row(network, precision, partial(ours, network, images, passes, e)) for e in engines},
    }
    ours(network, images, 2, "auto")  # leaves the graph in the cache
    peaks = measure(rows, arguments.rounds)
    print("\n".join(table(rows, images, passes, peaks) + cold_table(arguments.rounds)))  # noqa: T201


if __name__ == "__main__":
    main()
