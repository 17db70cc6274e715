"""Every kind of mask can be made of any scan, and is reproducible."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from veridice.metrics.overlap import dice
from veridice.training.mask_errors import KINDS, Material, draw_kinds, make_mask

EDGE = 40


@pytest.fixture(scope="module")
def material() -> Material:
    rng = np.random.default_rng(0)
    place = np.stack(np.meshgrid(*[np.linspace(-1, 1, EDGE)] * 3, indexing="ij"))
    brain = (place**2).sum(axis=0) < 0.7
    truth = np.zeros(brain.shape, bool)
    for corner in ((12, 14, 15), (22, 20, 24), (18, 28, 17)):
        truth[tuple(slice(c, c + 4) for c in corner)] = True
    flair = np.where(brain, 0.4 + 0.05 * rng.standard_normal(brain.shape), 0) + 0.4 * ndimage.gaussian_filter(truth * 1.0, 0.5)
    probability = ndimage.gaussian_filter(np.roll(truth, 1, axis=0) * 1.0, 0.7)
    passes = np.stack([probability + 0.1 * rng.standard_normal(brain.shape) >= 0.5 for _ in range(4)])
    other_patient = np.roll(truth, 9, axis=1)
    return Material(
        flair, np.where(brain, 0.6, 0.0), brain, truth, probability, passes, (np.roll(probability, 1, 2),), other_patient
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_can_be_made_again(kind: str, material: Material) -> None:
    for seed in range(3):
        first, again = (make_mask(kind, material, np.random.default_rng(seed)) for _ in range(2))
        assert first.dtype == bool and first.shape == material.truth.shape
        np.testing.assert_array_equal(first, again)


def test_kinds_are_of_every_quality(material: Material) -> None:
    rng = np.random.default_rng(1)
    found = {kind: [dice(make_mask(kind, material, rng), material.truth).dice for _ in range(10)] for kind in KINDS}
    assert np.mean(found["second rater"]) > 0.6
    assert max(found["threshold"]) > 0.6 and max(found["mixture"]) > 0.6
    assert np.mean(found["stranger"]) < 0.2 and found["empty"] == [0.0] * 10
    each = np.concatenate(list(found.values()))
    assert np.histogram(each, bins=5, range=(0, 1))[0].min() > 3


def test_a_scan_without_lesions(material: Material) -> None:
    nothing = np.zeros_like(material.truth)
    bare = Material(material.flair, nothing * 0.0, material.brain, nothing, nothing * 0.0, np.stack([nothing]), (), nothing)
    for kind in KINDS:
        assert make_mask(kind, bare, np.random.default_rng(0)).shape == nothing.shape


def test_kinds_differ_while_there_are_any() -> None:
    rng = np.random.default_rng(0)
    assert len(set(draw_kinds(len(KINDS), rng))) == len(KINDS)
    assert len(draw_kinds(40, rng)) == 40
