"""One scan end to end on tiny networks and volumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import ndimage

from veridice.assessment import analysis
from veridice.assessment.analysis import NEAR_BRAIN, near_brain
from veridice.assessment.assess import assess_masks, assess_scan
from veridice.assessment.decide import Decision, quality_chances, rank, worth
from veridice.assessment.models import load_models
from veridice.assessment.result import AssessmentResult
from veridice.case import Notice
from veridice.config import InferenceSettings
from veridice.errors import GeometryError, WeightsError
from veridice.imaging.grid import fit_grid
from veridice.imaging.scan import GivenMask, Scan
from veridice.imaging.volume import Geometry, Volume
from veridice.inference.weights import save_network
from veridice.io.weight_cards import read_card
from veridice.networks.regression_net import RegressionNet
from veridice.quality.calibration import CalibrationSet, dice_intervals
from veridice.quality.second_expert import second_expert_dice
from veridice.report.pages import promise
from veridice.types import Mask

SETTINGS = InferenceSettings(passes=3)


@pytest.fixture
def judged(tiny_weights: Path, tiny_scan: dict[str, Volume]) -> AssessmentResult:
    return assess_scan("sub-1", tiny_scan["flair"], tiny_scan["t1"], None, load_models(tiny_weights), SETTINGS)


def test_maps_lie_on_the_flairs_own_grid(judged: AssessmentResult, tiny_scan: dict[str, Volume]) -> None:
    for name, volume in judged.volumes.items():
        assert volume.shape == tiny_scan["flair"].shape, name
        np.testing.assert_allclose(volume.affine, tiny_scan["flair"].affine, atol=1e-4)


def test_our_mask_is_the_native_probability_at_one_half(judged: AssessmentResult) -> None:
    probability = judged.volumes["lesion_probability"].voxels
    np.testing.assert_array_equal(judged.volumes["lesion_mask"].voxels, probability >= 0.5)
    voxel_ml = judged.volumes["lesion_mask"].geometry.voxel_volume_ml
    assert judged.assessment.volumes_ml["judged_mask"] == pytest.approx((probability >= 0.5).sum() * voxel_ml)


def test_our_mask_ends_near_the_brain(tiny_weights: Path, tiny_scan: dict[str, Volume]) -> None:
    flair, models = tiny_scan["flair"], load_models(tiny_weights)
    whole = assess_masks("a", Scan(flair, tiny_scan["t1"]), [], models, SETTINGS).volumes["lesion_probability"].voxels
    brain = np.zeros(flair.shape, bool)
    half = flair.shape[0] // 2
    brain[:half] = flair.voxels[:half] > 100
    scan = Scan(flair, tiny_scan["t1"], brain=flair.with_voxels(brain))
    cut = assess_masks("a", scan, [], models, SETTINGS).volumes["lesion_probability"].voxels
    far = ndimage.distance_transform_edt(~brain) > 2 * NEAR_BRAIN
    assert (whole[far] > 0).any() and not cut[far].any()
    np.testing.assert_array_equal(cut[brain], whole[brain])


def test_nothing_is_cut_where_no_brain_was_found(tiny_scan: dict[str, Volume]) -> None:
    transform = fit_grid(tiny_scan["flair"], (32, 32, 32))
    assert near_brain(np.zeros((32, 32, 32), bool), transform).all()


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_dice_and_interval_are_those_of_the_judge(coverage: float, tiny_weights: Path, tiny_scan: dict[str, Volume]) -> None:
    settings = InferenceSettings(passes=2, coverage=coverage)
    models = load_models(tiny_weights)
    mask = bright(tiny_scan["flair"])
    result = assess_scan("sub-1", tiny_scan["flair"], tiny_scan["t1"], mask, models, settings).assessment
    dice, spread = models.quality.predictor.predict([result.scores])
    assert (result.predicted_dice, result.scores["predicted_spread"]) == pytest.approx((dice[0], spread[0]))
    ends = dice_intervals(models.quality.calibration, dice, spread, coverage)
    assert result.interval == pytest.approx(tuple(ends[0]))
    assert (result.coverage, result.calibration.source, result.calibration.n) == (coverage, "random numbers", 24)
    assert any("rest on simulated scans" in warning for warning in result.warnings)


def bright(flair: Volume) -> Volume:
    return flair.with_voxels(flair.voxels > np.percentile(flair.voxels, 97))


@pytest.fixture
def undoubted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny scan is no human head; what the checks of images rightly say about it is left out."""
    for check in ("scan_doubts", "image_doubts"):
        monkeypatch.setattr(analysis, check, lambda *_: [])


