"""How each of the three networks is trained: which examples, which loss, how it is validated, what is kept."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from veridice._version import __version__
from veridice.case import Case
from veridice.config import (
    DataSettings,
    InferenceSettings,
    RegressorInput,
    TrainingSettings,
    differing_fields,
    load_training_settings,
    to_toml,
)
from veridice.errors import ConfigError, WeightsError
from veridice.inference.passes import bf16_pays, choose_backend
from veridice.inference.weights import load_network, save_network
from veridice.io.atomic import make_folder
from veridice.io.weight_cards import NetworkKind, WeightCard, read_card
from veridice.metrics.overlap import dice
from veridice.networks.losses import SegmentationLoss, SsimLoss, mean_difference, similarity_at_hole, ssim_map
from veridice.networks.mc_unet import McUnet
from veridice.networks.reconstruction_unet import ReconstructionUnet
from veridice.networks.regression_net import RegressionNet
from veridice.progress import progress_bar
from veridice.quality_data import CHANNELS, QualityDataset, Segmenters, make_quality_cases
from veridice.simulate.donors import all_donors
from veridice.training import CHECKPOINT, Goal, Progression, evaluate, train_network
from veridice.training_data import (
    Example,
    ExampleStream,
    TrainingMaterial,
    planned_patients,
    prepare_material,
    validation_examples,
)

SETTINGS = "settings.toml"
START = "started-from.txt"


def by_split(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """Cases of the training and of the validation split."""
    return {split: [case for case in cases if case.split == split] for split in ("train", "validation")}


def train_segmenter(
    settings: TrainingSettings, cases: Sequence[Case], run: Path, weights: Path, start: Path | None = None
) -> list[WeightCard]:
    """Train the Monte Carlo U-net (Dice loss, paper Eq. 1) and leave the best weights in folder ``weights``.

    Where the target of the data is the brain, the same network and loss learn that, and the weights are named so.
    """
    name: NetworkKind = "brain" if settings.data.target == "brain" else "segmenter"
    arguments = _segmenter_arguments(settings)
    torch.manual_seed(settings.seed)
    network = McUnet(**arguments)
    origin = _begin(network, start, name)
    _claim_folder(run, settings, "segmenter", origin)
    state = fit_segmenter(network, settings, cases, run)
    metrics = {"dice": state.best or 0.0}
    card = _describe_training(name, arguments, settings, cases, state, metrics, origin)
    return [save_network(weights, network, card)]


def fit_segmenter(network: nn.Module, settings: TrainingSettings, cases: Sequence[Case], run: Path) -> Progression:
    """Train any network that maps images and a random generator to logits as the segmenter is trained, in place."""
    stage = settings.segmenter
    material, checks = _material(settings, cases)
    criterion = SegmentationLoss(stage.cross_entropy, stage.batch_dice)

    def loss(model: nn.Module, batch: Example, generator: torch.Generator) -> Tensor:
        value: Tensor = criterion(model(batch["images"], generator), batch["lesion"], batch["ignored"])
        return value

    def validate(model: nn.Module) -> dict[str, float]:
        scores = []
        for example in checks:
            judged = example["ignored"][0].numpy() < 0.5
            predicted = (_plain_pass(model, example["images"])[0] >= 0).numpy()
            scores.append(dice(predicted[0] & judged, (example["lesion"][0].numpy() >= 0.5) & judged).dice)
        return {"dice": float(np.mean(scores)), "dice_median": float(np.median(scores))}

    stream = ExampleStream(material, settings.data, stage.crop, settings.seed, stage.examples)
    keep_at = tuple(int(part * stage.steps) for part in stage.keep_at)
    return train_network(network, stream, loss, validate, Goal("dice", True), stage, run, settings.seed, keep_at)


def train_reconstructor(
    settings: TrainingSettings, cases: Sequence[Case], run: Path, weights: Path, start: Path | None = None
) -> list[WeightCard]:
    """Train the reconstruction U-net (SSIM loss, paper Eq. 5-8) to fill the *true* mask; weights as above."""
    stage = settings.reconstructor
    arguments = {name: getattr(stage, name) for name in ("features", "depth", "stem", "residual")}
    torch.manual_seed(settings.seed)
    network = ReconstructionUnet(**arguments)
    origin = _begin(network, start, "reconstructor")
    _claim_folder(run, settings, "reconstructor", origin)
    material, checks = _material(settings, cases)
    criterion = SsimLoss(stage.ssim_form, stage.ssim_window, stage.hole_weight)

    def loss(model: nn.Module, batch: Example, _generator: torch.Generator) -> Tensor:
        flair, hole = batch["images"][:, :1], (batch["lesion"] >= 0.5).float()
        value: Tensor = criterion(model(flair * (1 - hole)), flair, hole)
        return value

    def validate(model: nn.Module) -> dict[str, float]:
        whole, holes, differences = [], [], []
        for example in checks:
            flair, lesion = example["images"][None, :1], example["lesion"]
            rebuilt = _plain_pass(model, flair[0] * (1 - lesion))
            similarity = ssim_map(rebuilt, flair, stage.ssim_form, stage.ssim_window)
            whole.append(float(similarity.mean()))
            holes.append(float(similarity_at_hole(similarity, lesion[None], stage.ssim_window)))
            differences.append(float(mean_difference(rebuilt, flair, lesion[None])))
        values = {"ssim": float(np.mean(whole)), "ssim_hole": _mean_of_known(holes)}
        return {**values, "difference_hole": _mean_of_known(differences)}

    # Validation scans without any lesion have no hole to judge.
    holes = any(bool(example["lesion"].any()) for example in checks)
    goal = Goal("ssim_hole" if stage.hole_weight and holes else "ssim", True)
    stream = ExampleStream(material, settings.data, stage.crop, settings.seed + 1, stage.examples)
    state = train_network(network, stream, loss, validate, goal, stage, run, settings.seed)
    metrics = evaluate(network, validate)
    card = _describe_training("reconstructor", arguments, settings, cases, state, metrics, origin)
    return [save_network(weights, network, card)]


def _mean_of_known(values: Sequence[float]) -> float:
    """Mean of those that are numbers; NaN where none is."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def train_regressors(settings: TrainingSettings, cases: Sequence[Case], run: Path, weights: Path) -> list[WeightCard]:
    """Train one regression network for each input pair (Huber loss, paper Eq. 9) on segmentations of every quality.

    Args:
        settings: the configuration that trained the other two networks.
        cases: the same manifest.
        run: folder of the regressors' stored cases and checkpoints; the segmenter's run lies beside it.
        weights: where segmenter and reconstructor weights are, and where the regressors' go.
    """
    stage = settings.regressor
    _claim_folder(run, settings, "regressor", None)
    makers = _makers(settings, run, weights)
    files = _quality_files(settings, cases, run, weights)
    cards = []
    for pair in stage.inputs:
        arguments = {"in_channels": len(CHANNELS[pair]), "widths": list(stage.widths), "pool": stage.pool}
        network, state, metrics = fit_regressor(pair, files, settings, run / pair)
        card = _describe_training(f"regressor-{pair}", arguments, settings, cases, state, metrics)
        cards.append(save_network(weights, network, {**card, "learnt_from": makers}))
    return cards


