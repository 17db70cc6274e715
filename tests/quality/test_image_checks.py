"""Doubts about the images, told where they can be."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from veridice.imaging.volume import Geometry
from veridice.quality.image_checks import image_doubts, image_warnings, looks_swapped
from veridice.types import Voxels


def brain(contrast: float) -> Voxels:
    """A ball whose middle is brighter than its rim by ``contrast``."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 32)] * 3, indexing="ij"))
    radius = np.sqrt((grid**2).sum(axis=0))
    noise = np.random.default_rng(0).normal(0, 0.02, radius.shape)
    image = np.where(radius < 0.9, 0.5 + contrast * (0.9 - radius) + noise, 0.0)
    return ndimage.gaussian_filter(image, 0.5).astype(np.float32)


FLAIR, T1 = brain(-0.1), brain(0.4)
BRAIN = FLAIR > 0.2
HEAD = Geometry((32, 32, 32), np.diag([5.0, 5.0, 5.0, 1.0]))
THIN, THICK = Geometry((32, 32, 32), np.eye(4)), Geometry((32, 32, 32), np.diag([1.0, 1.0, 6.0, 1.0]))


def test_swapped_images_are_told_and_right_ones_are_not() -> None:
    assert looks_swapped(T1, FLAIR, BRAIN)
    assert not looks_swapped(FLAIR, T1, BRAIN)


def test_scalp_does_not_swap_them() -> None:
    around = ndimage.binary_dilation(BRAIN, iterations=2) & ~BRAIN
    dark, bright = (np.where(around, level, image).astype(np.float32) for level, image in ((0.2, FLAIR), (0.9, T1)))
    assert not looks_swapped(dark, bright, BRAIN)
    assert looks_swapped(bright, dark, BRAIN)


def test_without_a_brain_the_whole_head_counts() -> None:
    assert looks_swapped(T1, FLAIR, np.zeros_like(BRAIN))
    assert not looks_swapped(FLAIR, T1, np.zeros_like(BRAIN))


def test_a_right_pair_gives_no_warning() -> None:
    assert image_doubts(FLAIR, T1, BRAIN, HEAD) == [] and image_doubts(FLAIR, None, BRAIN, HEAD) == []
    assert image_warnings(True, THIN) == []


def test_each_doubt_is_named() -> None:
    assert "swapped" in image_doubts(T1, FLAIR, BRAIN, HEAD)[0].text
    assert "same image" in image_doubts(FLAIR, FLAIR, BRAIN, HEAD)[0].text
    assert "no T1w" in image_warnings(False, THIN)[0].text
    assert "6.0 mm thick" in image_warnings(True, THICK)[0].text


@pytest.mark.parametrize("spacing", [0.1, 100.0])
def test_a_head_of_impossible_size_is_told(spacing: float) -> None:
    box = Geometry((32, 32, 32), np.diag([spacing, spacing, spacing, 1.0]))
    assert "not like a whole human head" in image_doubts(FLAIR, T1, BRAIN, box)[0].text


def test_an_image_without_tissue_is_not_an_error() -> None:
    nothing = np.zeros((8, 8, 8), np.float32)
    assert not looks_swapped(nothing, nothing, nothing > 0)