@pytest.mark.usefixtures("undoubted")
def test_an_unknown_scan_is_never_accepted(tiny_weights: Path, tiny_scan: dict[str, Volume]) -> None:
    models = load_models(tiny_weights)
    settings = InferenceSettings(passes=2, min_dice=0.0)
    for limit, verdict in ((1e-6, "review"), (1e6, "accept")):
        ood = replace(models.quality.ood, limits=np.full(3, limit))
        known = replace(models, quality=replace(models.quality, ood=ood))
        flair = tiny_scan["flair"]
        brain = flair.with_voxels(flair.voxels > np.percentile(flair.voxels, 60))
        scan = Scan(flair, tiny_scan["t1"], brain=brain)
        result = assess_masks("sub-1", scan, [GivenMask("m", bright(flair))], known, settings).assessment
        assert result.verdict == verdict
        assert any("do not know" in warning for warning in result.warnings) == (verdict == "review")


@pytest.mark.usefixtures("undoubted")
@pytest.mark.parametrize("doubt", ["", "the T1w cannot be registered"])
def test_a_scan_with_something_wrong_is_never_accepted(doubt: str, tiny_weights: Path, tiny_scan: dict[str, Volume]) -> None:
    models = load_models(tiny_weights)
    ood = replace(models.quality.ood, limits=np.full(3, 1e6))
    models = replace(models, quality=replace(models.quality, ood=ood))
    flair = tiny_scan["flair"]
    brain = flair.with_voxels(flair.voxels > np.percentile(flair.voxels, 60))
    scan = Scan(flair, tiny_scan["t1"], brain=brain, doubts=(Notice("doubt", doubt),) if doubt else ())
    settings = InferenceSettings(passes=2, min_dice=0.0)
    result = assess_masks("sub-1", scan, [GivenMask("m", bright(flair))], models, settings).assessment
    assert (result.verdict, result.for_review) == (("review", True) if doubt else ("accept", False))
    assert any("accepted unseen" in warning for warning in result.warnings) == bool(doubt)


def test_what_is_needed_may_be_what_a_second_expert_would_reach(tiny_weights: Path, tiny_scan: dict[str, Volume]) -> None:
    flair = tiny_scan["flair"]
    settings = InferenceSettings(passes=2, min_dice="second-expert")
    result = assess_masks("sub-1", Scan(flair), [GivenMask("m", bright(flair))], load_models(tiny_weights), settings).assessment
    needed = second_expert_dice(result.volumes_ml["own_mask"], max(flair.geometry.voxel_spacing))
    assert result.model["min_dice"] == needed
    assert result.model["for_load_ml"] == pytest.approx(result.volumes_ml["own_mask"], abs=1e-3)
    assert f"A Dice of {needed:g} is what a second expert is expected to reach" in promise(result.model)


def test_same_scan_gives_the_same_answer_whatever_ran_before(
    judged: AssessmentResult, tiny_weights: Path, tiny_scan: dict[str, Volume]
) -> None:
    models = load_models(tiny_weights)
    assess_scan("other", tiny_scan["t1"], None, None, models, InferenceSettings(passes=2, seed=9))
    again = assess_scan("sub-1", tiny_scan["flair"], tiny_scan["t1"], None, models, SETTINGS)
    assert again.assessment.scores == judged.assessment.scores
    for name, volume in judged.volumes.items():
        np.testing.assert_array_equal(again.volumes[name].voxels, volume.voxels)


def test_a_given_mask_is_judged_in_its_native_grid(tiny_weights: Path, tiny_scan: dict[str, Volume]) -> None:
    mask = bright(tiny_scan["flair"])
    result = assess_scan("sub-1", tiny_scan["flair"], None, mask, load_models(tiny_weights), SETTINGS)
    assert result.assessment.volumes_ml["judged_mask"] == pytest.approx(mask.voxels.sum() * mask.geometry.voxel_volume_ml)
    np.testing.assert_array_equal(result.volumes["input_mask"].voxels, mask.voxels)
    assert any("no T1w" in warning for warning in result.assessment.warnings)


def test_an_empty_mask_is_judged_and_said_so(tiny_weights: Path, tiny_scan: dict[str, Volume]) -> None:
    mask = tiny_scan["flair"].with_voxels(np.zeros(tiny_scan["flair"].shape, dtype=bool))
    result = assess_scan("sub-1", tiny_scan["flair"], tiny_scan["t1"], mask, load_models(tiny_weights), SETTINGS)
    assert any("empty" in warning for warning in result.assessment.warnings)
    assert result.assessment.scores["mean_foreground_entropy"] is None
    assert result.assessment.volumes_ml["judged_mask"] == 0.0
    assert result.assessment.verdict != "accept"
    assert result.assessment.predicted_dice == result.assessment.scores["agreement_mean"]


