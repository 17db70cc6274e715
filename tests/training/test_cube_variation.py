"""Real scans, varied on the device: what must stay and what must change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from veridice.training.cube_variation import planted, varied_scan
from veridice.training.cubes import FLAIR, IGNORED, LESION
from veridice.training.settings import DataSettings

EDGE = 40


def scan(place: int, bright: float = 0.8) -> torch.Tensor:
    """White matter of 0.5 in a ball, one lesion, and a corner that nobody judged."""
    away = torch.stack(torch.meshgrid(*[torch.arange(EDGE) - EDGE / 2 + 0.5] * 3, indexing="ij")).square().sum(0).sqrt()
    cube = torch.zeros(4, EDGE, EDGE, EDGE)
    cube[:LESION] = 0.5 * (away < 17)
    box = (slice(place, place + 5), slice(18, 23), slice(18, 23))
    cube[(LESION, *box)] = 1.0
    cube[(FLAIR, *box)] = bright
    cube[IGNORED, 30:, 30:, 30:] = 1.0
    return cube


@pytest.mark.parametrize("seed", range(12))
def test_a_varied_scan_is_still_a_labelled_scan(seed: int) -> None:
    settings = DataSettings(turned_fraction=0.7, t1_absent=0.5)
    first, again = (varied_scan(scan(10), scan(22), settings, np.random.default_rng(seed)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == (4, EDGE, EDGE, EDGE) and torch.isfinite(first).all()
    assert first.min() >= 0 and first.max() <= 1
    assert set(first[IGNORED].unique().tolist()) <= {0.0, 1.0}
    assert first[FLAIR].std() > 0.05
    inside = first[LESION] > 0.9
    if inside.sum() > 20:
        brain = (first[LESION] == 0) & (first[FLAIR] > 0.15)
        assert first[FLAIR][inside].median() > first[FLAIR][brain].median()


def test_planted_lesions_keep_how_bright_they_are_beside_white_matter() -> None:
    dark = scan(8)
    dark[:LESION] *= 0.5
    for seed in range(8):
        made = planted(dark, scan(24), np.random.default_rng(seed))
        added = (made[LESION] > 0.9) & (dark[LESION] == 0)
        if added.any():
            core = made[FLAIR][added]
            assert float(core.max()) == pytest.approx(0.5 * 0.8, abs=0.03)
            return
    raise AssertionError("nothing was planted")


def test_nothing_is_planted_outside_white_matter_or_without_lesions() -> None:
    empty = scan(10)
    empty[LESION] = 0
    assert torch.equal(planted(scan(10), empty, np.random.default_rng(0)), scan(10))
    outside = scan(1)
    made = planted(scan(18), outside, np.random.default_rng(1))
    air = scan(18)[FLAIR] == 0
    assert not (made[LESION][air] > 0).any()
