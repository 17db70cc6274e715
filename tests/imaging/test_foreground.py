"""Air is air: the head is found the same with more or less around it, whatever single voxels and missing values say."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from veridice.imaging.foreground import box_around, evened, foreground_mask
from veridice.imaging.missing import fill_missing

RNG = np.random.default_rng(0)


def scan(stripped: bool) -> np.ndarray:
    """A head of 30 x 40 x 28 voxels in a larger field of view."""
    place = np.stack(np.meshgrid(*[np.arange(n) - n / 2 for n in (48, 56, 44)], indexing="ij"), -1) / (15, 20, 14)
    inside = (place**2).sum(-1) < 1
    tissue = 400 + 200 * ndimage.gaussian_filter(RNG.standard_normal(inside.shape), 2) + RNG.normal(0, 15, inside.shape)
    air = np.zeros(inside.shape) if stripped else np.abs(RNG.normal(0, 20, inside.shape))
    return np.where(inside, tissue.clip(250), air).astype(np.float32)


SCANS = {"stripped": scan(True), "whole": scan(False)}
AROUND = 12
CROP = 3


def padded(value: float | str) -> Callable[[np.ndarray], tuple[np.ndarray, int]]:
    def pad(voxels: np.ndarray) -> tuple[np.ndarray, int]:
        if value == "noise":
            around = np.abs(np.random.default_rng(1).normal(0, 20, [n + 2 * AROUND for n in voxels.shape])).astype(np.float32)
            around[(slice(AROUND, -AROUND),) * 3] = voxels
            return around, AROUND
        return np.pad(voxels, AROUND, constant_values=float(value)), AROUND

    return pad


def hot(*where: float, factor: float = 100) -> Callable[[np.ndarray], tuple[np.ndarray, int]]:
    def change(voxels: np.ndarray) -> tuple[np.ndarray, int]:
        changed = voxels.copy()
        changed[tuple(int(part * (n - 1)) for part, n in zip(where, voxels.shape, strict=True))] = voxels.max() * factor
        return changed, 0

    return change


CHANGES = {
    "zeros around": padded(0),
    "a level around": padded(15),
    "less than all around": padded(-300),
    "offset": lambda voxels: (voxels + 1000, 0),
    "offset and zeros around": lambda voxels: padded(0)(voxels + 1000),
    "negative and zeros around": lambda voxels: padded(0)(voxels - 300),
    "scaled": lambda voxels: (voxels * 7, 0),
    "cropped": lambda voxels: (voxels[CROP:-CROP, CROP:-CROP, CROP:-CROP], -CROP),
    "8 bits": lambda voxels: (np.round(voxels / voxels.max() * 255).astype(np.float32), 0),
    "hot in the middle": hot(0.5, 0.5, 0.5),
    "hot in the corner": hot(0, 0, 0),
    "very negative": hot(0.3, 0.4, 0.6, factor=-50),
}


@pytest.mark.parametrize("kind", SCANS)
@pytest.mark.parametrize("name", CHANGES)
def test_the_box_around_the_head_stays(kind: str, name: str) -> None:
    voxels = SCANS[kind]
    changed, shift = CHANGES[name](voxels)
    expected = np.array(box_around(foreground_mask(voxels))) + shift
    np.testing.assert_array_equal(np.array(box_around(foreground_mask(changed))), expected)


def test_noise_around_changes_nothing_either() -> None:
    changed, shift = padded("noise")(SCANS["whole"])
    expected = np.array(box_around(foreground_mask(SCANS["whole"]))) + shift
    assert np.abs(np.array(box_around(foreground_mask(changed))) - expected).max() <= 1


@pytest.mark.parametrize("kind", SCANS)
def test_an_ordinary_image_is_left_alone(kind: str) -> None:
    assert evened(SCANS[kind]) is SCANS[kind]


def test_a_hot_voxel_becomes_its_neighbourhood_and_padding_the_background() -> None:
    voxels = SCANS["whole"]
    changed, _ = hot(0.5, 0.5, 0.5)(voxels)
    assert np.abs(evened(changed) - voxels).max() < 0.5 * voxels.max()
    around, _ = padded(-300)(voxels)
    assert evened(around).min() >= voxels.min()


@pytest.mark.parametrize("kind", SCANS)
def test_nan_outside_the_head_is_background(kind: str) -> None:
    voxels = SCANS[kind]
    head = ndimage.binary_dilation(foreground_mask(voxels))
    filled = fill_missing(np.where(head, voxels, np.nan))
    assert not filled.too_many and filled.inside == 0 and filled.background > 0
    # A rim of noise that was left around the head passes for a part of it.
    found, expected = (np.array(box_around(foreground_mask(image))) for image in (filled.voxels, voxels))
    assert np.abs(found - expected).max() <= 1
    np.testing.assert_array_equal(filled.voxels[head], voxels[head])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_single_missing_voxels_of_the_head_get_the_value_beside_them(value: float) -> None:
    voxels = SCANS["whole"].copy()
    voxels[24, 28, 22] = voxels[20, 30, 18] = value
    filled = fill_missing(voxels)
    assert (filled.inside, filled.too_many) == (2, False)
    assert filled.voxels[24, 28, 22] > 200


def test_a_hole_in_the_head_is_not_made_up() -> None:
    voxels = SCANS["whole"].copy()
    voxels[20:28, 24:32, 18:26] = np.nan
    assert fill_missing(voxels).too_many


def test_a_scattered_tenth_of_the_head_is_not_made_up() -> None:
    voxels = np.where(np.random.default_rng(2).random(SCANS["whole"].shape) < 0.1, np.nan, SCANS["whole"])
    assert fill_missing(voxels).too_many
