"""How each of the three networks is trained: which examples, which loss, how it is validated, what is kept."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from veridice._version import __version__
from veridice.case import Case
from veridice.config import DataSettings, TrainingSettings, to_toml
from veridice.losses import SegmentationLoss, SsimLoss, ssim_map
from veridice.networks.mc_unet import McUnet
from veridice.networks.reconstruction_unet import ReconstructionUnet
from veridice.networks.weights import WeightCard, save_network
from veridice.overlap import dice
from veridice.training import Goal, Progression, train_network
from veridice.training_data import Example, ExampleStream, TrainingMaterial, prepare_material, validation_examples


def by_split(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """Cases of the training and of the validation split."""
    return {split: [case for case in cases if case.split == split] for split in ("train", "validation")}


def train_segmenter(settings: TrainingSettings, cases: Sequence[Case], run: Path) -> WeightCard:
    """Train the Monte Carlo U-net (Dice loss, paper Eq. 1) and leave weights and card in ``run``."""
    stage = settings.segmenter
    arguments = {
        "features": stage.features,
        "depth": stage.depth,
        "dropout_rate": stage.dropout_rate,
        "dropout_kind": stage.dropout_kind,
    }
    material, checks = _material(settings, cases, run)
    torch.manual_seed(settings.seed)
    network = McUnet(**arguments)
    criterion = SegmentationLoss(stage.cross_entropy)

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

    stream = ExampleStream(material, settings.data, stage.crop, settings.seed, stage.steps * stage.batch_size)
    keep_at = tuple(int(part * stage.steps) for part in stage.keep_at)
    state = train_network(network, stream, loss, validate, Goal("dice", True), stage, run, settings.seed, keep_at)
    return _export(run, "segmenter", "segmenter", network, arguments, settings, cases, state, {"dice": state.best})


def train_reconstructor(settings: TrainingSettings, cases: Sequence[Case], run: Path) -> WeightCard:
    """Train the reconstruction U-net (SSIM loss, paper Eq. 5-8) to fill the *true* mask; leave weights in ``run``."""
    stage = settings.reconstructor
    arguments = {"features": stage.features, "depth": stage.depth}
    material, checks = _material(settings, cases, run)
    torch.manual_seed(settings.seed)
    network = ReconstructionUnet(**arguments)
    criterion = SsimLoss(stage.ssim_form, stage.ssim_window)

    def loss(model: nn.Module, batch: Example, _generator: torch.Generator) -> Tensor:
        flair = batch["images"][:, :1]
        value: Tensor = criterion(model(flair * (1 - batch["lesion"])), flair)
        return value

    def validate(model: nn.Module) -> dict[str, float]:
        scores = []
        for example in checks:
            flair = example["images"][None, :1]
            rebuilt = _plain_pass(model, flair[0] * (1 - example["lesion"]))
            scores.append(float(ssim_map(rebuilt.float(), flair, stage.ssim_form, stage.ssim_window).mean()))
        return {"ssim": float(np.mean(scores))}

    stream = ExampleStream(material, settings.data, stage.crop, settings.seed + 1, stage.steps * stage.batch_size)
    state = train_network(network, stream, loss, validate, Goal("ssim", True), stage, run, settings.seed)
    return _export(run, "reconstructor", "reconstructor", network, arguments, settings, cases, state, {"ssim": state.best})


def _material(settings: TrainingSettings, cases: Sequence[Case], run: Path) -> tuple[TrainingMaterial, list[Example]]:
    run.mkdir(parents=True, exist_ok=True)
    (run / "settings.toml").write_text(to_toml(settings), encoding="utf-8")
    split = by_split(cases)
    checks = validation_examples(prepare_material(split["validation"], settings.data), settings.data, settings.seed)
    return prepare_material(split["train"], settings.data), checks


def _plain_pass(model: nn.Module, images: Tensor) -> Tensor:
    device = next(model.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda" or torch.cpu._is_avx512_bf16_supported()):
        result: Tensor = model(images[None].to(device))
    return result.float().cpu()


def _export(
    run: Path,
    name: str,
    kind: str,
    network: nn.Module,
    arguments: dict[str, Any],
    settings: TrainingSettings,
    cases: Sequence[Case],
    state: Progression,
    metrics: dict[str, float | None],
) -> WeightCard:
    return save_network(
        run / "weights",
        network,
        {
            "name": name,
            "kind": kind,
            "arguments": arguments,
            "grid": settings.data.grid,
            "configuration": settings.name,
            "data": describe_data(cases, settings.data),
            "people": {split: sorted({case.patient for case in chosen}) for split, chosen in by_split(cases).items()},
            "steps": state.step,
            "best_step": state.best_step,
            "seed": settings.seed,
            "commit": source_commit(),
            "created": datetime.now(UTC).strftime("%Y-%m-%d"),
            "metrics": metrics,
            "version": __version__,
        },
    )


def describe_data(cases: Sequence[Case], settings: DataSettings) -> str:
    """One sentence for the weight card: how many real scans, label maps and lesion donors, and the mix."""
    parts = []
    for split, chosen in by_split(cases).items():
        counts = {kind: sum(case.kind == kind for case in chosen) for kind in ("real", "labels", "lesions")}
        parts.append(f"{split}: {counts['real']} real scans, {counts['labels']} label maps, {counts['lesions']} lesion donors")
    return (
        f"{'; '.join(parts)}. {settings.simulated_fraction:.0%} of the examples are painted from label maps (simulated), "
        f"{settings.inserted_fraction:.0%} of all carry another person's lesions."
    )


def source_commit() -> str:
    """Commit of the source tree that trains, or ``unknown`` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
