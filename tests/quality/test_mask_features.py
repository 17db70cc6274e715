"""What is read off a mask, against slow oracles in the scan's own grid."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from veridice.imaging.grid import GridTransform, fit_grid
from veridice.imaging.scan import Scan
from veridice.imaging.volume import Geometry, Volume
from veridice.metrics.maps import StochasticMaps
from veridice.metrics.overlap import dice
from veridice.quality import single_lesions
from veridice.quality.mask_features import BORDER, mask_evidence
from veridice.quality.scan_analysis import ScanAnalysis, native_samples
from veridice.quality.single_lesions import LesionModel, describe_lesions, label_lesions, missed_mask

AFFINE = np.array([[0.0, -1.8, 0.6, 3], [0.9, 0, 0, -4], [0, 0.6, 1.8, 5], [0, 0, 0, 1]])
CUBE, PASSES = 24, 5
RADII = {"tight": 2.6, "right": 4.0, "generous": 5.6}


@pytest.fixture
def flair() -> Volume:
    """An oblique, flipped, anisotropic scan whose head does not fill it."""
    voxels = np.random.default_rng(0).normal(20, 2, (40, 33, 27)).astype(np.float32)
    voxels[6:35, 4:30, 3:25] += 400
    return Volume(voxels, Geometry(voxels.shape, AFFINE))


@pytest.fixture
def transform(flair: Volume) -> GridTransform:
    return fit_grid(flair, (CUBE,) * 3)


def blob(middle: tuple[float, float, float], radius: float, shape: tuple[int, ...] = (CUBE,) * 3) -> np.ndarray:
    place = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    return np.clip(radius + 0.5 - np.linalg.norm(place - np.array(middle), axis=-1), 0, 1).astype(np.float32)


@pytest.fixture
def passes() -> np.ndarray:
    """Each sees a lesion in another place, and most a second one."""
    both = [np.maximum(blob((9 + 0.3 * n, 10, 11), 3.2), blob((16, 15 - 0.2 * n, 14), 2.1) * (n > 0)) for n in range(PASSES)]
    return np.stack(both)


def analysis_of(passes: np.ndarray, flair: Volume, transform: GridTransform) -> ScanAnalysis:
    mean = passes.mean(axis=0)
    probability = transform.to_native(mean, order=3)
    packed = np.stack([np.packbits((each >= 0.5).ravel()) for each in passes])
    shown = transform.to_grid(flair.voxels) / np.float32(500)
    return ScanAnalysis(
        scan=Scan(flair),
        transform=transform,
        images=np.stack([shown, np.zeros_like(shown)]),
        passes=StochasticMaps(mean, mean * (1 - mean), mean * 0, mean * 0, packed),
        samples=native_samples(packed, transform),
        probability=probability,
        own=probability >= 0.5,
        brain=transform.to_grid((flair.voxels > 200).astype(np.float32)) >= 0.5,
        native_brain=flair.voxels > 200,
    )


def test_passes_in_the_scans_grid_are_those_of_whole_maps(passes: np.ndarray, flair: Volume, transform: GridTransform) -> None:
    analysis = analysis_of(passes, flair, transform)
    rng = np.random.default_rng(1)
    masks = [analysis.own, np.roll(analysis.own, 2, axis=0), rng.random(flair.shape) > 0.99, np.zeros(flair.shape, bool)]
    for mask in masks:
        oracle = [dice(transform.to_native((each >= 0.5).astype(np.float32)) >= 0.5, mask).dice for each in passes]
        np.testing.assert_allclose(analysis.samples.overlaps(mask, transform), oracle, atol=1e-12)


def test_no_lesion_in_any_pass(flair: Volume, transform: GridTransform) -> None:
    analysis = analysis_of(np.zeros((PASSES, CUBE, CUBE, CUBE), np.float32), flair, transform)
    empty = mask_evidence(np.zeros(flair.shape, bool), analysis)
    assert (empty["agreement_mean"], empty["own_dice"], empty["expected_dice"]) == (1.0, 1.0, 1.0)
    some = mask_evidence(flair.voxels > 415, analysis)
    assert (some["agreement_mean"], some["own_dice"], some["supported_lesions"]) == (0.0, 0.0, 0.0)
    assert np.isnan(some["missed_lesions"])


def test_overlaps_are_those_of_slow_sums(passes: np.ndarray, flair: Volume, transform: GridTransform) -> None:
    analysis = analysis_of(passes, flair, transform)
    mask = np.roll(analysis.own, 1, axis=1)
    found = mask_evidence(mask, analysis)
    p, own = analysis.probability.astype(float), analysis.own
    assert found["expected_dice"] == pytest.approx(2 * (p * mask).sum() / (p.sum() + mask.sum()))
    assert found["expected_precision"] == pytest.approx((p * mask).sum() / mask.sum())
    assert found["expected_recall"] == pytest.approx((p * mask).sum() / p.sum())
    assert found["own_dice"] == pytest.approx(dice(mask, own).dice)
    assert found["own_dice"] < found["own_tolerant_dice"] <= 1
    assert found["log_volume"] == pytest.approx(np.log(mask.sum() * abs(np.linalg.det(AFFINE[:3, :3])) / 1000 + 0.05))
    assert found["agreement_lowest"] <= found["agreement_mean"]


def test_lesions_are_counted_one_by_one(passes: np.ndarray, flair: Volume, transform: GridTransform) -> None:
    analysis = analysis_of(passes, flair, transform)
    labels, count = ndimage.label(analysis.own, structure=np.ones((3, 3, 3)))
    assert count == 2
    sizes = np.bincount(labels.ravel())[1:]
    mask = labels == 1 + int(np.argmax(sizes))
    invented = np.zeros_like(mask)
    invented[30:33, 8:10, 5] = True
    found = mask_evidence(mask | invented, analysis)
    assert found["missed_lesions"] == 0.5
    assert found["missed_volume"] == pytest.approx(sizes.min() / sizes.sum())
    assert found["supported_lesions"] == 0.5
    assert found["supported_volume"] == pytest.approx(mask.sum() / (mask | invented).sum())


def test_looks(passes: np.ndarray, flair: Volume, transform: GridTransform) -> None:
    lit = flair.with_voxels(np.where(analysis_of(passes, flair, transform).own, flair.voxels + 80, flair.voxels))
    analysis = analysis_of(passes, lit, transform)
    right, wrong = (mask_evidence(mask, analysis) for mask in (analysis.own, np.roll(analysis.own, 5, axis=2)))
    assert right["brightness"] > wrong["brightness"] and right["contrast"] > wrong["contrast"]
    assert right["outside_brain"] == 0
    outside = np.zeros(flair.shape, bool)
    outside[:3] = True
    assert np.isnan(mask_evidence(outside, analysis)["brightness"])
    nothing = mask_evidence(np.zeros(flair.shape, bool), analysis)
    assert nothing["agreement_mean"] == 0.0
    assert np.isnan(nothing["contrast"]) and np.isnan(nothing["outside_brain"])


# Lesion by lesion


def test_borders_lie_halfway(flair: Volume, transform: GridTransform) -> None:
    """A bright ball with soft borders: the right mask, a tight one, a generous one, and one beside it."""
    ball = transform.to_native(blob((11, 12, 11), 4.0), order=1)
    scan = flair.with_voxels((flair.voxels + 300 * ball * (flair.voxels > 200)).astype(np.float32))
    analysis = analysis_of(np.stack([blob((11, 12, 11), 4.0)] * 2), scan, transform)
    masks = {name: transform.to_native(blob((11, 12, 11), radius)) >= 0.5 for name, radius in RADII.items()}
    found = {name: mask_evidence(mask, analysis) for name, mask in masks.items()}
    right, tight, generous = found["right"], found["tight"], found["generous"]
    assert right["halfway_dice"] > max(tight["halfway_dice"], generous["halfway_dice"]) and right["halfway_dice"] > 0.9
    assert tight["bright_outside"] > 0.9 > 0.3 > right["bright_outside"]
    assert generous["dark_inside"] > 0.9 > 0.3 > right["dark_inside"]
    assert right["edge"] > max(tight["edge"], generous["edge"])
    assert right["bright_elsewhere"] < 0.3
    beside = mask_evidence(np.roll(masks["tight"], 12, axis=0), analysis)
    assert beside["bright_elsewhere"] > 0.5
    empty = mask_evidence(np.zeros(flair.shape, bool), analysis)
    assert all(np.isnan(empty[name]) for name in BORDER)


def test_every_lesion_has_its_place(passes: np.ndarray, flair: Volume, transform: GridTransform) -> None:
    analysis = analysis_of(passes, flair, transform)
    mask = analysis.own.copy()
    mask[30:32, 8:10, 5] = True
    labels, count = label_lesions(mask)
    found = describe_lesions(labels, count, flair.voxels, analysis)
    assert [lesion.number for lesion in found] == [1, 2, 3]
    assert found[0].volume_ml > found[1].volume_ml > found[2].volume_ml
    for lesion in found:
        inside = labels == lesion.number
        centre = AFFINE @ [*(axis.mean() for axis in np.nonzero(inside)), 1.0]
        np.testing.assert_allclose([lesion.x, lesion.y, lesion.z], centre[:3])
        assert lesion.volume_ml == pytest.approx(inside.sum() * flair.geometry.voxel_volume_ml)
        assert lesion.mean_probability == pytest.approx(analysis.probability[inside].mean(), abs=1e-6)
        assert lesion.highest_probability == pytest.approx(analysis.probability[inside].max())
    shares = [lesion.share_of_passes for lesion in found]
    assert shares == [1.0, (PASSES - 1) / PASSES, 0.0]
    confidence = LesionModel(-2.0, (2.0, 1.0, 1.0, 0.0, 0.0)).confidence(found)
    assert 1 > confidence[0] > confidence[1] > confidence[2] > 0


def test_a_critic_has_a_word_in_every_lesion(passes: np.ndarray, flair: Volume, transform: GridTransform) -> None:
    analysis = analysis_of(passes, flair, transform)
    labels, count = label_lesions(analysis.own)
    chance = np.random.default_rng(3).random(flair.shape).astype(np.float32)
    found = describe_lesions(labels, count, flair.voxels, analysis, chance)
    for lesion in found:
        assert lesion.critic_chance == pytest.approx(chance[labels == lesion.number].mean(), rel=1e-5)
    plain = describe_lesions(labels, count, flair.voxels, analysis)
    assert all(lesion.critic_chance is None for lesion in plain)
    # A model without the critic says the same of both; one with it listens to it alone here.
    without = LesionModel(-2.0, (2.0, 1.0, 1.0, 0.0, 0.0))
    assert without.confidence(found) == without.confidence(plain)
    listening = LesionModel(0.0, (0.0,) * 5 + (4.0,)).confidence(found)
    assert np.argsort(listening).tolist() == np.argsort([lesion.critic_chance for lesion in found]).tolist()


def test_what_the_mask_misses(passes: np.ndarray, flair: Volume, transform: GridTransform) -> None:
    analysis = analysis_of(passes, flair, transform)
    labels, _ = label_lesions(analysis.own)
    np.testing.assert_array_equal(missed_mask(labels == 1, analysis), labels == 2)
    one = np.zeros_like(analysis.own)
    one[tuple(axis[0] for axis in np.nonzero(labels == 1))] = True
    np.testing.assert_array_equal(missed_mask(one, analysis), labels == 2)
    assert not missed_mask(analysis.own, analysis).any()
    np.testing.assert_array_equal(missed_mask(np.zeros_like(analysis.own), analysis), analysis.own)


def test_a_mask_of_noise_lists_its_largest_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(single_lesions, "MOST_LESIONS", 3)
    mask = np.zeros((20, 5, 5), bool)
    mask[::2, 0, 0] = True
    mask[4, 0:3, 0] = True
    labels, count = label_lesions(mask)
    assert count == 3 and set(np.unique(labels)) == {0, 1, 2, 3}
    assert labels[4, 0, 0] == 1


def test_no_lesion_at_all(passes: np.ndarray, flair: Volume, transform: GridTransform) -> None:
    labels, count = label_lesions(np.zeros(flair.shape, bool))
    assert describe_lesions(labels, count, flair.voxels, analysis_of(passes, flair, transform)) == []
