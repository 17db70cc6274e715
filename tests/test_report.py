"""The report: slices where lesions and doubt are, pictures the right way round."""

from __future__ import annotations

import numpy as np

from veridice.report import SCORE_ROWS, _radiological, choose_slices
from veridice.scores import SCORES


def test_slices_with_lesion_and_doubt_are_chosen_apart() -> None:
    mask, entropy = np.zeros((4, 4, 60)), np.zeros((4, 4, 60))
    mask[:, :, 20:23] = 1
    entropy[:, :, 45] = 1
    chosen = choose_slices(mask, entropy, 4)
    assert chosen == sorted(chosen)
    assert {45} < set(chosen)
    assert any(20 <= z <= 22 for z in chosen)
    assert min(np.diff(chosen)) >= 5


def test_without_lesions_the_middle_is_shown() -> None:
    empty = np.zeros((4, 4, 61))
    assert 30 in choose_slices(empty, empty, 1)


def test_a_thin_volume_gives_what_it_has() -> None:
    assert choose_slices(np.ones((4, 4, 2)), np.ones((4, 4, 2)), 4) == [0, 1]


def test_pictures_follow_radiological_convention() -> None:
    # Canonical axes are right to left = +x to -x; front = +y.
    slice_ = np.zeros((3, 5))
    slice_[2, 4] = 1  # right, front
    picture = _radiological(slice_)
    assert picture.shape == (5, 3)
    assert picture[0, 0] == 1  # upper left of the picture


def test_every_score_is_explained() -> None:
    assert set(SCORES) <= {name for name, _, _ in SCORE_ROWS}
