"""Slices that are lost, doubled, out of order, uneven or wrapped are told by name, along any axis; good ones are not."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from veridice.imaging.volume import Geometry, Volume
from veridice.quality.slice_checks import slice_doubts

SHAPE = (60, 70, 40)


def head() -> np.ndarray:
    rng = np.random.default_rng(0)
    place = np.stack(np.meshgrid(*[np.arange(n) - n / 2 for n in SHAPE], indexing="ij"), -1) / (24, 29, 16)
    inside = (place**2).sum(-1) < 1
    texture = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 2.5)
    return np.where(inside, 500 + 150 * texture / texture.std(), np.abs(rng.normal(0, 15, SHAPE))).clip(0).astype(np.float32)


HEAD = head()


def volume(voxels: np.ndarray) -> Volume:
    return Volume(np.ascontiguousarray(voxels), Geometry(voxels.shape, np.diag([-1.0, 1.0, 2.0, 1.0])))


def black(slices: np.ndarray) -> None:
    slices[len(slices) // 2] = 0


def doubled(slices: np.ndarray) -> None:
    slices[len(slices) // 2 + 1] = slices[len(slices) // 2]


def swapped(slices: np.ndarray) -> None:
    one, other = len(slices) * 9 // 20, len(slices) * 12 // 20
    slices[[one, other]] = slices[[other, one]]


def neighbours_swapped(slices: np.ndarray) -> None:
    middle = len(slices) // 2
    slices[[middle, middle + 1]] = slices[[middle + 1, middle]]


def darker(slices: np.ndarray) -> None:
    slices[::2] *= 0.6


def hardly_darker(slices: np.ndarray) -> None:
    slices[1::2] *= 0.8


def wrapped(slices: np.ndarray) -> None:
    slices[:] = np.roll(slices, len(slices) // 3, 0)


FAULTS: dict[Callable[[np.ndarray], None], str] = {
    black: "black_slices",
    doubled: "doubled_slices",
    swapped: "slice_order",
    neighbours_swapped: "slice_order",
    darker: "uneven_slices",
    hardly_darker: "uneven_slices",
    wrapped: "wrapped",
}


def test_a_good_scan_is_without_doubt() -> None:
    assert slice_doubts(volume(HEAD)) == []


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_named(fault: Callable[[np.ndarray], None], axis: int) -> None:
    voxels = HEAD.copy()
    fault(np.moveaxis(voxels, axis, 0))
    assert [doubt.code for doubt in slice_doubts(volume(voxels))] == [FAULTS[fault]]


@pytest.mark.parametrize("axis", range(3))
def test_slices_repeated_to_a_finer_grid_are_no_mistake(axis: int) -> None:
    assert slice_doubts(volume(np.repeat(HEAD, 2, axis))) == []


def test_padding_hides_no_wrapped_head() -> None:
    voxels = np.pad(np.roll(HEAD, 23, 1), 9)
    assert [doubt.code for doubt in slice_doubts(volume(voxels))] == ["wrapped"]


def test_two_slices_are_too_few_to_say_anything() -> None:
    assert slice_doubts(volume(HEAD[:, :, 19:21])) == []
