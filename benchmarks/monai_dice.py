"""MONAI's UNet and layouts of our segmenter trained the same way on simulated patients, for the same number of steps.

python benchmarks/monai_dice.py --steps 200 [--layout 8 2 --layout 24 2] [--only ours] [--config default] [-o runs/monai]

Same examples in the same order, loss, schedule and validation patients; the best validation Dice of each, on the cube, and the
seconds that a step took. A layout is features and stem. Goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from passes import monai_unet
from torch import nn

from veridice.networks.mc_unet import McUnet
from veridice.training.settings import load_training_settings, with_steps
from veridice.training.unets import fit_segmenter


class WithoutGenerator(nn.Module):
    """A network whose dropout draws from the global generator."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor, _generator: torch.Generator | None = None) -> torch.Tensor:
        logits: torch.Tensor = self.network(images)
        return logits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="default")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--layout", nargs=2, type=int, action="append", default=[], metavar=("FEATURES", "STEM"))
    parser.add_argument("--only", action="append", help="ours, monai, features-F-stem-S; else all of them")
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/monai"))
    arguments = parser.parse_args()
    settings = with_steps(load_training_settings(arguments.config), "segmenter", arguments.steps)
    stage = settings.segmenter

    def layout(features: int, stem: int) -> nn.Module:
        return McUnet(features=features, depth=stage.depth, stem=stem, dropout_rate=stage.dropout_rate)

    networks: dict[str, Callable[[], nn.Module]] = {
        "ours": lambda: layout(stage.features, stage.stem),
        "monai": lambda: WithoutGenerator(monai_unet()),
        **{f"features-{features}-stem-{stem}": partial(layout, features, stem) for features, stem in arguments.layout},
    }
    for name in arguments.only or networks:
        torch.manual_seed(settings.seed)
        network = networks[name]()
        begin = time.perf_counter()
        state = fit_segmenter(network, settings, [], arguments.output / name)
        seconds = time.perf_counter() - begin
        curve = pd.read_csv(arguments.output / name / "metrics.csv")
        print(f"{name}: Dice {state.best:.3f} at step {state.best_step}, {seconds / stage.steps:.2f} s a step in this call")  # noqa: T201
        print(curve.round(3).to_string(index=False))  # noqa: T201


if __name__ == "__main__":
    main()
