"""How long the training steps of the profile ``paper`` take on the machine at hand, on random volumes that lie ready.

    python benchmarks/paper_profile.py

For a GPU: on two processor cores a step takes many seconds. Trainings that stop early, the preparation of examples, the scans
that are judged and the refits without a scanner are not in it; ``veridice experiment`` keeps the time of every stage.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from veridice.config import InferenceSettings
from veridice.experiment.protocol import REGRESSED, load_experiment
from veridice.inference.passes import choose_backend, stochastic_passes
from veridice.networks.losses import SegmentationLoss, SsimLoss
from veridice.networks.mc_unet import McUnet
from veridice.networks.reconstruction_unet import ReconstructionUnet
from veridice.networks.regression_net import RegressionNet
from veridice.training.settings import TrainingSettings, load_training_settings

REPEATS, WARMING_UP = 30, 10
Loss = Callable[[], Tensor]


def trainings(settings: TrainingSettings, place: str) -> dict[str, tuple[nn.Module, Loss]]:
    """Each network with the loss of one step."""
    edge = settings.data.grid
    volume = torch.rand(1, 2, edge, edge, edge, device=place)
    flair, lesion = volume[:, :1], (volume[:, :1] > 0.98).float()
    stage = settings.segmenter
    segmenter = McUnet(features=stage.features, depth=stage.depth, stem=stage.stem, dropout_rate=stage.dropout_rate).to(place)
    reconstructor = ReconstructionUnet(features=settings.reconstructor.features).to(place)
    regressor = RegressionNet().to(place)
    maps = torch.rand(settings.regressor.batch_size, 2, edge, edge, edge, device=place)
    overlap, similarity, error = SegmentationLoss(), SsimLoss(), nn.HuberLoss(delta=settings.regressor.huber_delta)
    return {
        "segmenter": (segmenter, lambda: overlap(segmenter(volume, torch.Generator()), lesion)),
        "reconstructor": (reconstructor, lambda: similarity(reconstructor(flair * (1 - lesion)), flair, lesion)),
        "regressor": (regressor, lambda: error(regressor(maps).float(), maps.mean((1, 2, 3, 4)))),
    }


def seconds_a_step(network: nn.Module, loss: Loss, place: str) -> float:
    """Mean of some steps, after others in which the library chooses its kernels."""
    optimiser = torch.optim.Adam(network.parameters())
    begin = 0.0
    for number in range(WARMING_UP + REPEATS):
        if number == WARMING_UP:
            begin = now()
        optimiser.zero_grad()
        with torch.autocast(place, torch.bfloat16):
            value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return (now() - begin) / REPEATS


def now() -> float:
    """Seconds, once all that was asked of the GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    whole, settings = load_experiment("paper"), load_training_settings("paper")
    place = "cuda" if torch.cuda.is_available() else "cpu"
    steps = {
        "segmenter": whole.segmenter_steps + whole.inner_folds * whole.inner_steps,
        "reconstructor": whole.reconstructor_steps,
        "regressor": len(REGRESSED) * whole.regressor_steps,
    }
    found, hours, lines = trainings(settings, place), 0.0, []
    for name, (network, loss) in found.items():
        each = seconds_a_step(network, loss, place)
        hours += steps[name] * each / 3600
        lines.append(f"{name}: {each * 1e3:.1f} ms a step, {steps[name]:,} steps a fold")
    run_passes = partial(stochastic_passes, found["segmenter"][0], torch.rand(2, *[settings.data.grid] * 3).numpy())
    begin = now()
    run_passes(choose_backend(InferenceSettings()), whole.passes, whole.seed)
    lines.append(f"{whole.passes} stochastic passes with their maps: {now() - begin:.2f} s a scan")
    lines.append(f"all these steps: {hours:.1f} h a fold, {whole.folds * hours:.1f} h in all")
    if place == "cuda":
        memory = torch.cuda.max_memory_allocated() / 2**30
        lines.append(f"{torch.cuda.get_device_name()}, at most {memory:.1f} GiB of its memory")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
