"""How the networks of the generative approaches are trained: the probabilistic U-net, and images from labels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from veridice.case import Case
from veridice.imaging.tissue_classes import CLASSES, labels_with_mask
from veridice.inference.weights import save_network
from veridice.io.weight_cards import WeightCard
from veridice.metrics.overlap import dice
from veridice.networks.image_generator import ImageGenerator
from veridice.networks.losses import SegmentationLoss
from veridice.networks.probabilistic_unet import ProbabilisticUnet
from veridice.training.cubes import Example
from veridice.training.examples import ExampleStream
from veridice.training.loop import Goal, train_network
from veridice.training.provenance import claim_folder, describe_training
from veridice.training.settings import TrainingSettings
from veridice.training.unets import train_material

DIVERGENCE = 0.01
"""Weight of the divergence beside a loss that is a mean over voxels; Kohl et al. give it 1 beside a sum, which is even less."""


def train_probabilistic_unet(
    settings: TrainingSettings, cases: Sequence[Case], run: Path, weights: Path, start: Path | None = None
) -> list[WeightCard]:
    """Train the probabilistic U-net on the segmenter's examples, with its loss and its number of steps.

    Args:
        settings: those of the segmenter count.
        cases: with their splits.
        run: folder of the training.
        weights: where the weights go.
        start: folder of a segmenter's weights, whose encoder and decoder the body takes over; the rest begins anew.
    """
    stage = settings.segmenter
    arguments = {name: getattr(stage, name) for name in ("features", "depth", "stem")} | {"classes": settings.data.task.count}
    torch.manual_seed(settings.seed)
    network = ProbabilisticUnet(**arguments)
    if start is not None:
        take_over(network.body, start / "segmenter.safetensors")
    claim_folder(run, settings, "segmenter", None)
    material, checks = train_material(settings, cases)
    criterion = SegmentationLoss(stage.cross_entropy, stage.batch_dice)

    def loss(model: nn.Module, batch: Example, generator: torch.Generator) -> Tensor:
        logits, divergence = model(batch["images"], generator, batch["target"])
        value: Tensor = criterion(logits, batch["target"], batch["ignored"]) + DIVERGENCE * divergence
        return value

    def validate(model: nn.Module) -> dict[str, float]:
        device, scores = next(model.parameters()).device, []
        for example in checks:
            valid = example["ignored"][0].numpy() < 0.5
            predicted = (model(example["images"][None].to(device))[0][0] >= 0).cpu().numpy()
            pairs = zip(predicted & valid, (example["target"] >= 0.5).numpy() & valid, strict=True)
            scores.append(np.mean([dice(*part).dice for part in pairs]))
        return {"dice": float(np.mean(scores))}

    stream = ExampleStream(material, settings.data, stage.crop, settings.seed, stage.examples)
    state = train_network(network, stream, loss, validate, Goal("dice", True), stage, run, settings.seed)
    card = describe_training("probabilistic", arguments, settings, cases, state, {"dice": state.best or 0.0})
    return [save_network(weights, network, card)]


def take_over(body: nn.Module, file: Path) -> None:
    """Give a network the stored weights of every layer that has the same name and size in both."""
    own, known = body.state_dict(), load_file(file)
    body.load_state_dict(own | {name: value.float() for name, value in known.items() if own[name].shape == value.shape})


def train_image_generator(
    settings: TrainingSettings, cases: Sequence[Case], run: Path, weights: Path, adversarial: bool
) -> list[WeightCard]:
    """Train a network that makes the first contrast from tissue classes and the *true* mask; without ``adversarial`` a plain
    regression of the same. Settings are those of the reconstructor; weights are named ``generator`` or ``generator-plain``.
    """
    stage, name = settings.reconstructor, "generator" if adversarial else "generator-plain"
    arguments = {field: getattr(stage, field) for field in ("features", "depth", "stem")} | {"labels": CLASSES + 1}
    arguments |= {} if adversarial else {"adversarial": 0.0}
    torch.manual_seed(settings.seed)
    network = ImageGenerator(**arguments)
    claim_folder(run, settings, "reconstructor", None)
    material, checks = train_material(settings, cases)

    def loss(model: nn.Module, batch: Example, _generator: torch.Generator) -> Tensor:
        value: Tensor = model(labels_of(batch), batch["images"][:, :1])
        return value

    def validate(model: nn.Module) -> dict[str, float]:
        device, differences = next(model.parameters()).device, []
        for example in checks:
            alone = {name: value[None] for name, value in example.items()}
            made = model(labels_of(alone).to(device)).cpu()
            differences.append(float((made - alone["images"][:, :1]).abs().mean()))
        return {"difference": float(np.mean(differences))}

    stream = ExampleStream(material, settings.data, stage.crop, settings.seed + 1, stage.examples)
    state = train_network(network, stream, loss, validate, Goal("difference", False), stage, run, settings.seed)
    card = describe_training(name, arguments, settings, cases, state, {"difference": state.best or 0.0})
    return [save_network(weights, network, card)]


def labels_of(batch: Example) -> Tensor:
    """Tissue classes and true mask (batch, classes + 1, x, y, z) of a batch of examples, on its device."""
    images, masks = batch["images"].cpu().numpy(), (batch["target"].amax(dim=1) >= 0.5).cpu().numpy()
    labels = np.stack([labels_with_mask(*pair) for pair in zip(images, masks, strict=True)])
    return torch.from_numpy(labels).to(batch["images"].device)