@pytest.mark.parametrize("name", ["t1", "mask"])
def test_another_grid_is_refused(name: str, tiny_weights: Path, tiny_scan: dict[str, Volume]) -> None:
    moved = tiny_scan["flair"].affine.copy()
    moved[0, 3] += 1.0
    other = Volume(
        tiny_scan["t1"].voxels > 0 if name == "mask" else tiny_scan["t1"].voxels, Geometry(tiny_scan["t1"].shape, moved)
    )
    given = {"t1": None, "mask": None, name: other}
    with pytest.raises(GeometryError, match=r"grid is .* the FLAIR's is"):
        assess_scan("sub-1", tiny_scan["flair"], given["t1"], given["mask"], load_models(tiny_weights), SETTINGS)


def test_weights_for_different_cubes_are_refused(tiny_weights: Path) -> None:
    card = read_card(tiny_weights, "regressor-image").model_dump(exclude={"sha256"})
    save_network(tiny_weights, RegressionNet(**card["arguments"]), {**card, "grid": 64})
    with pytest.raises(WeightsError, match="different cubes"):
        load_models(tiny_weights)


def test_how_much_a_look_is_worth() -> None:
    known = CalibrationSet(source="", simulated=True, patients=20, predicted=(0.5,) * 20, spread=(0.1,) * 20, dice=(0.6,) * 20)

    def chance_and_gain(predicted: float, mask: Mask, is_known: bool = True) -> tuple[float | None, ...]:
        mask_analysis = SimpleNamespace(mask=mask)
        decision = SimpleNamespace(mask_analysis=mask_analysis, predicted_dice=predicted, spread=0.1)
        return tuple(worth(decision, known, 0.75, is_known).values())

    full, empty = np.ones((2, 2, 2), bool), np.zeros((2, 2, 2), bool)
    # All residuals are one spread above the prediction.
    assert chance_and_gain(0.5, full) == pytest.approx((1.0, 0.15))
    assert chance_and_gain(0.7, full) == pytest.approx((0.0, 0.0))
    assert chance_and_gain(0.4, empty) == pytest.approx((0.6, 0.45))
    assert chance_and_gain(0.7, full, is_known=False) == pytest.approx((0.75, 0.28125))
    assert chance_and_gain(0.1, full, is_known=False) == pytest.approx((1.0, 0.55))


def test_what_class_of_quality_a_mask_is_likely_of() -> None:
    known = CalibrationSet(source="", simulated=True, patients=40, predicted=(0.5,) * 40, spread=(0.1,) * 40, dice=(0.5,) * 40)

    def chances(predicted: float, mask: Mask, is_known: bool = True, calibration: CalibrationSet = known) -> list[float]:
        decision = SimpleNamespace(mask_analysis=SimpleNamespace(mask=mask), predicted_dice=predicted, spread=0.1)
        return list(quality_chances(decision, calibration, is_known).values())  # type: ignore[arg-type]

    full, empty = np.ones((2, 2, 2), bool), np.zeros((2, 2, 2), bool)
    assert chances(0.8, full) == pytest.approx([1 / 43, 1 / 43, 41 / 43], abs=1e-4)
    assert chances(0.6, full) == pytest.approx([1 / 43, 41 / 43, 1 / 43], abs=1e-4)
    assert chances(0.3, empty) == pytest.approx([0.7, 0.0, 0.3])
    assert chances(0.9, full, is_known=False) == pytest.approx([0.5, 0.25, 0.25])
    few = CalibrationSet(source="", simulated=True, patients=1, predicted=(0.5,), spread=(0.1,), dice=(0.5,))
    assert chances(0.8, full, calibration=few) == []


def test_what_two_masks_draw_alike_goes_before_a_third() -> None:
    rng = np.random.default_rng(0)
    first, alone = rng.random((6, 6, 6)) > 0.5, rng.random((6, 6, 6)) > 0.5
    masks = {"alone": alone, "first": first, "again": first.copy(), "none": np.zeros((6, 6, 6), bool)}
    predicted = {"alone": 0.62, "first": 0.6, "again": 0.59, "none": 0.0}
    decisions = [
        Decision(SimpleNamespace(name=name, mask=mask), predicted[name], 0.1, (0.0, 1.0), "review", {}, "neither")
        for name, mask in masks.items()
    ]
    ranked = rank(decisions)
    assert [decision.mask_analysis.name for decision, _ in ranked] == ["first", "again", "alone", "none"]
    agreement = {decision.mask_analysis.name: value for decision, value in ranked}
    assert agreement["none"] == 0 and agreement["first"] > agreement["alone"] > 0
    assert [decision.mask_analysis.name for decision, _ in rank(decisions[:2])] == ["alone", "first"]
    assert rank(decisions[:1]) == [(decisions[0], 0.0)]
