"""The critic's examples and its measure, on a tiny scan whose truth is known."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from veridice.networks.mc_unet import McUnet
from veridice.training.critic import CUBE, CriticExamples, critic_metrics
from veridice.training.endless_tasks import MASK, CriticTask
from veridice.training.settings import TrainingSettings

EDGE = 16


def scan() -> dict[str, Tensor]:
    """A scan with one bright lesion."""
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.uniform(0.3, 0.5, (2, EDGE, EDGE, EDGE)).astype(np.float32))
    target = torch.zeros(1, EDGE, EDGE, EDGE)
    target[:, 5:9, 5:10, 6:9] = 1
    images[:1] += 0.4 * target
    return {"images": images, "target": target, "ignored": torch.zeros(1, EDGE, EDGE, EDGE)}


def task() -> CriticTask:
    torch.manual_seed(0)
    settings = TrainingSettings(name="tiny")
    return CriticTask(settings, McUnet(features=2, depth=3).eval())


def test_an_example_is_the_scan_and_a_mask_that_stays_the_same() -> None:
    examples = CriticExamples([scan()] * 5, task(), seed=3)
    assert len(examples) == 5
    drawn = [examples[number][CUBE] for number in range(5)]
    for cube in drawn:
        assert cube.shape == (6, EDGE, EDGE, EDGE)
        assert torch.equal(cube[:2], scan()["images"]) and torch.equal(cube[2:3], scan()["target"])
        assert set(cube[MASK].unique().tolist()) <= {0.0, 1.0}
    assert all(torch.equal(examples[number][CUBE], drawn[number]) for number in range(5))
    assert len({tuple(cube[MASK].flatten().tolist()) for cube in drawn}) > 1


class Knows(nn.Module):
    """Says what it was told, whatever it sees."""

    def __init__(self, probability: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.logit(probability.clamp(1e-4, 1 - 1e-4)))

    def forward(self, seen: Tensor) -> Tensor:
        return self.logits.expand(len(seen), *self.logits.shape)


def test_a_critic_that_knows_the_truth_has_no_error() -> None:
    checks = [scan()] * 4
    knowing = critic_metrics(Knows(scan()["target"]), task(), checks)
    ignorant = critic_metrics(Knows(torch.full((1, EDGE, EDGE, EDGE), 0.02)), task(), checks)
    assert knowing["error"] < 0.03 < ignorant["error"]
