"""Masks of every quality: each kind reaches about the Dice that was wanted, in the scan's own voxels."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from veridice.metrics.overlap import dice
from veridice.training.graded_masks import BEST, GRADED, WORST, NativeMaterial, draw_graded, graded_mask

SPACING = (1.0, 1.0, 3.0)


def material() -> NativeMaterial:
    rng = np.random.default_rng(0)
    shape = (64, 64, 24)
    places = np.stack(np.meshgrid(*[np.arange(n, dtype=float) for n in shape], indexing="ij"), axis=-1)
    middle = np.array(shape) / 2
    brain = np.linalg.norm((places - middle) * SPACING, axis=-1) < 30
    truth = np.zeros(shape, bool)
    for centre in rng.uniform(-18, 18, (14, 3)):
        truth |= np.linalg.norm((places - middle) * SPACING - centre, axis=-1) < rng.uniform(2, 5)
    truth &= brain
    flair = 1.0 * brain + 0.8 * ndimage.gaussian_filter(truth.astype(float), 0.5) + 0.05 * rng.standard_normal(shape)
    flair[28:36, 28:36, 8:16] *= 0.2  # fluid in the middle
    for x, y, z in rng.integers((14, 14, 4), (50, 50, 20), (40, 3)):
        flair[x : x + 3, y : y + 3, z : z + 2] += 0.6 * brain[x : x + 3, y : y + 3, z : z + 2]
    probability = ndimage.gaussian_filter(np.roll(truth, 1, 0).astype(np.float32), 1.0)
    return NativeMaterial(truth, flair.astype(np.float32), brain, probability, SPACING)


MATERIAL = material()
COARSE = {"lesions left out", "only large", "rims", "false bright", "second expert"}
"""Kinds that leave or take whole lesions, or that cannot be as poor as is wanted: the nearest that they have will do."""


@pytest.mark.parametrize("kind", GRADED)
def test_every_kind_reaches_about_the_wanted_dice(kind: str) -> None:
    found = []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        mask = graded_mask(kind, MATERIAL, rng)
        assert mask.shape == MATERIAL.truth.shape and mask.dtype == bool
        assert np.array_equal(mask, graded_mask(kind, MATERIAL, np.random.default_rng(seed)))
        found.append(dice(mask, MATERIAL.truth).dice)
    assert len(set(found)) > 1
    if kind not in COARSE:
        assert min(found) > WORST - 0.1 and max(found) < BEST + 0.03
        assert np.ptp(found) > 0.2


@pytest.mark.parametrize("kind", GRADED)
def test_no_error_is_the_truth(kind: str) -> None:
    grade = GRADED[kind][0](MATERIAL, np.random.default_rng(0))
    # Where borders are measured between voxels, those on the border itself may go either way.
    assert dice(grade(0.0), MATERIAL.truth).dice > 0.97
    assert dice(grade(1.0), MATERIAL.truth).dice < (0.98 if kind in COARSE else 0.9)


def test_false_places_lie_in_the_brain() -> None:
    for kind in ("rims", "false bright"):
        mask = graded_mask(kind, MATERIAL, np.random.default_rng(1))
        assert not (mask & ~MATERIAL.truth & ~MATERIAL.brain).any()


def test_kinds_are_drawn_without_repetition_while_there_are_any() -> None:
    drawn = draw_graded(len(GRADED), np.random.default_rng(0))
    assert sorted(drawn) == sorted(GRADED)
    assert len(draw_graded(30, np.random.default_rng(0))) == 30


@pytest.mark.parametrize("seed", range(4))
def test_a_structure_of_one_piece_is_never_left_out(seed: int) -> None:
    """An expert draws its border elsewhere; only of scattered things some are missed."""
    place = np.stack(np.meshgrid(*[np.arange(30)] * 3, indexing="ij"))
    ball = ((place - 15) ** 2).sum(axis=0) < 50
    material = NativeMaterial(
        ball, ball.astype(np.float32), np.ones_like(ball), ball.astype(np.float32), (1, 1, 1), scattered=False
    )
    assert dice(graded_mask("second expert", material, np.random.default_rng(seed)), ball).dice > 0.25
    drawn = set(draw_graded(50, np.random.default_rng(seed), scattered=False))
    assert drawn and not drawn & {"lesions left out", "only large", "cores", "rims", "false bright"}