def fit_regressor(
    pair: RegressorInput, files: Mapping[str, Sequence[Path]], settings: TrainingSettings, run: Path
) -> tuple[RegressionNet, Progression, dict[str, float]]:
    """Train the regression network of one input pair on stored quality cases (``train``, ``validation``), resumably.

    Returns the best network, where its training stands, and its metrics on the validation cases.
    """
    stage, channels = settings.regressor, CHANNELS[pair]
    criterion = nn.HuberLoss(delta=stage.huber_delta)
    torch.manual_seed(settings.seed)
    network = RegressionNet(len(channels), stage.widths, stage.pool)
    examples = QualityDataset(files["train"], channels, settings.seed, stage.examples)
    checks = QualityDataset(files["validation"], channels, None, len(files["validation"]))

    def loss(model: nn.Module, batch: Example, _generator: torch.Generator) -> Tensor:
        value: Tensor = criterion(model(batch["maps"]).float(), batch["dice"])
        return value

    def validate(model: nn.Module) -> dict[str, float]:
        return _dice_prediction_metrics(model, checks)

    state = train_network(network, examples, loss, validate, Goal("mae", False), stage, run, settings.seed)
    return network, state, evaluate(network, validate)


def _dice_prediction_metrics(model: nn.Module, checks: QualityDataset) -> dict[str, float]:
    """Mean absolute error and correlation of predicted and true Dice; what predicting their mean would get, beside it."""
    pairs = []
    for index in range(len(checks)):
        item = checks[index]
        pairs.append((float(_plain_pass(model, item["maps"], bf16=False)), float(item["dice"])))
    predicted, true = np.array(pairs).T
    correlated = predicted.std() > 0 and true.std() > 0
    return {
        "mae": float(np.abs(predicted - true).mean()),
        "mae_of_constant": float(np.abs(true - true.mean()).mean()),
        "pearson": float(np.corrcoef(predicted, true)[0, 1]) if correlated else 0.0,
    }


