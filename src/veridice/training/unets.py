"""How segmenter, brain network and reconstructor are trained: which examples, which loss, how they are validated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from veridice.case import Case
from veridice.errors import WeightsError
from veridice.inference.weights import load_network, save_network
from veridice.io.weight_cards import NetworkKind, WeightCard
from veridice.metrics.overlap import dice
from veridice.networks.losses import SegmentationLoss, SsimLoss, mean_difference, similarity_at_hole, ssim_map
from veridice.networks.mc_unet import McUnet
from veridice.networks.reconstruction_unet import ReconstructionUnet
from veridice.progress import counted
from veridice.training.cubes import Example, plain_pass
from veridice.training.examples import (
    ExampleStream,
    TrainingMaterial,
    planned_patients,
    prepare_material,
    validation_examples,
)
from veridice.training.loop import Goal, Progression, evaluate, train_network
from veridice.training.provenance import by_split, claim_folder, describe_training
from veridice.training.settings import ReconstructorSettings, TrainingSettings


def train_segmenter(
    settings: TrainingSettings, cases: Sequence[Case], run: Path, weights: Path, start: Path | None = None
) -> list[WeightCard]:
    """Train the Monte Carlo U-net (Dice loss, paper Eq. 1) and leave the best weights in folder ``weights``.

    Where the target of the data is the brain, the same network and loss learn that, and the weights are named so.
    """
    name: NetworkKind = "brain" if settings.data.target == "brain" else "segmenter"
    arguments = settings.arguments_of("segmenter")
    torch.manual_seed(settings.seed)
    network = McUnet(**arguments)
    origin = _begin(network, start, name)
    claim_folder(run, settings, "segmenter", origin)
    state = fit_segmenter(network, settings, cases, run)
    card = describe_training(name, arguments, settings, cases, state, {"dice": state.best or 0.0}, origin)
    return [save_network(weights, network, card)]


def fit_segmenter(network: nn.Module, settings: TrainingSettings, cases: Sequence[Case], run: Path) -> Progression:
    """Train any network that maps images and a random generator to logits as the segmenter is trained, in place."""
    stage = settings.segmenter
    material, checks = train_material(settings, cases)
    criterion = SegmentationLoss(stage.cross_entropy, stage.batch_dice)

    def loss(model: nn.Module, batch: Example, generator: torch.Generator) -> Tensor:
        value: Tensor = criterion(model(batch["images"], generator), batch["target"], batch["ignored"])
        return value

    stream = ExampleStream(material, settings.data, stage.crop, settings.seed, stage.examples)
    keep_at = tuple(int(part * stage.steps) for part in stage.keep_at)
    validate = partial(segmenter_metrics, checks=checks)
    return train_network(network, stream, loss, validate, Goal("dice", True), stage, run, settings.seed, keep_at)


def segmenter_metrics(model: nn.Module, checks: Sequence[Example]) -> dict[str, float]:
    """Mean and median Dice of a network's masks, without stochastic passes."""
    scores = []
    for example in checks:
        valid = example["ignored"][0].numpy() < 0.5
        predicted = (plain_pass(model, example["images"])[0] >= 0).numpy()
        true = (example["target"] >= 0.5).numpy()
        scores.append(np.mean([dice(*part).dice for part in zip(predicted & valid, true & valid, strict=True)]))
    return {"dice": float(np.mean(scores)), "dice_median": float(np.median(scores))}


def train_reconstructor(
    settings: TrainingSettings, cases: Sequence[Case], run: Path, weights: Path, start: Path | None = None
) -> list[WeightCard]:
    """Train the reconstruction U-net (SSIM loss, paper Eq. 5-8) to fill the *true* mask; weights as above."""
    arguments = settings.arguments_of("reconstructor")
    torch.manual_seed(settings.seed)
    network = ReconstructionUnet(**arguments)
    origin = _begin(network, start, "reconstructor")
    claim_folder(run, settings, "reconstructor", origin)
    state, metrics = fit_reconstructor(network, settings, cases, run)
    card = describe_training("reconstructor", arguments, settings, cases, state, metrics, origin)
    return [save_network(weights, network, card)]


def fit_reconstructor(
    network: nn.Module, settings: TrainingSettings, cases: Sequence[Case], run: Path
) -> tuple[Progression, dict[str, float]]:
    """Train any network that maps a FLAIR with holes to one without as the reconstructor is trained, in place.

    Returns where its training stands, and its metrics on the validation scans.
    """
    stage = settings.reconstructor
    material, checks = train_material(settings, cases)
    criterion = SsimLoss(stage.ssim_form, stage.ssim_window, stage.hole_weight)

    def loss(model: nn.Module, batch: Example, _generator: torch.Generator) -> Tensor:
        flair, hole = batch["images"][:, :1], (batch["target"].amax(dim=1, keepdim=True) >= 0.5).float()
        value: Tensor = criterion(model(flair * (1 - hole)), flair, hole)
        return value

    # Validation scans without any lesion have no hole to judge.
    holes = any(bool(example["target"].any()) for example in checks)
    goal = Goal("ssim_hole" if stage.hole_weight and holes else "ssim", True)
    stream = ExampleStream(material, settings.data, stage.crop, settings.seed + 1, stage.examples)
    validate = partial(reconstructor_metrics, checks=checks, stage=stage)
    state = train_network(network, stream, loss, validate, goal, stage, run, settings.seed)
    return state, evaluate(network, validate)


def reconstructor_metrics(model: nn.Module, checks: Sequence[Example], stage: ReconstructorSettings) -> dict[str, float]:
    """Similarity of what a network makes of scans with holes, everywhere and in the holes, and the difference there."""
    whole, holes, differences = [], [], []
    for example in checks:
        flair, lesion = example["images"][None, :1], example["target"].amax(dim=0, keepdim=True)
        rebuilt = plain_pass(model, flair[0] * (1 - lesion))
        similarity = ssim_map(rebuilt, flair, stage.ssim_form, stage.ssim_window)
        whole.append(float(similarity.mean()))
        holes.append(float(similarity_at_hole(similarity, lesion[None], stage.ssim_window)))
        differences.append(float(mean_difference(rebuilt, flair, lesion[None])))
    values = {"ssim": float(np.mean(whole)), "ssim_hole": _mean_of_known(holes)}
    return {**values, "difference_hole": _mean_of_known(differences)}


def _mean_of_known(values: Sequence[float]) -> float:
    """Mean of those that are numbers; NaN where none is."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def split_material(settings: TrainingSettings, cases: Sequence[Case], split: str) -> TrainingMaterial:
    """Real and simulated scans of one split on the cube; simulated once, with a progress bar."""
    plans = planned_patients(split, settings.data)
    with counted(f"simulated {split} patients", len(plans), shown=bool(plans)) as on_step:
        return prepare_material(by_split(cases)[split], plans, settings.data, Path(settings.data.cubes), on_step)


def train_material(settings: TrainingSettings, cases: Sequence[Case]) -> tuple[TrainingMaterial, list[Example]]:
    """Scans to train on, and those that a training is stopped by."""
    checks = validation_examples(split_material(settings, cases, "validation"))
    return split_material(settings, cases, "train"), checks


def _begin(network: nn.Module, start: Path | None, name: str) -> WeightCard | None:
    """Take the weights to start from, where some are given; returns their card.

    Raises:
        WeightsError: they are of another layout than the configuration.
    """
    if start is None:
        return None
    known, card = load_network(start, name)
    try:
        network.load_state_dict(known.state_dict())
    except RuntimeError as error:
        raise WeightsError(f"{start}: the {name} there has another layout than the configuration") from error
    return card
