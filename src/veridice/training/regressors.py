"""How the regression networks learn to predict the Dice, from segmentations of every quality."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from veridice.case import Case
from veridice.config import InferenceSettings
from veridice.errors import ConfigError
from veridice.inference.passes import choose_backend
from veridice.inference.weights import load_network, save_network
from veridice.io.atomic import write_json
from veridice.io.weight_cards import WeightCard, read_card
from veridice.networks.mc_unet import McUnet
from veridice.networks.regression_net import RegressionNet
from veridice.progress import counted
from veridice.training.cubes import Example, plain_pass
from veridice.training.examples import ExampleStream
from veridice.training.loop import Goal, Progression, evaluate, train_network
from veridice.training.provenance import claim_folder, describe_training
from veridice.training.regressor_examples import QualityDataset, Segmenters, make_quality_cases
from veridice.training.settings import CHANNELS, TrainingSettings
from veridice.training.unets import split_material


def train_regressors(settings: TrainingSettings, cases: Sequence[Case], run: Path, weights: Path) -> list[WeightCard]:
    """Train one regression network for each input pair (Huber loss, paper Eq. 9) on segmentations of every quality.

    Args:
        settings: the configuration that trained the other two networks.
        cases: the same manifest.
        run: folder of the regressors' stored cases and checkpoints; the segmenter's run lies beside it.
        weights: where segmenter and reconstructor weights are, and where the regressors' go.
    """
    stage = settings.regressor
    claim_folder(run, settings, "regressor", None)
    makers = claim_makers(settings, run, {name: read_card(weights, name) for name in ("segmenter", "reconstructor")})
    files = quality_files(settings, cases, run, weights)
    cards = []
    for pair in stage.inputs:
        arguments = settings.arguments_of(f"regressor-{pair}")
        network = new_regressor(pair, settings)
        state, metrics = fit_regressor(network, pair, files, settings, run / pair)
        card = describe_training(f"regressor-{pair}", arguments, settings, cases, state, metrics)
        cards.append(save_network(weights, network, {**card, "learnt_from": makers}))
    return cards


def new_regressor(pair: str, settings: TrainingSettings) -> RegressionNet:
    """A regression network that has learnt nothing; the same for the same seed."""
    torch.manual_seed(settings.seed)
    return RegressionNet(**settings.arguments_of(f"regressor-{pair}"))


def fit_regressor(
    network: nn.Module, pair: str, files: Mapping[str, Sequence[Path]], settings: TrainingSettings, run: Path
) -> tuple[Progression, dict[str, float]]:
    """Train the regression network of one input pair on stored quality cases (``train``, ``validation``), in place, resumably.

    Returns where its training stands, and its metrics on the validation cases.
    """
    stage, channels = settings.regressor, CHANNELS[pair]
    criterion = nn.HuberLoss(delta=stage.huber_delta)
    examples = QualityDataset(files["train"], channels, settings.seed, stage.examples)
    checks = quality_checks(pair, files)

    def loss(model: nn.Module, batch: Example, _generator: torch.Generator) -> Tensor:
        value: Tensor = criterion(model(batch["maps"]).float(), batch["dice"])
        return value

    validate = partial(regressor_metrics, checks=checks)
    state = train_network(network, examples, loss, validate, Goal("mae", False), stage, run, settings.seed)
    return state, evaluate(network, validate)


def quality_checks(pair: str, files: Mapping[str, Sequence[Path]]) -> QualityDataset:
    """Stored quality cases that a regression network is stopped by."""
    return QualityDataset(files["validation"], CHANNELS[pair], None, len(files["validation"]))


def fit_classifier(
    pair: str, files: Mapping[str, Sequence[Path]], limits: Sequence[float], settings: TrainingSettings, run: Path
) -> RegressionNet:
    """Train the same network to tell the class of a segmentation's quality instead of its Dice (cross-entropy), resumably.

    Args:
        pair: what it sees.
        files: stored quality cases (``train``, ``validation``).
        limits: Dice from which on each class but the first begins.
        settings: those of the regressors count.
        run: folder of the training.
    """
    stage, channels = settings.regressor, CHANNELS[pair]
    torch.manual_seed(settings.seed)
    network = RegressionNet(len(channels), stage.widths, stage.pool, outputs=len(limits) + 1)
    examples = QualityDataset(files["train"], channels, settings.seed, stage.examples)
    checks = quality_checks(pair, files)
    edges = torch.tensor(list(limits), dtype=torch.float32)

    def loss(model: nn.Module, batch: Example, _generator: torch.Generator) -> Tensor:
        classes = torch.bucketize(batch["dice"], edges.to(batch["dice"].device), right=True)
        return functional.cross_entropy(model(batch["maps"]).float(), classes)

    def validate(model: nn.Module) -> dict[str, float]:
        device, losses = next(model.parameters()).device, []
        for number in range(len(checks)):
            item = checks[number]
            said = model(item["maps"][None].to(device)).float().cpu()
            losses.append(float(functional.cross_entropy(said, torch.bucketize(item["dice"][None], edges, right=True))))
        return {"cross_entropy": float(np.mean(losses))}

    train_network(network, examples, loss, validate, Goal("cross_entropy", False), stage, run, settings.seed)
    return network.eval()


def regressor_metrics(model: nn.Module, checks: QualityDataset) -> dict[str, float]:
    """Mean absolute error and correlation of predicted and true Dice; what predicting their mean would get, beside it."""
    items = (checks[index] for index in range(len(checks)))
    pairs = [(float(plain_pass(model, item["maps"], bf16=False)), float(item["dice"])) for item in items]
    predicted, true = np.array(pairs).T
    correlated = predicted.std() > 0 and true.std() > 0
    return {
        "mae": float(np.abs(predicted - true).mean()),
        "mae_of_constant": float(np.abs(true - true.mean()).mean()),
        "pearson": float(np.corrcoef(predicted, true)[0, 1]) if correlated else 0.0,
    }


def quality_files(settings: TrainingSettings, cases: Sequence[Case], run: Path, weights: Path) -> dict[str, list[Path]]:
    """Segmentations of every quality of the scans of both splits, with their true Dice; those that are there are kept."""
    stage = settings.regressor
    final, _ = load_network(weights, "segmenter")
    reconstructor, _ = load_network(weights, "reconstructor")
    segmenters = Segmenters(final, out_of_fold(settings, run.parent))
    backend = choose_backend(InferenceSettings())
    counts = {"train": stage.train_cases, "validation": stage.validation_cases}
    files = {}
    for offset, (split, count) in enumerate(counts.items()):
        stream = ExampleStream(split_material(settings, cases, split), settings.data, 0, settings.seed + 2 + offset, count)
        with counted(f"{split} segmentations", count) as on_step:
            folder = run / "cases" / split
            files[split] = make_quality_cases(folder, stream, segmenters, reconstructor, stage, backend, on_step)
    return files


def claim_makers(settings: TrainingSettings, run: Path, cards: Mapping[str, WeightCard]) -> dict[str, str]:
    """Checksums of the networks that make what lies in ``run``, of ``cards`` and of left-out groups; kept there.

    Raises:
        ConfigError: what lies there was made by others.
    """
    makers = {name: card.sha256 for name, card in cards.items()}
    for folder in fold_folders(settings, run.parent).values():
        makers[folder.name] = read_card(folder / "weights", "segmenter").sha256
    stored = run / "makers.json"
    if stored.exists() and json.loads(stored.read_text(encoding="utf-8")) != makers:
        raise ConfigError(f"{run}: what lies there was made by other weights; delete the folder to begin anew")
    run.mkdir(parents=True, exist_ok=True)
    write_json(stored, makers)
    return makers


def out_of_fold(settings: TrainingSettings, output: Path) -> dict[int, tuple[nn.Module, ...]]:
    """Segmenters of each donor group that were trained without it, from ``OUTPUT/fold-G``; the best one first."""
    found = {}
    for group, folder in fold_folders(settings, output).items():
        networks = [load_network(folder / "weights", "segmenter")[0]]
        for file in sorted((folder / "segmenter").glob("step-*.safetensors")):
            network = McUnet(**settings.arguments_of("segmenter"))
            network.load_state_dict(load_file(file))
            networks.append(network)
        found[group] = tuple(networks)
    return found


def fold_folders(settings: TrainingSettings, output: Path) -> dict[int, Path]:
    """``OUTPUT/fold-G`` of each donor group that a finished segmenter was trained without."""
    folders = {group: output / f"fold-{group}" for group in range(len(settings.data.donor_groups))}
    return {group: folder for group, folder in folders.items() if (folder / "weights" / "segmenter.json").exists()}
