"""What each task learns from, and that a network which learns it gets better."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from heads_of_tests import balls_bank, boxes_head

from veridice.imaging.tissue import Tissue
from veridice.metrics.overlap import expected_dice
from veridice.networks.mc_unet import McUnet
from veridice.training.cubes import FLAIR, LESION
from veridice.training.endless_examples import BYTES, DrawnScan, Sources, draw_scan
from veridice.training.endless_tasks import (
    HOLE,
    MASK,
    PROBABILITY,
    TISSUE,
    TISSUE_STEP,
    AnatomyTask,
    CriticTask,
    ReconstructorTask,
    SegmenterTask,
    Task,
    drawn_mask,
)
from veridice.training.settings import (
    DataSettings,
    EndlessSettings,
    ReconstructorSettings,
    SegmenterSettings,
    TrainingSettings,
)

CPU = torch.device("cpu")
GRID = 32
SETTINGS = TrainingSettings(
    name="tiny",
    data=DataSettings(grid=GRID, soft_labels=True, t1_absent=0.0),
    segmenter=SegmenterSettings(features=4, depth=3, stem=2, crop=16),
    reconstructor=ReconstructorSettings(features=4, depth=3, stem=2, residual=True, crop=16),
    endless=EndlessSettings(blind_fraction=0.0),
)
TASKS: dict[str, Callable[[], Task]] = {
    "segmenter": lambda: SegmenterTask(SETTINGS),
    "critic": lambda: CriticTask(SETTINGS, None),
    "anatomy": lambda: AnatomyTask(SETTINGS),
    "reconstructor": lambda: ReconstructorTask(SETTINGS),
}


def scan(number: int) -> DrawnScan:
    return draw_scan(number, Sources([boxes_head()], balls_bank()), SETTINGS, CPU)


@pytest.mark.parametrize("name", TASKS)
def test_a_network_gets_better_at_it(name: str) -> None:
    torch.manual_seed(0)
    task = TASKS[name]()
    network = task.build()
    assert type(network)(**task.architecture).state_dict().keys() == network.state_dict().keys()
    batch = torch.stack([task.example(scan(number), np.random.default_rng(number)) for number in (1, 2)]).float() / BYTES
    optimiser = torch.optim.Adam(network.parameters(), lr=5e-3)
    losses = []
    for step in range(25):
        loss = task.loss(network, batch, torch.Generator().manual_seed(step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert np.mean(losses[-5:]) < 0.9 * losses[0]
    network.eval()
    with torch.inference_mode():
        assert np.isfinite(task.judge(network, batch[0]))


def test_the_critic_is_shown_masks_of_all_kinds_and_our_probability() -> None:
    task = CriticTask(SETTINGS, McUnet(**SETTINGS.segmenter.arguments).eval())
    qualities = []
    drawn = next(known for known in map(scan, range(20)) if (known.cube[LESION] >= 0.5).sum() > 60)
    for seed in range(12):
        example = task.example(drawn, np.random.default_rng(seed)).float() / BYTES
        assert set(example[MASK].unique().tolist()) <= {0.0, 1.0}
        assert example[PROBABILITY].max() > 0
        truth = example[LESION] >= 0.5
        qualities.append(float(2 * (truth & (example[MASK] > 0)).sum() / (truth.sum() + example[MASK].sum())))
    assert min(qualities) < 0.6 and max(qualities) > 0.8


def test_masks_of_a_scan_without_lesions_or_brain() -> None:
    empty = DrawnScan(torch.zeros(4, GRID, GRID, GRID), None)
    flair = empty.cube[FLAIR].numpy() + 0.2
    for seed in range(6):
        mask = drawn_mask(empty, flair, np.zeros_like(flair), np.random.default_rng(seed))
        assert mask.shape == flair.shape and mask.dtype == bool


def test_expected_dice_by_hand() -> None:
    mask, probability = torch.tensor([1.0, 1.0, 0.0]), torch.tensor([1.0, 0.5, 0.5])
    assert expected_dice(mask, probability) == pytest.approx(2 * 1.5 / 4)
    assert expected_dice(torch.zeros(3), torch.zeros(3)) == 1.0


def test_tissues_come_back_as_they_were_stored() -> None:
    drawn = scan(1)
    assert drawn.tissue is not None
    example = AnatomyTask(SETTINGS).example(drawn, np.random.default_rng(0))
    assert torch.equal(example[TISSUE] // TISSUE_STEP, drawn.tissue[0])
    assert int(example[TISSUE].max()) <= BYTES and len(Tissue) * TISSUE_STEP <= BYTES


def test_holes_keep_away_from_lesions_so_that_the_truth_is_known() -> None:
    task, found = ReconstructorTask(SETTINGS), 0
    for number in range(6):
        example = task.example(scan(number), np.random.default_rng(number)).float() / BYTES
        hole = example[HOLE] >= 0.5
        found += int(hole.sum())
        assert not (hole & (example[LESION] >= 0.5)).any()
        assert (example[FLAIR][hole] > 0.09).all()
    assert found > 100
