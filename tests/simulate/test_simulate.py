"""Simulated patients: what is drawn, where lesions go, what the scanner makes of them, and that it all repeats."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from veridice.config import LESION
from veridice.errors import ConfigError, InputError
from veridice.simulate.acquisition import acquire, sample
from veridice.simulate.anatomy import Anatomy, Head, shape_head
from veridice.simulate.cohorts import COHORTS
from veridice.simulate.donors import MORE_DONORS, all_donors, choose_donors, load_anatomy, load_lesions
from veridice.simulate.fields import distance_mm, enlarge, smooth_field
from veridice.simulate.lesions import make_lesions
from veridice.simulate.patient import SimulatedPatient, simulate_patient
from veridice.simulate.plan import LesionPlan, PatientPlan, draw_plan
from veridice.simulate.scanners import SCANNERS, AcquisitionPlan
from veridice.simulate.severity import RANGES, SEVERITIES

TRAINING = choose_donors("training")


def plan_of(severity: str, index: int = 0, **changes: object) -> PatientPlan:
    plan = draw_plan(index, 5, severity, "any", TRAINING)  # type: ignore[arg-type]
    return plan.model_copy(update=changes)


@pytest.fixture(scope="module")
def anatomy() -> Anatomy:
    return load_anatomy(next(donor for donor in TRAINING if donor.name == "anatomy-03"))


@pytest.fixture(scope="module")
def head(anatomy: Anatomy) -> Head:
    return shape_head(anatomy, plan_of("ordinary").deformation)


@pytest.fixture(scope="module")
def patient() -> SimulatedPatient:
    # As a plan comes back from the file of a cohort.
    plan = plan_of("easy", whole_head=False)
    return simulate_patient(PatientPlan.model_validate_json(plan.model_dump_json()))


# What is drawn


def test_the_same_arguments_draw_the_same_plan_and_it_survives_json() -> None:
    first, second = (draw_plan(3, 9, "hard", "any", TRAINING) for _ in range(2))
    assert first == second
    assert PatientPlan.model_validate_json(first.model_dump_json()) == first
    assert draw_plan(4, 9, "hard", "any", TRAINING) != first
    assert draw_plan(3, 10, "hard", "any", TRAINING) != first


@pytest.mark.parametrize("name", [name for name in COHORTS if name != "many-brains"])
def test_cohorts_take_their_own_donors_only(name: str) -> None:
    split = {donor.name: donor.split for donor in all_donors()}
    cohort = COHORTS[name]
    seen = {split[donor] for index in range(40) for donor in cohort.plan(index).donors}
    assert seen == {cohort.donors}


def test_brains_in_turn_are_each_taken_once() -> None:
    cohort = replace(COHORTS["paper-sim"], brains_in_turn=True)
    brains = [donor.name for donor in choose_donors("reserved") if donor.kind == "anatomy"]
    assert [cohort.plan(index).anatomy for index in range(2 * len(brains))] == brains * 2
    assert len({donor for index in range(40) for donor in cohort.plan(index).lesions.donors}) > 3


def test_nobody_is_in_two_splits_and_the_demo_is_in_none() -> None:
    splits: dict[str, set[str]] = {}
    for donor in all_donors():
        splits.setdefault(donor.person, set()).add(donor.split)
    assert all(len(found) == 1 for found in splits.values())
    assert "lesjak-19" not in splits
    reserved = {person for person, found in splits.items() if found == {"reserved"}}
    assert reserved == {f"lesjak-{n:02d}" for n in (5, 6, 8, 20, 21, 22, 23, 24, 25, 27, 28, 29, 30)}


def test_paper_sim_has_the_groups_and_grids_of_table_3() -> None:
    cohort = COHORTS["paper-sim"]
    plans = [cohort.plan(index) for index in range(cohort.patients)]
    assert list(Counter(plan.scanner for plan in plans).values()) == [20, 20, 20, 5, 5, 5, 30]
    for plan in plans:
        assert plan.flair_acquisition.voxel_spacing == SCANNERS[plan.scanner].flair.voxel_spacing
        assert plan.t1_acquisition.matrix == SCANNERS[plan.scanner].t1.matrix


def test_loads_have_the_long_tail_of_real_cohorts() -> None:
    loads = np.array([COHORTS["training"].plan(index).lesions.load_ml for index in range(600)])
    assert loads.min() == 0
    assert 0.2 < (loads < 3).mean() < 0.5
    assert 0.02 < (loads > 40).mean() < 0.2
    assert loads.max() <= 130


def test_severities_get_harder() -> None:
    ranges = [RANGES[severity] for severity in SEVERITIES]
    for name in ("snr", "lesion_to_grey"):
        middles = [np.mean(getattr(r, name)) for r in ranges]
        assert middles == sorted(middles, reverse=True)
    for name in ("texture", "bias", "penumbra", "border_mm"):
        middles = [np.mean(getattr(r, name)) for r in ranges]
        assert middles == sorted(middles)


@pytest.mark.parametrize(("selection", "message"), [("nobody", "unknown"), ("lesjak-20", "none of them has anatomy")])
def test_donors_that_cannot_make_a_patient(selection: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_donors(selection)


def test_more_donors_come_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are in cohorts of their own, so that no cohort that ships changes with them."""
    shipped = all_donors()
    labels = np.zeros((134, 168, 150), np.uint8)
    labels[40:90, 40:120, 40:110] = 3
    labels[60:70, 80:90, 70:80] = 4
    nib.save(nib.Nifti1Image(labels, np.eye(4)), tmp_path / "anatomy-new.nii.gz")
    lines = ["person,kind,split,file,flair,t1", "new,anatomy,more-calibration,anatomy-new.nii.gz,,"]
    (tmp_path / "donors.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.setenv(MORE_DONORS, str(tmp_path))
    all_donors.cache_clear()
    try:
        assert [donor.name for donor in set(all_donors()) - set(shipped)] == ["anatomy-new"]
        chosen = choose_donors("more-calibration,lesjak-05")
        assert {donor.person for donor in chosen} == {"new", "lesjak-05"}
        fluid, _, white, ventricles = load_anatomy(next(donor for donor in chosen if donor.person == "new")).shares
        assert white.max() == 255
        # Marked ventricles are taken as they are, and are fluid.
        np.testing.assert_array_equal(ventricles >= 128, labels == 4)
        np.testing.assert_array_equal(fluid, ventricles)
        monkeypatch.setenv(MORE_DONORS, str(tmp_path / "absent"))
        all_donors.cache_clear()
        with pytest.raises(InputError, match="no donors there"):
            all_donors()
    finally:
        monkeypatch.delenv(MORE_DONORS)
        all_donors.cache_clear()


# Fields


def test_enlarged_fields_pass_through_their_lattice() -> None:
    coarse = np.random.default_rng(1).random((3, 4, 3))
    assert np.allclose(enlarge(coarse, (9, 13, 9), 4)[::4, ::4, ::4], coarse)


def test_smooth_fields_have_about_unit_deviation() -> None:
    field = smooth_field((60, 60, 60), 6.0, np.random.default_rng(2))
    assert abs(float(field.mean())) < 0.1
    assert 0.7 < float(field.std()) < 1.1
    assert np.abs(np.diff(field, axis=0)).max() < 1.45


def test_distances_are_close_to_exact_ones() -> None:
    ball = np.linalg.norm(np.mgrid[:40, :40, :40] - 20.0, axis=0) < 15
    exact = ndimage.distance_transform_edt(ball)
    assert np.abs(distance_mm(ball) - exact)[ball].max() < 3


# Anatomy and lesions


def test_tissues_fill_the_brain_and_nothing_else(head: Head) -> None:
    total = head.fluid + head.grey + head.white
    assert total.max() < 1.05
    deep = head.depth > 6
    assert total[deep].min() > 0.95
    assert (head.ventricles <= head.fluid + 0.05).all()
    litres = head.brain.sum() / 1e6
    assert 0.9 < litres < 2.2


@pytest.mark.slow
def test_ventricles_grow_with_their_plan(anatomy: Anatomy, head: Head) -> None:
    plan = plan_of("ordinary").deformation
    grown = shape_head(anatomy, plan.model_copy(update={"ventricle_mm": plan.ventricle_mm + 4}))
    assert grown.ventricles.sum() > 1.3 * head.ventricles.sum()


def test_atrophy_turns_grey_matter_into_fluid(anatomy: Anatomy, head: Head) -> None:
    plan = plan_of("ordinary").deformation
    much = shape_head(anatomy, plan.model_copy(update={"atrophy": plan.atrophy + 0.6}))
    assert much.grey.sum() < 0.9 * head.grey.sum()
    assert np.allclose(much.grey + much.fluid, head.grey + head.fluid, atol=1e-4)


@pytest.fixture(scope="module")
def lesions_of(head: Head) -> Callable[[float, str], np.ndarray]:
    """Lesions of a load and a style, each made once."""

    @cache
    def made(load: float, style: str) -> np.ndarray:
        return make_lesions(head, planned(load, style))

    return made


def planned(load: float, style: str) -> LesionPlan:
    donors = {"donors": ("lesions-01", "lesions-12"), "mirrored": (True, False), "grown": 60}
    return plan_of("ordinary").lesions.model_copy(update={"load_ml": load, "style": style, **donors})


@pytest.mark.parametrize(("load", "style"), [(0.3, "sclerosis"), (5.0, "ageing"), (60.0, "sclerosis"), (60.0, "ageing")])
def test_lesions_reach_the_planned_load_inside_the_brain(
    head: Head, lesions_of: Callable[[float, str], np.ndarray], load: float, style: str
) -> None:
    lesion = lesions_of(load, style)
    assert float((lesion >= 0.5).sum()) / 1000 == pytest.approx(load, rel=0.5)
    assert (lesion[~head.brain] < 0.5).all()
    assert (lesion[head.ventricles >= 0.5] == 0).all()


def test_the_same_plan_gives_the_same_lesions(head: Head, lesions_of: Callable[[float, str], np.ndarray]) -> None:
    assert np.array_equal(make_lesions(head, planned(5.0, "ageing")), lesions_of(5.0, "ageing"))


@pytest.mark.parametrize("load", [5.0, 60.0])
def test_no_true_lesion_is_a_thin_rim_of_the_ventricles(
    head: Head, lesions_of: Callable[[float, str], np.ndarray], load: float
) -> None:
    lesion = lesions_of(load, "ageing") >= 0.5
    padded = np.pad(lesion, 1)
    beside = [np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1] for axis in range(3) for step in (-1, 1)]
    cores = np.argwhere(lesion & np.all(beside, axis=0))
    wall = head.ventricle_distance <= 3
    at_the_wall = np.argwhere(lesion & wall)
    # One step from a core to its arms, two more around them.
    thin = at_the_wall[cKDTree(cores).query(at_the_wall, p=1)[0] > 3]
    feet, number = ndimage.label(_marked(thin, lesion.shape))
    for foot in (feet == n + 1 for n in range(number)):
        assert foot.sum() <= 60
        assert (ndimage.binary_dilation(foot) & lesion & ~wall).any()


