"""A brain that is cut off or turned against its header is told; one that ends at its stem is not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from veridice.imaging.volume import Geometry
from veridice.quality.image_checks import LEAST_FIT, fit_of_pair
from veridice.quality.placement_checks import cut_off_doubts, mean_brain, missing_volume, orientation_doubts

SHAPE, FLAIR = (ndimage.zoom(part, 4, order=1, grid_mode=True, mode="nearest") for part in mean_brain())
BRAIN = np.pad(SHAPE > 0.5, 4)
IMAGE = np.pad(FLAIR, 4)
CUBE = Geometry(BRAIN.shape, np.diag([1.4, 1.75, 1.4, 1.0]))


def test_a_whole_brain_the_right_way_up_is_without_doubt() -> None:
    assert cut_off_doubts(BRAIN, CUBE) == []
    assert orientation_doubts(IMAGE, BRAIN) == []


@pytest.mark.parametrize(
    ("kept", "name"),
    [
        (np.s_[:, :, :66], "top"),
        (np.s_[:, :, 40:], "bottom"),
        (np.s_[:, :75], "front"),
        (np.s_[:, 30:], "back"),
        (np.s_[30:], "left"),
        (np.s_[:75], "right"),
    ],
)
def test_a_brain_that_is_cut_off_is_told_with_the_side(kept: tuple[slice, ...], name: str) -> None:
    part = BRAIN[kept]
    (doubt,) = cut_off_doubts(part, Geometry(part.shape, CUBE.affine))
    assert doubt.code == "brain_cut_off" and f"at the {name} (about " in doubt.text


@pytest.mark.parametrize(
    ("axes", "words"),
    [((2,), "seems to be upside down against"), ((1,), "be back to front against"), ((1, 2), "upside down and back to front")],
)
def test_a_turned_head_is_told(axes: tuple[int, ...], words: str) -> None:
    (doubt,) = orientation_doubts(np.flip(IMAGE, axes), np.flip(BRAIN, axes))
    assert doubt.code == "head_turned" and words in doubt.text


def test_what_is_missing_is_the_cap_of_an_ellipsoid() -> None:
    radius, half = 70.0, 0.9
    whole = 4 / 3 * np.pi * radius**2 * radius * half / 1000
    assert missing_volume(1.0, np.pi * radius**2, half) == pytest.approx(whole / 2)
    assert missing_volume(0.0, np.pi * radius**2, half) == pytest.approx(0)


def test_nothing_is_said_where_no_brain_was_found() -> None:
    nothing = np.zeros_like(BRAIN)
    assert cut_off_doubts(nothing, CUBE) == [] and orientation_doubts(IMAGE, nothing) == []


def test_folds_of_one_person_fit_and_those_of_two_do_not() -> None:
    one, other = (ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(BRAIN.shape), 2) for seed in (0, 1))
    own, foreign = fit_of_pair(one, -one, BRAIN), fit_of_pair(one, -other, BRAIN)
    assert own is not None and foreign is not None and own > LEAST_FIT > foreign
    assert fit_of_pair(one, one, np.zeros_like(BRAIN)) is None