def _quality_files(settings: TrainingSettings, cases: Sequence[Case], run: Path, weights: Path) -> dict[str, list[Path]]:
    stage = settings.regressor
    final, _ = load_network(weights, "segmenter")
    reconstructor, _ = load_network(weights, "reconstructor")
    segmenters = Segmenters(final, _out_of_fold(settings, run.parent))
    backend = choose_backend(InferenceSettings())
    counts = {"train": stage.train_cases, "validation": stage.validation_cases}
    files = {}
    with progress_bar() as progress:
        for offset, split in enumerate(counts):
            task = progress.add_task(f"{split} segmentations", total=counts[split], note="")
            material = split_material(settings, cases, split)
            stream = ExampleStream(material, settings.data, 0, settings.seed + 2 + offset, counts[split])
            files[split] = make_quality_cases(
                run / "cases" / split,
                stream,
                segmenters,
                reconstructor,
                stage,
                backend,
                partial(progress.advance, task),
            )
    return files


def _makers(settings: TrainingSettings, run: Path, weights: Path) -> dict[str, str]:
    """Checksums of the networks whose maps the regressors learn from; kept in ``run``.

    Raises:
        ConfigError: the maps that lie there are of others.
    """
    makers = {name: read_card(weights, name).sha256 for name in ("segmenter", "reconstructor")}
    for folder in fold_folders(settings, run.parent).values():
        makers[folder.name] = read_card(folder / "weights", "segmenter").sha256
    stored = run / "makers.json"
    if stored.exists() and json.loads(stored.read_text(encoding="utf-8")) != makers:
        raise ConfigError(f"{run}: the segmentations there were made by other weights; delete the folder to begin anew")
    stored.write_text(json.dumps(makers, indent=2) + "\n", encoding="utf-8")
    return makers


def _out_of_fold(settings: TrainingSettings, output: Path) -> dict[int, tuple[nn.Module, ...]]:
    """Segmenters of each donor group that were trained without it, from ``OUTPUT/fold-G``; the best one first."""
    found = {}
    for group, folder in fold_folders(settings, output).items():
        networks = [load_network(folder / "weights", "segmenter")[0]]
        for file in sorted((folder / "segmenter").glob("step-*.safetensors")):
            network = McUnet(**_segmenter_arguments(settings))
            network.load_state_dict(load_file(file))
            networks.append(network)
        found[group] = tuple(networks)
    return found


def fold_folders(settings: TrainingSettings, output: Path) -> dict[int, Path]:
    """``OUTPUT/fold-G`` of each donor group that a finished segmenter was trained without."""
    folders = {group: output / f"fold-{group}" for group in range(len(settings.data.donor_groups))}
    return {group: folder for group, folder in folders.items() if (folder / "weights" / "segmenter.json").exists()}


