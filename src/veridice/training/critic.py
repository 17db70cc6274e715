"""The critic learnt from stored scans, as the other networks are; :mod:`.endless_run` teaches it on patients without end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from veridice.case import Case
from veridice.training.cubes import Example
from veridice.training.endless_examples import DrawnScan
from veridice.training.endless_tasks import CriticTask
from veridice.training.examples import ExampleStream
from veridice.training.loop import Goal, Progression, evaluate, train_network
from veridice.training.settings import TrainingSettings
from veridice.training.unets import train_material

CUBE = "cube"
"""Name of the channels in an example: images, target, ignored, mask, probability."""


class CriticExamples(Dataset[Example]):
    """Examples of a stream, each with a mask of any quality and the probability of a segmenter (6, x, y, z).

    Args:
        examples: in order; example ``i`` gets the same mask whenever it is asked for.
        task: that draws masks.
        seed: of the masks.
    """

    def __init__(self, examples: Sequence[Example] | ExampleStream, task: CriticTask, seed: int) -> None:
        self.examples, self.task, self.seed = examples, task, seed

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> Example:
        example = self.examples[index]
        scan = torch.cat([example["images"], example["target"], example["ignored"]])
        drawn = self.task.extend(DrawnScan(scan, None), np.random.default_rng([self.seed, index, 12]))
        return {CUBE: torch.cat([scan, drawn])}


def fit_critic(
    network: nn.Module, segmenter: nn.Module, settings: TrainingSettings, cases: Sequence[Case], run: Path
) -> tuple[Progression, dict[str, float]]:
    """Train the critic in place, with the settings of the segmenter; returns where it stands, and its metrics.

    Args:
        network: trained.
        segmenter: whose probability it is shown.
        settings: of the training.
        cases: of the manifest.
        run: folder of the training.
    """
    stage, task = settings.segmenter, CriticTask(settings, segmenter)
    material, checks = train_material(settings, cases)
    stream = ExampleStream(material, settings.data, stage.crop, settings.seed, stage.examples)
    examples = CriticExamples(stream, task, settings.seed)

    def loss(model: nn.Module, batch: Example, generator: torch.Generator) -> Tensor:
        return task.loss(model, batch[CUBE], generator)

    validate = partial(critic_metrics, task=task, checks=checks)
    state = train_network(network, examples, loss, validate, Goal("error", False), stage, run, settings.seed)
    return state, evaluate(network, validate)


def critic_metrics(model: nn.Module, task: CriticTask, checks: Sequence[Example]) -> dict[str, float]:
    """Mean absolute difference of the Dice that the critic expects and the true one, of one mask of each scan."""
    drawn = CriticExamples(checks, task, seed=0)
    return {"error": float(np.mean([task.judge(model, drawn[index][CUBE]) for index in range(len(drawn))]))}
