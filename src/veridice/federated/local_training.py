"""What a site does in a round: learn from its own scans, from the common weights on. No Flower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from veridice.case import Case
from veridice.federated.common_networks import arrays_of, build_network, take
from veridice.federated.federation import WEIGHTS, Agreement
from veridice.federated.updates import Arrays
from veridice.inference.weights import load_network
from veridice.io.weight_cards import read_card
from veridice.training.critic import critic_metrics, fit_critic
from veridice.training.endless_tasks import CriticTask
from veridice.training.examples import validation_examples
from veridice.training.loop import BEST, CHECKPOINT, evaluate
from veridice.training.provenance import by_split
from veridice.training.regressors import fit_regressor, quality_checks, quality_files, regressor_metrics
from veridice.training.settings import TrainingSettings, for_round
from veridice.training.unets import (
    fit_reconstructor,
    fit_segmenter,
    reconstructor_metrics,
    segmenter_metrics,
    split_material,
)

SEEDS_APART = 1_000
LAST_RATE = 0.05
"""Of the learning rate, in the last round; it falls along half a cosine, and within each round along a cycle of its own."""


@dataclass(frozen=True)
class LocalRound:
    """What came out of a round at one site.

    Args:
        arrays: changed weights, float32, by name.
        examples: scans that were learnt from; how much the site counts.
    """

    arrays: dict[str, np.ndarray[Any, Any]]
    examples: int


def train_round(
    agreement: Agreement,
    settings: TrainingSettings,
    cases: Sequence[Case],
    name: str,
    number: int,
    arrays: Arrays,
    output: Path,
) -> LocalRound:
    """Learn for one round from the common weights on.

    A round that was interrupted goes on where it was, from what lies in its folder. Instance normalisation keeps no statistics
    of the data, so nothing of a site's scans but the weights themselves is averaged.

    Args:
        agreement: steps, rounds, FedProx.
        settings: of the training.
        cases: the site's own; those of the training split are learnt from.
        name: which network.
        number: of the round, from 1.
        arrays: the common weights.
        output: the site's folder.
    """
    network = build_network(name, settings)
    take(network, arrays)
    if agreement.proximal:
        pull_back(network, agreement.proximal)
    stage = "segmenter" if name == "critic" else name.split("-")[0]
    rate = getattr(settings, stage).learning_rate * rate_of_round(number, agreement.rounds)
    local = for_round(settings, stage, agreement.steps, rate, settings.seed + SEEDS_APART * number)
    run = output / name / f"round-{number:04d}"
    if name == "segmenter":
        fit_segmenter(network, local, cases, run)
    elif name == "critic":
        fit_critic(network, _common(output, "segmenter"), local, cases, run)
    elif name == "reconstructor":
        fit_reconstructor(network, local, cases, run)
    else:
        fit_regressor(network, _pair(name), _segmented(settings, cases, output), local, run)
    for file in (CHECKPOINT, BEST):
        (run / file).unlink(missing_ok=True)
    return LocalRound(arrays_of(network), len(by_split(cases)["train"]))


def score(settings: TrainingSettings, cases: Sequence[Case], name: str, arrays: Arrays, output: Path) -> dict[str, float]:
    """How good common weights are on the site's own validation people, who are never learnt from: metrics of a training of this
    network."""
    network = build_network(name, settings)
    take(network, arrays)
    if name.startswith("regressor"):
        checks = quality_checks(_pair(name), _segmented(settings, cases, output))
        return evaluate(network, partial(regressor_metrics, checks=checks))
    scans = validation_examples(split_material(settings, cases, "validation"))
    if name == "critic":
        task = CriticTask(settings, _common(output, "segmenter"))
        return evaluate(network, partial(critic_metrics, task=task, checks=scans))
    if name == "reconstructor":
        return evaluate(network, partial(reconstructor_metrics, checks=scans, stage=settings.reconstructor))
    return evaluate(network, partial(segmenter_metrics, checks=scans))


def _pair(name: str) -> str:
    """What a regression network sees."""
    return name.removeprefix("regressor-")


def _common(output: Path, name: str) -> nn.Module:
    """Final common weights that the site keeps."""
    return load_network(output / WEIGHTS, name)[0]


def _segmented(settings: TrainingSettings, cases: Sequence[Case], output: Path) -> dict[str, list[Path]]:
    """The site's scans segmented by the common segmenter, for the regression networks."""
    makers = "-".join(read_card(output / WEIGHTS, name).sha256[:8] for name in ("segmenter", "reconstructor"))
    return quality_files(settings, cases, output / f"segmented-{makers}", output / WEIGHTS)


def rate_of_round(number: int, rounds: int) -> float:
    """Share of the learning rate in a round, from 1 down to :data:`LAST_RATE` in the last one."""
    done = (number - 1) / max(rounds - 1, 1)
    return LAST_RATE + (1 - LAST_RATE) * 0.5 * (1 + cos(pi * done))


def pull_back(network: nn.Module, strength: float) -> None:
    """Add FedProx's term, ``strength / 2`` times the squared distance from the weights as they are now, to whatever loss the
    network is trained with (Li et al. 2018, arXiv:1812.06127): its gradient comes on top of the loss's."""
    for parameter in network.parameters():
        anchor = parameter.detach().clone()
        parameter.register_hook(
            lambda gradient, weights=parameter, anchor=anchor: (
                gradient + strength * (weights.detach() - anchor.to(gradient.device))
            )
        )
