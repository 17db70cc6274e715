"""Can a network learn ten scans by heart? What keeps it from that keeps it from more.

``python benchmarks/fit_ten.py --data FOLDER [--features 16 24] [--dropout 0.2 0] [--steps 600] [--shipped]``: trains on the
labelled scans alone, whole cubes, flipped left and right but not varied otherwise, and says the Dice on the same cubes, of the
voxels that count; seconds a step on this machine. ``--shipped`` begins from the segmenter that ships.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from pathlib import Path

import numpy as np
import torch

from veridice.inference.passes import bf16_pays
from veridice.inference.weights import load_network
from veridice.io.datasets import read_manifest
from veridice.io.weight_cards import bundled_weights
from veridice.metrics.overlap import dice
from veridice.networks.losses import SegmentationLoss
from veridice.networks.mc_unet import McUnet
from veridice.training.cubes import Example, plain_pass
from veridice.training.examples import prepare_material
from veridice.training.settings import DataSettings


def fit(network: McUnet, scans: list[Example], steps: int, rate: float) -> float:
    """Train in place; seconds a step."""
    optimiser, loss = torch.optim.Adam(network.parameters(), lr=rate), SegmentationLoss(1.0, batch_dice=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps, pct_start=0.1)
    rng, start = np.random.default_rng(0), time.perf_counter()
    for step in range(steps):
        scan = scans[step % len(scans)]
        side = bool(rng.random() < 0.5)
        example = {name: (value.flip(1) if side else value)[None] for name, value in scan.items()}
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_pays("cpu")):
            logits = network(example["images"], torch.Generator().manual_seed(step))
        value = loss(logits, example["target"], (example["ignored"] >= 0.5).float())
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return (time.perf_counter() - start) / steps


def own_dice(network: McUnet, scans: list[Example]) -> list[float]:
    """Of the scans that were learnt, without dropout."""
    network.eval()
    found = []
    with torch.inference_mode():
        for scan in scans:
            valid = scan["ignored"][0].numpy() < 0.5
            marked = (plain_pass(network, scan["images"])[0, 0] >= 0).numpy()
            found.append(dice(marked & valid, (scan["target"][0].numpy() >= 0.5) & valid).dice)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, default=Path("data/training.csv"))
    parser.add_argument("--features", type=int, nargs="+", default=[16])
    parser.add_argument("--depth", type=int, nargs="+", default=[4])
    parser.add_argument("--stem", type=int, nargs="+", default=[2])
    parser.add_argument("--dropout", type=float, nargs="+", default=[0.2, 0.0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--shipped", action="store_true")
    parser.add_argument("--rate", type=float, default=2e-3)
    options = parser.parse_args()
    cases = read_manifest(options.manifest, options.data)
    material = prepare_material(cases, [], DataSettings(), Path("runs/cubes"), lambda: None)
    scans = [case.read() for case in material.real if not case.id.endswith("-stripped")]
    sys.stdout.write(f"{len(scans)} scans, {options.steps} steps\n")
    for features, depth, stem, dropout in itertools.product(options.features, options.depth, options.stem, options.dropout):
        torch.manual_seed(0)
        network = McUnet(features=features, depth=depth, stem=stem, dropout_rate=dropout)
        if options.shipped:
            network.load_state_dict(load_network(bundled_weights(), "segmenter")[0].state_dict())
            sys.stdout.write(f"  before: Dice {np.mean(own_dice(network, scans)):.3f}\n")
            network.train()
        seconds = fit(network, scans, options.steps, options.rate)
        found = own_dice(network, scans)
        parts = " ".join(f"{value:.2f}" for value in found)
        name = f"features {features}, depth {depth}, stem {stem}, dropout {dropout}"
        sys.stdout.write(f"{name}: Dice {np.mean(found):.3f} ({parts}); {seconds:.2f} s a step\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
