"""Twenty stochastic passes on a 128x128x128 cube: MONAI's UNet as its users run it, a plain fp32 loop, and ours.

python benchmarks/passes.py [--rounds 3] [--features 16 --stem 2 --depth 4]

Rounds alternate, so that a busy machine is busy for all. Without --features the shipped segmenter is used. The peak is
this machine's own matrix product, measured here. Memory is that of a process of its own that does nothing but ours.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from monai.inferers import sliding_window_inference
from monai.networks.nets import UNet
from torch import nn

from veridice.engine import is_installed
from veridice.inference import Backend, bf16_supported, stochastic_passes
from veridice.networks.mc_unet import McUnet
from veridice.networks.weights import bundled_weights, load_network

SHAPE = (2, 128, 128, 128)


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
    with torch.inference_mode():
        torch.stack([torch.sigmoid(network(images, torch.Generator().manual_seed(n))) for n in range(passes)]).mean(dim=0)


def gflop(network: nn.Module, images: torch.Tensor) -> float:
    """Multiplications and additions of all convolutions in one pass, times 1e-9."""
    counted: list[float] = []

    def count(layer: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        weight = layer.weight
        transposed = isinstance(layer, nn.ConvTranspose3d)
        voxels = inputs[0].numel() // inputs[0].shape[1] if transposed else output.numel() // output.shape[1]
        counted.append(2e-9 * weight.numel() * voxels)

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv3d | nn.ConvTranspose3d)]
    with torch.inference_mode():
        network(images)
    for hook in hooks:
        hook.remove()
    return sum(counted)


def peak_gflops(dtype: torch.dtype, size: int = 4096) -> float:
    """Best of five matrix products."""
    left, right = (torch.rand(size, size).to(dtype) for _ in range(2))
    left @ right
    times = [timed(lambda: left @ right) for _ in range(5)]
    return 2e-9 * size**3 / min(times)


def timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def segmenter(features: int | None, stem: int, depth: int) -> McUnet:
    if features is None:
        network, _ = load_network(bundled_weights(), "segmenter")
        assert isinstance(network, McUnet)  # noqa: S101
        return network
    return McUnet(features=features, depth=depth, stem=stem).eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--features", type=int)
    parser.add_argument("--stem", type=int, default=2)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--memory-of-ours", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    ours = segmenter(arguments.features, arguments.stem, arguments.depth)
    images = torch.rand(1, *SHAPE)
    precision = "bf16" if bf16_supported("cpu") else "fp32"
    engines = ("torch", "openvino") if is_installed() else ("torch",)

    def run_ours(engine: str) -> None:
        backend = Backend("cpu", precision, torch.get_num_threads(), engine)  # type: ignore[arg-type]
        stochastic_passes(ours, images[0].numpy(), backend, arguments.passes, seed=0)

    if arguments.memory_of_ours:
        run_ours(engines[-1])
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)  # noqa: T201
        return
    theirs = monai_unet()
    work: dict[str, tuple[nn.Module, str, Callable[[], None]]] = {
        "MONAI UNet, fp32": (theirs, "fp32", lambda: as_users_do(theirs, images, arguments.passes, False)),
        f"MONAI UNet, {precision}": (theirs, precision, lambda: as_users_do(theirs, images, arguments.passes, True)),
        "our network, plain fp32 loop": (ours, "fp32", lambda: plain_loop(ours, images, arguments.passes)),
        **{f"ours, {e} {precision}": (ours, precision, lambda e=e: run_ours(e)) for e in engines},
    }
    for engine in engines:
        run_ours(engine)
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(arguments.rounds):
        for name, (_, _, run) in work.items():
            seconds[name].append(timed(run))
    peaks = {"fp32": peak_gflops(torch.float32), "bf16": peak_gflops(torch.bfloat16)}
    cost = {network: gflop(network, images) for network in (theirs, ours)}
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    plain = medians["our network, plain fp32 loop"]
    print(f"| {arguments.passes} passes | seconds | plain loop / this | GFLOP a pass | GFLOP/s | of the peak |")  # noqa: T201
    print("|---|---:|---:|---:|---:|---:|")  # noqa: T201
    for name, (network, kind, _) in work.items():
        rate = arguments.passes * cost[network] / medians[name]
        row = f"| {name} | {medians[name]:.2f} | {plain / medians[name]:.1f} | {cost[network]:.0f} | {rate:.0f} "
        print(f"{row}| {rate / peaks[kind]:.0%} |")  # noqa: T201
    child = subprocess.run(
        [sys.executable, *sys.argv, "--memory-of-ours"], capture_output=True, text=True, check=True, timeout=600
    )
    memory = float(np.float64(child.stdout.split()[-1]))
    print(f"peak of the machine: fp32 {peaks['fp32']:.0f}, bf16 {peaks['bf16']:.0f} GFLOP/s; ours: {memory:.2f} GiB")  # noqa: T201


if __name__ == "__main__":
    main()