def _segmenter_arguments(settings: TrainingSettings) -> dict[str, Any]:
    names = ("features", "depth", "stem", "dropout_rate", "dropout_kind")
    return {name: getattr(settings.segmenter, name) for name in names}


def split_material(settings: TrainingSettings, cases: Sequence[Case], split: str) -> TrainingMaterial:
    """Real and simulated scans of one split on the cube; simulated once, with a progress bar."""
    plans = planned_patients(split, settings.data)
    with progress_bar(bool(plans)) as progress:
        task = progress.add_task(f"simulated {split} patients", total=len(plans), note="")
        return prepare_material(
            by_split(cases)[split], plans, settings.data, Path(settings.data.cubes), partial(progress.advance, task)
        )


def _claim_folder(run: Path, settings: TrainingSettings, network: NetworkKind, origin: WeightCard | None) -> None:
    """Make the folder of one training and leave the settings there, and which weights it began from.

    Raises:
        ConfigError: a training with other settings or another start was begun there; its checkpoint would go on under a
            false name.
    """
    stored, started = run / SETTINGS, run / START
    begun = origin.sha256 if origin else ""
    if started.exists() and any(run.rglob(CHECKPOINT)) and started.read_text(encoding="utf-8").strip() != begun:
        raise ConfigError(f"{run}: was begun from other weights; train into another folder, or delete this one")
    if stored.exists() and any(run.rglob(CHECKPOINT)):
        changed = differing_fields(load_training_settings(str(stored)), settings, network)
        if changed:
            raise ConfigError(f"{run}: was begun with another {changed[0]}; train into another folder, or delete this one")
    make_folder(run)
    stored.write_text(to_toml(settings), encoding="utf-8")
    started.write_text(f"{begun}\n", encoding="utf-8")


def _material(settings: TrainingSettings, cases: Sequence[Case]) -> tuple[TrainingMaterial, list[Example]]:
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


def _plain_pass(model: nn.Module, images: Tensor, bf16: bool = True) -> Tensor:
    device = next(model.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16 and bf16_pays(device.type)):
        result: Tensor = model(images[None].to(device))
    return result.float().cpu()


def _describe_training(
    name: str,
    arguments: dict[str, Any],
    settings: TrainingSettings,
    cases: Sequence[Case],
    state: Progression,
    metrics: dict[str, float],
    origin: WeightCard | None = None,
) -> dict[str, Any]:
    """The weight card of a finished training, without the checksum that :func:`save_network` adds."""
    people = people_of(cases, settings.data)
    if origin is not None:
        people = {split: sorted({*people[split], *origin.people.get(split, [])}) for split in people}
    return {
        "name": name,
        "kind": name.split("-")[0],
        "arguments": arguments,
        "grid": settings.data.grid,
        "configuration": settings.name,
        "data": describe_data(cases, settings.data),
        "people": people,
        "started_from": origin.sha256 if origin else "",
        "steps": state.step,
        "best_step": state.best_step,
        "seed": settings.seed,
        "commit": source_commit(),
        "created": datetime.now(UTC).strftime("%Y-%m-%d"),
        "metrics": {name: value for name, value in metrics.items() if not math.isnan(value)},
        "version": __version__,
    }


def describe_data(cases: Sequence[Case], settings: DataSettings) -> str:
    """One sentence for the weight card: how many real scans and simulated patients, and the mix."""
    parts = []
    for split, chosen in by_split(cases).items():
        parts.append(f"{split}: {len(chosen)} real scans, {len(planned_patients(split, settings))} simulated patients")
    return f"{'; '.join(parts)}. {settings.simulated_fraction:.0%} of the training examples are simulated."


def people_of(cases: Sequence[Case], settings: DataSettings) -> dict[str, list[str]]:
    """Patients and donors of simulated patients by split."""
    person = {donor.name: donor.person for donor in all_donors()}
    people = {}
    for split, chosen in by_split(cases).items():
        donors = {person[name] for plan in planned_patients(split, settings) for name in plan.donors}
        people[split] = sorted({case.patient for case in chosen} | donors)
    return people


def source_commit() -> str:
    """Commit of the source tree that trains, or ``unknown`` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
