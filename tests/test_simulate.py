"""Painted scans: what stands in a voxel follows from its tissue, and everything from the generator handed in."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veridice.simulate import draw_contrasts, insert_lesions, paint_scan, texture

SHAPE = (13, 16, 11)


def anatomy(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Soft tissue shares that add up to 1 inside a box, and a soft lesion."""
    rng = np.random.default_rng(seed)
    tissues = rng.random((3, *SHAPE)).astype(np.float32)
    tissues /= tissues.sum(axis=0)
    tissues[:, :2] = 0
    lesion = np.zeros(SHAPE, np.float32)
    lesion[5:8, 6:9, 4:6] = rng.random((3, 3, 2))
    return tissues, lesion


@given(st.tuples(*[st.integers(2, 20)] * 3), st.sampled_from([2.0, 3.5, 6.0]), st.integers(0, 99))
@settings(deadline=None)
def test_texture_without_strength_is_one_everywhere(shape: tuple[int, int, int], smoothness: float, seed: int) -> None:
    flat = texture(shape, np.random.default_rng(seed), smoothness, 0.0)
    assert flat.shape == shape
    np.testing.assert_array_equal(flat, 1.0)


def test_texture_varies_around_one_in_proportion_to_its_strength() -> None:
    weak, strong = (
        np.stack([texture((24, 24, 24), np.random.default_rng(seed), 2.0, strength) for seed in range(4)])
        for strength in (0.05, 0.15)
    )
    assert weak.mean() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(strong - 1, 3 * (weak - 1), atol=1e-5)
    assert 0 < weak.std() <= 0.05 * 1.05


def test_a_smoother_texture_changes_less_from_voxel_to_voxel() -> None:
    rough, smooth = (texture((24, 24, 24), np.random.default_rng(0), smoothness, 0.1) for smoothness in (2.0, 8.0))
    steps = [np.abs(np.diff(field, axis=0)).mean() / field.std() for field in (rough, smooth)]
    assert steps[1] < 0.5 * steps[0]


def test_everything_follows_from_the_generator_handed_in() -> None:
    tissues, lesion = anatomy()
    painted = []
    for noise in (1, 2):
        np.random.seed(noise)
        random.seed(noise)
        painted.append(np.stack(paint_scan(tissues, lesion, np.random.default_rng(7))))
    np.testing.assert_array_equal(painted[0], painted[1])
    other = np.stack(paint_scan(tissues, lesion, np.random.default_rng(8)))
    assert not np.array_equal(painted[0], other)


def test_background_is_zero_and_inputs_are_left_alone() -> None:
    tissues, lesion = anatomy()
    before = tissues.copy(), lesion.copy()
    for image in paint_scan(tissues, lesion, np.random.default_rng(0)):
        assert image.shape == SHAPE
        assert np.isfinite(image).all()
        assert image[:2].max() == image[:2].min() == 0
    np.testing.assert_array_equal(tissues, before[0])
    np.testing.assert_array_equal(lesion, before[1])


@pytest.mark.parametrize("tissue", [0, 1, 2])
def test_a_pure_tissue_has_its_mean_and_a_pure_lesion_replaces_it(tissue: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without texture a painted voxel is the contrast's number, or a mixture of two by the lesion's share."""
    contrasts = draw_contrasts(np.random.default_rng(3))
    monkeypatch.setattr("veridice.simulate.draw_contrasts", lambda _: contrasts)
    monkeypatch.setattr("veridice.simulate.texture", lambda shape, *_args, **_options: np.ones(shape))
    tissues, lesion = np.zeros((3, 2, 2, 2)), np.zeros((2, 2, 2))
    tissues[tissue] = 1
    lesion[1], lesion[0, 1] = 1.0, 0.25
    for image, contrast in zip(paint_scan(tissues, lesion, np.random.default_rng(0)), contrasts, strict=True):
        healthy = (contrast.csf, contrast.grey, contrast.white)[tissue]
        np.testing.assert_allclose(image[0, 0], healthy)
        np.testing.assert_allclose(image[1], contrast.lesion)
        np.testing.assert_allclose(image[0, 1], 0.75 * healthy + 0.25 * contrast.lesion)


@given(st.integers(0, 999))
@settings(deadline=None)
def test_what_is_inserted_is_a_share_of_the_donor(seed: int) -> None:
    rng = np.random.default_rng(seed)
    flair, t1 = rng.uniform(0.2, 0.6, (2, *SHAPE))
    _, donor = anatomy(seed)
    white = rng.random(SHAPE) < 0.7
    before = flair.copy(), t1.copy(), donor.copy(), white.copy()
    changed, darker, added = insert_lesions(flair, t1, donor, white, np.random.default_rng(seed))
    assert 0 <= added.min() <= added.max() <= 1
    assert (added <= donor + 1e-6).all()
    for now, was in ((changed, flair), (darker, t1)):
        np.testing.assert_array_equal(now[added == 0], was[added == 0])
    assert (darker <= t1 + 1e-6).all()
    assert (darker >= 0.65 * t1 - 1e-6).all()
    for now, was in zip((flair, t1, donor, white), before, strict=True):
        np.testing.assert_array_equal(now, was)


def test_where_there_is_no_white_matter_nothing_is_inserted() -> None:
    flair = np.full(SHAPE, 0.4)
    changed, t1, added = insert_lesions(flair, flair, anatomy()[1], np.zeros(SHAPE, dtype=bool), np.random.default_rng(0))
    assert added.max() == 0
    np.testing.assert_array_equal(changed, flair)
    np.testing.assert_array_equal(t1, flair)
