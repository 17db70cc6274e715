"""The brain on the cube, from a network on a coarser one."""

from __future__ import annotations

import numpy as np
import pytest

from veridice.inference import brain
from veridice.inference.brain import brain_mask, brain_probability, is_whole_head
from veridice.inference.passes import Backend
from veridice.networks.mc_unet import McUnet

FP32 = Backend("cpu", "fp32", 1)


def ball(edge: int, radius: float, middle: float = 0.0) -> np.ndarray:
    place = np.stack(np.meshgrid(*[(np.arange(edge) + 0.5) / edge * 2 - 1] * 3, indexing="ij"))
    return np.sqrt(((place - middle) ** 2).sum(axis=0)) < radius


def test_the_coarse_answer_lies_where_the_image_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a network that returns what it sees, a ball stays where it is."""
    monkeypatch.setattr(brain, "deterministic_pass", lambda _network, images, _backend: images[0])
    image = ball(64, 0.6, 0.1).astype(np.float32)
    for grid in (16, 32, 64):
        found = brain_probability(np.stack([image, image * 0]), McUnet(features=2, depth=3), grid, FP32) >= 0.5
        assert 2 * (found & (image > 0)).sum() / (found.sum() + image.sum()) > 0.93
        places = [np.argwhere(mask).mean(axis=0) for mask in (found, image > 0)]
        np.testing.assert_allclose(*places, atol=0.1)


def test_the_brain_is_one_part_without_holes() -> None:
    share = ball(40, 0.6).astype(np.float32)
    share[20, 20, 20] = 0
    share[:3, :3, :3] = 1
    np.testing.assert_array_equal(brain_mask(share), ball(40, 0.6))
    assert not brain_mask(np.zeros((8, 8, 8), np.float32)).any()


def test_a_head_is_more_than_a_brain() -> None:
    inside, head = ball(40, 0.6), ball(40, 0.9)
    assert is_whole_head(head * 0.5, inside)
    assert not is_whole_head(inside * 0.5, inside)
    assert not is_whole_head(np.zeros((8, 8, 8)), np.zeros((8, 8, 8), bool))
