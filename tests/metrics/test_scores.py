"""Scores against slow loops."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veridice.metrics import scores as scores_module
from veridice.metrics.overlap import dice
from veridice.metrics.scores import (
    SCORES,
    GridMaps,
    all_scores,
    lesion_count,
    lesion_uncertainties,
    lesion_volume_ml,
    non_boundary_entropy,
    pairwise_dice,
    patch_maximum_entropy,
    sample_agreement,
    structural_uncertainty,
    voxelwise_sum,
)


def label_count_slow(mask: np.ndarray) -> int:
    """Connected parts by flooding from voxel to voxel."""
    left = {tuple(index) for index in np.argwhere(mask)}
    count = 0
    while left:
        count += 1
        front = [left.pop()]
        while front:
            at = front.pop()
            near = {tuple(np.add(at, step)) for step in itertools.product((-1, 0, 1), repeat=3)} & left
            left -= near
            front += near
    return count


def maps_of(samples: np.ndarray, segmentation: np.ndarray | None = None) -> GridMaps:
    rng = np.random.default_rng(0)
    random = rng.random((4, *samples.shape[1:]))
    mean = samples.mean(axis=0)
    return GridMaps(
        segmentation=mean if segmentation is None else segmentation,
        mean=mean,
        entropy=random[0],
        variance=random[1],
        mutual_information=random[2],
        error=random[3] - 0.5,
        sample_masks=np.stack([np.packbits((sample >= 0.5).ravel()) for sample in samples]),
    )


@given(st.integers(2, 6), st.tuples(*[st.integers(1, 5)] * 3), st.floats(0, 1), st.integers(0, 99))
def test_agreements_equal_loops_over_pairs(passes: int, shape: tuple[int, int, int], filled: float, seed: int) -> None:
    """Also where the voxel count is no multiple of 8, and where samples are empty or full."""
    rng = np.random.default_rng(seed)
    samples = (rng.random((passes, *shape)) < filled).astype(float)
    judged = rng.random(shape)
    maps = maps_of(samples, judged)
    pairs = [dice(a >= 0.5, b >= 0.5).dice for a, b in itertools.combinations(samples, 2)]
    assert pairwise_dice(maps) == pytest.approx(np.mean(pairs))
    assert sample_agreement(maps) == pytest.approx(np.mean([dice(judged >= 0.5, s >= 0.5).dice for s in samples]))


def test_sums_and_means_are_what_they_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores_module, "SUM_GRID", (4, 5, 6))
    maps = maps_of(np.random.default_rng(1).random((3, 4, 5, 6)))
    scores = all_scores(maps)
    assert scores["entropy_sum"] == pytest.approx(sum(maps.entropy.ravel()))
    assert scores["error_sum"] == pytest.approx(sum(maps.error.ravel()))
    assert scores["absolute_error_sum"] == pytest.approx(sum(abs(v) for v in maps.error.ravel()))
    assert scores["variance_sum"] == pytest.approx(sum(maps.variance.ravel()))
    assert scores["mutual_information_sum"] == pytest.approx(sum(maps.mutual_information.ravel()))
    inside = [e for e, s in zip(maps.entropy.ravel(), maps.segmentation.ravel(), strict=True) if s >= 0.5]
    assert scores["mean_foreground_entropy"] == pytest.approx(sum(inside) / len(inside))
    marked = sum(p for p in maps.mean.ravel() if p >= 0.5)
    total = sum(maps.mean.ravel()) + sum(p >= 0.5 for p in maps.mean.ravel())
    assert scores["soft_dice_confidence"] == pytest.approx(2 * marked / total)
    assert list(scores) == list(SCORES)


def test_sums_do_not_depend_on_the_networks_cube() -> None:
    place = np.linspace(0, 1, 128)
    smooth = np.exp(-(((np.stack(np.meshgrid(place, place, place)) - 0.5) / 0.15) ** 2).sum(axis=0))
    coarse = smooth.reshape(32, 4, 32, 4, 32, 4).mean(axis=(1, 3, 5))
    assert voxelwise_sum(smooth) == pytest.approx(smooth.sum())
    assert voxelwise_sum(coarse) == pytest.approx(smooth.sum(), rel=0.01)
    assert voxelwise_sum(np.full((7, 9, 11), 0.25)) == pytest.approx(0.25 * 128**3)


def test_an_empty_mask_has_no_mean_entropy() -> None:
    maps = maps_of(np.zeros((2, 3, 3, 3)))
    assert all_scores(maps)["mean_foreground_entropy"] is None
    assert all_scores(maps)["shadow_share"] is None and all_scores(maps)["soft_dice_confidence"] == 1.0
    assert pairwise_dice(maps) == 1.0
    assert sample_agreement(maps) == 1.0
    full = replace(maps, segmentation=np.ones((3, 3, 3)))
    assert sample_agreement(full) == 0.0


def parts_slow(mask: np.ndarray) -> list[set[tuple[int, ...]]]:
    """Connected parts by joining sets of voxels until nothing touches any more."""
    parts: list[set[tuple[int, ...]]] = []
    for voxel in map(tuple, np.argwhere(mask).tolist()):
        near = {tuple(np.add(voxel, step).tolist()) for step in itertools.product((-1, 0, 1), repeat=3)}
        touching = [part for part in parts if part & near]
        parts = [part for part in parts if part not in touching] + [{voxel}.union(*touching)]
    return parts


@given(st.integers(1, 4), st.floats(0, 0.5), st.integers(0, 99))
def test_structural_uncertainties_equal_sets_of_voxels(passes: int, filled: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = (rng.random((passes, 3, 5, 4)) < filled).astype(float)
    maps = maps_of(samples, rng.random((3, 5, 4)) * (rng.random() < 0.9) - 0.2)
    own = {tuple(v) for v in np.argwhere(samples.mean(axis=0) >= 0.5).tolist()}
    drawn = [{tuple(v) for v in np.argwhere(sample).tolist()} for sample in samples]
    overlaps = [len(own & sample) / len(own | sample) if own | sample else 1.0 for sample in drawn]
    assert structural_uncertainty(maps) == pytest.approx(1 - np.mean(overlaps))
    expected = [
        1 - np.mean([max((len(p & lesion) / len(p | lesion) for p in parts_slow(s > 0)), default=0.0) for s in samples])
        for lesion in parts_slow(maps.mask)
    ]
    assert sorted(lesion_uncertainties(maps)) == pytest.approx(sorted(expected))
    assert SCORES["lesion_uncertainty"](maps) == (pytest.approx(np.mean(expected)) if expected else None)


def test_entropy_away_from_borders_and_in_the_worst_patch() -> None:
    maps = maps_of(np.random.default_rng(3).random((2, 12, 13, 11)))
    block = np.zeros((12, 13, 11))
    block[3:9, 3:9, 3:9] = 1
    maps = replace(maps, segmentation=block)
    kept = [
        maps.entropy[index]
        for index in np.ndindex(block.shape)
        if len({block[n] for n in neighbours_by_face(index, block.shape)} | {block[index]}) == 1
    ]
    assert non_boundary_entropy(maps) == pytest.approx(np.mean(kept))
    patches = [maps.entropy[x : x + 10, y : y + 10, z : z + 10].mean() for x in range(3) for y in range(4) for z in range(2)]
    assert patch_maximum_entropy(maps) == pytest.approx(max(patches))


def neighbours_by_face(index: tuple[int, ...], shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    steps = [tuple(s * (a == axis) for a in range(3)) for axis in range(3) for s in (-1, 1)]
    near = [tuple(np.add(index, step).tolist()) for step in steps]
    return [n for n in near if all(0 <= i < edge for i, edge in zip(n, shape, strict=True))]


@given(st.integers(0, 999), st.floats(0, 0.6))
def test_lesions_are_counted_over_faces_edges_and_corners(seed: int, filled: float) -> None:
    mask = np.random.default_rng(seed).random((4, 5, 4)) < filled
    assert lesion_count(mask) == label_count_slow(mask)


def test_volume_in_millilitres() -> None:
    mask = np.zeros((3, 3, 3), dtype=bool)
    mask[0, :2, 0] = True
    assert lesion_volume_ml(mask, 0.003) == pytest.approx(0.006)


def test_sums_do_not_lose_small_voxels_in_large_totals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores_module, "SUM_GRID", (24, 24, 24))
    values = np.full((24, 24, 24), 1e-4, np.float32)
    values[0, 0, 0] = 1e4
    maps = replace(maps_of(np.zeros((2, 24, 24, 24))), entropy=values)
    assert SCORES["entropy_sum"](maps) == pytest.approx(math.fsum(values.ravel().tolist()), rel=1e-9)


@given(st.integers(2, 5), st.sampled_from([7, 8, 9, 15, 17]), st.integers(0, 99))
def test_pairwise_dice_equals_a_naive_loop_with_some_samples_empty(passes: int, voxels: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    samples = (rng.random((passes, voxels, 1, 1)) < 0.4) & (rng.random((passes, 1, 1, 1)) < 0.6)
    total, pairs = 0.0, 0
    for i in range(passes):
        for j in range(i + 1, passes):
            shared = sum(bool(a and b) for a, b in zip(samples[i].ravel(), samples[j].ravel(), strict=True))
            sizes = int(samples[i].sum()) + int(samples[j].sum())
            total += 2 * shared / sizes if sizes else 1.0
            pairs += 1
    assert pairwise_dice(maps_of(samples.astype(float))) == pytest.approx(total / pairs)