def test_lesions_are_not_smaller_than_ten_voxels(lesions_of: Callable[[float, str], np.ndarray]) -> None:
    labels, _ = ndimage.label(lesions_of(60.0, "sclerosis") >= 0.5)
    assert np.bincount(labels.ravel()).min() >= 10


def _marked(places: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[tuple(places.T)] = True
    return mask


def test_no_load_no_lesions(head: Head) -> None:
    assert make_lesions(head, plan_of("ordinary").lesions.model_copy(update={"load_ml": 0.0})).max() == 0


@pytest.mark.slow
def test_lesions_beside_the_edge_of_the_canvas_are_cut_not_lost(head: Head) -> None:
    plan = plan_of("ordinary").lesions.model_copy(update={"load_ml": 120.0, "grown": 300, "donors": (), "mirrored": ()})
    assert (make_lesions(head, plan) >= 0.5).sum() > 80_000


# The scanner


def acquisition(**changes: object) -> AcquisitionPlan:
    plain = {
        "voxel_spacing": (1.0, 1.0, 4.0),
        "matrix": (20, 24, 6),
        "slice_axis": 2,
        "orientation": "RAS",
        "tilt": (0.0, 0.0, 0.0),
        "snr": 1e6,
        "bias": 0.0,
        "gibbs": 0.0,
        "motion": 0.0,
        "ghosting": 0.0,
        "spike": 0.0,
        "scale": 1000.0,
        "seed": 1,
    }
    return AcquisitionPlan.model_validate({**plain, **changes})


def test_thick_slices_are_means_of_thin_ones() -> None:
    canvas = np.random.default_rng(0).random((20, 24, 24)).astype(np.float32)
    taken = sample(canvas, acquisition())
    assert np.allclose(taken, canvas.reshape(20, 24, 6, 4).mean(axis=3), atol=1e-6)


def test_a_wider_field_of_view_shows_air_and_keeps_the_middle() -> None:
    canvas = np.ones((10, 10, 10), np.float32)
    taken = sample(canvas, acquisition(voxel_spacing=(1.0, 1.0, 1.0), matrix=(14, 12, 10)))
    assert taken[2:-2, 1:-1].min() == 1
    assert taken[:2].max() == taken[-2:].max() == 0


@pytest.mark.parametrize("orientation", ["RAS", "LAS", "LPS", "PIR"])
@pytest.mark.parametrize("tilt", [(0.0, 0.0, 0.0), (0.1, -0.05, 0.2)])
def test_orientation_and_tilt_change_the_array_not_the_place(orientation: str, tilt: tuple[float, ...]) -> None:
    canvas = np.zeros((21, 25, 25), np.float32)
    canvas[14, 5, 18] = 1
    plain = acquisition(voxel_spacing=(1.0, 1.0, 1.0), matrix=(21, 25, 25), tilt=tilt)
    places = []
    for codes in ("RAS", orientation):
        stored = acquire(canvas, plain.model_copy(update={"orientation": codes}), None)
        assert "".join(nib.aff2axcodes(stored.affine)) == codes
        brightest = np.unravel_index(stored.voxels.argmax(), stored.shape)
        places.append(stored.affine[:3, :3] @ brightest + stored.affine[:3, 3])
    assert np.allclose(places[0], places[1], atol=1e-4)


def test_noise_has_the_planned_size() -> None:
    canvas = np.ones((40, 40, 40), np.float32)
    plan = acquisition(voxel_spacing=(1.0, 1.0, 1.0), matrix=(40, 40, 40), snr=20.0)
    taken = acquire(canvas, plan, None)
    assert taken.voxels.dtype == np.int16
    assert float(taken.voxels.std()) == pytest.approx(1000 / 20, rel=0.05)


@pytest.mark.parametrize("artefact", [{"motion": 4.0}, {"ghosting": 0.5}, {"spike": 0.2}, {"gibbs": 0.4}, {"bias": 0.5}])
def test_every_imperfection_shows_and_repeats(artefact: dict[str, float]) -> None:
    canvas = ndimage.gaussian_filter(np.random.default_rng(0).random((32, 32, 32)), 1).astype(np.float32)
    plan = acquisition(voxel_spacing=(1.0, 1.0, 2.0), matrix=(32, 32, 16), **artefact)
    clean = acquire(canvas, acquisition(voxel_spacing=(1.0, 1.0, 2.0), matrix=(32, 32, 16)), None)
    first, second = (acquire(canvas, plan, None) for _ in range(2))
    assert np.array_equal(first.voxels, second.voxels)
    assert np.abs(first.voxels.astype(int) - clean.voxels).max() > 20


# Whole patients


def test_a_stripped_patient_is_dark_outside_and_lesions_are_bright(patient: SimulatedPatient) -> None:
    flair, lesions, brain = patient.flair.voxels, patient.lesions.voxels > 0, patient.brain.voxels > 0
    assert patient.flair.geometry.same_grid(patient.lesions.geometry)
    assert not flair[~brain].any()
    assert not (lesions & ~brain).any()
    ring = ndimage.binary_dilation(lesions, iterations=4) & ~ndimage.binary_dilation(lesions, iterations=2) & brain
    assert flair[lesions].mean() > 1.15 * flair[ring].mean()
    assert patient.lesion_load_ml == pytest.approx(patient.plan.lesions.load_ml, rel=0.6)


def test_a_patient_has_the_mask_that_a_task_asks_for(patient: SimulatedPatient) -> None:
    """Ventricles are dark on the FLAIR and the T1w, deep in the brain, and hold a few per cent of it."""
    asked = LESION.model_copy(update={"name": "ventricles", "target": "ventricles"})
    ventricles, brain = patient.truth_of(asked).voxels > 0, patient.brain.voxels > 0
    assert patient.truth_of(LESION) is patient.lesions
    assert 0.002 < ventricles.sum() / brain.sum() < 0.15 and not (ventricles & ~brain).any()
    assert patient.flair.voxels[ventricles].mean() < 0.7 * patient.flair.voxels[brain].mean()
    with pytest.raises(ConfigError, match="simulated_patients = 0"):
        patient.truth_of(LESION.model_copy(update={"name": "x", "target": "putamen"}))


def test_this_patient_is_the_same_everywhere(patient: SimulatedPatient) -> None:
    """Parameters and masks to the bit, intensities on the average, as they were when this was written."""
    assert checksum(patient.plan.model_dump_json().encode()) == "e0a98099eb8fa1eb"
    assert checksum(patient.lesions.voxels.tobytes(order="C")) == "77ee12c17be6eeb2"
    assert checksum(patient.brain.voxels.tobytes(order="C")) == "8ed4b052b7ae8e9e"
    assert float(patient.flair.voxels.mean()) == pytest.approx(175.634, abs=0.05)
    assert float(patient.t1.voxels.mean()) == pytest.approx(228.009, abs=0.05)


def checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def test_donated_lesions_are_whole() -> None:
    assert load_lesions(next(d for d in TRAINING if d.name == "lesions-07")).max() == 255
