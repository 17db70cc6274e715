"""Examples from real and simulated scans, and damaged masks."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from veridice.case import Case
from veridice.errors import GeometryError, InputError
from veridice.imaging.volume import Geometry, Volume
from veridice.io.datasets import read_manifest
from veridice.io.labelled_scan import read_labelled
from veridice.io.nifti import write_image
from veridice.metrics.overlap import dice
from veridice.training.examples import (
    CubeCase,
    ExampleStream,
    TrainingMaterial,
    planned_patients,
    prepare_material,
    real_groups,
    validation_examples,
)
from veridice.training.mask_errors import damage_mask
from veridice.training.regressor_examples import Segmenters
from veridice.training.settings import DataSettings

HALVES = (slice(0, 4), slice(4, 8))
SETTINGS = DataSettings(grid=16, artefact=0.3, jobs=1)


def prepare(cases: Sequence[Case], folder: Path, settings: DataSettings = SETTINGS) -> TrainingMaterial:
    return prepare_material(cases, [], settings, folder / "cubes", lambda: None)


@pytest.fixture
def material(study: Path) -> TrainingMaterial:
    cases = read_manifest(study / "manifest.csv", study)
    return prepare([case for case in cases if case.split == "train"], study)


def test_a_scan_with_a_brain_mask_is_taken_whole_and_stripped(material: TrainingMaterial) -> None:
    assert [scan.id for scan in material.real] == ["scan-train", "scan-train-stripped"]


def test_a_cube_is_made_once_and_again_when_its_scan_changes(study: Path) -> None:
    cases = [case for case in read_manifest(study / "manifest.csv", study) if case.split == "train"]
    first = prepare(cases, study).real[0].file
    made = first.stat().st_mtime_ns
    assert prepare(cases, study).real[0].file.stat().st_mtime_ns == made
    (study / "mask.nii.gz").write_bytes((study / "brain.nii.gz").read_bytes())
    assert prepare(cases, study).real[0].file != first


@pytest.mark.slow
def test_simulated_patients_come_to_the_cube_with_their_truth(tmp_path: Path) -> None:
    settings = DataSettings(grid=32, simulated_patients=1, jobs=1)
    (plan,) = planned_patients("train", settings)
    ticks: list[int] = []
    for _ in range(2):
        material = prepare_material([], [plan], settings, tmp_path, lambda: ticks.append(1))
    assert len(ticks) == 2
    (case,) = material.simulated
    scan = case.read()
    assert case.donors == plan.donors
    assert scan["images"].shape == (2, 32, 32, 32)
    assert scan["images"].max() > 0.9
    inside = scan["target"][0] > 0.5
    assert scan["images"][0][inside].mean() > scan["images"][0][scan["images"][0] > 0].mean()


def test_groups_share_nobody_and_left_out_ones_are_not_drawn() -> None:
    groups = ("lesjak-01,lesjak-09,x", "mni152,lesjak-10")
    settings = DataSettings(simulated_patients=8, donor_groups=groups)
    people = [{name for plan in planned_patients("train", settings)[part] for name in plan.donors} for part in HALVES]
    assert not people[0] & people[1]
    left = settings.model_copy(update={"left_out": (1,)})
    assert planned_patients("train", left) == planned_patients("train", settings)[HALVES[0]]
    assert real_groups([Case(id="a", patient="x"), Case(id="b", patient="mni152")], settings) == {"x": 0, "mni152": 1}


def test_real_patients_of_a_left_out_group_are_not_taken(study: Path) -> None:
    cases = [case for case in read_manifest(study / "manifest.csv", study) if case.split == "train"]
    settings = SETTINGS.model_copy(update={"donor_groups": ("lesjak-01", "mni152,a-train"), "left_out": (1,)})
    with pytest.raises(InputError, match="no scans"):
        prepare(cases, study, settings)


def test_validation_patients_are_of_other_people() -> None:
    settings = DataSettings(simulated_patients=30, simulated_validation=10)
    train, validation = ({d for p in planned_patients(s, settings) for d in p.donors} for s in ("train", "validation"))
    assert not train & validation


def test_a_segmentation_for_the_regressors_is_made_by_somebody_who_never_saw_the_patient() -> None:
    final, best, poor = (torch.nn.Identity() for _ in range(3))
    segmenters = Segmenters(final, {1: (best, poor)})
    rng = np.random.default_rng(0)
    assert {segmenters.draw(0, rng) for _ in range(20)} == {final}
    drawn = [segmenters.draw(1, rng) for _ in range(200)]
    assert set(drawn) == {best, poor}
    assert 0.25 < drawn.count(poor) / 200 < 0.55


def test_example_i_depends_on_seed_and_i_alone(material: TrainingMaterial) -> None:
    streams = [ExampleStream(material, SETTINGS, 12, seed, 10) for seed in (0, 0, 1)]
    torch.manual_seed(77)
    _ = streams[1][3]
    first, again, other = streams[0][5], streams[1][5], streams[2][5]
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["images"], other["images"])


def test_examples_are_in_range(material: TrainingMaterial) -> None:
    stream = ExampleStream(material, SETTINGS, 12, 0, 30)
    t1_absent = 0
    for index in range(30):
        example = stream[index]
        assert example["images"].shape == (2, 12, 12, 12)
        assert 0 <= example["images"].min() <= example["images"].max() <= 1
        assert set(example["target"].unique().tolist()) <= {0.0, 1.0}
        assert not (example["target"].bool() & example["ignored"].bool()).any()
        t1_absent += int(example["images"][1].max() == 0)
    assert 0 < t1_absent < 20


def test_soft_labels_are_the_shares_of_the_cube(tmp_path: Path) -> None:
    channels = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "cube.npy", channels)
    material = TrainingMaterial((CubeCase("a", ("a",), simulated=False, group=0, file=tmp_path / "cube.npy"),), ())
    straight = SETTINGS.model_copy(update={"turned_fraction": 0.0})
    share = torch.from_numpy(channels[2:3]).float() / 255
    for soft, expected in ((True, share), (False, (share >= 0.5).float())):
        stream = ExampleStream(material, straight.model_copy(update={"soft_labels": soft}), 0, 0, 4)
        for index in range(4):
            lesion = stream[index]["target"]
            assert torch.equal(lesion, expected) or torch.equal(lesion.flip(1), expected)


@pytest.mark.parametrize(("crop", "edge"), [(12, 12), (0, 16)])
def test_patches_or_whole_cubes(material: TrainingMaterial, crop: int, edge: int) -> None:
    assert ExampleStream(material, SETTINGS, crop, 0, 4)[1]["images"].shape[1:] == (edge,) * 3


def test_validation_examples_never_change(material: TrainingMaterial) -> None:
    first, second = (validation_examples(material) for _ in range(2))
    assert len(first) == 2
    assert all(torch.equal(a["images"], b["images"]) for a, b in zip(first, second, strict=True))


def test_incomplete_cases_and_an_empty_split_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no scans"):
        prepare([], tmp_path)
    with pytest.raises(InputError, match="column 'flair'"):
        prepare([Case(id="a")], tmp_path)


def test_real_and_simulated_scans_are_mixed_as_asked(tmp_path: Path) -> None:
    real, simulated = (CubeCase(name, (), name == "s", 0, tmp_path) for name in "rs")
    rng = np.random.default_rng(0)
    drawn = [TrainingMaterial((real,), (simulated,)).draw(0.7, rng).id for _ in range(500)]
    assert drawn.count("s") / 500 == pytest.approx(0.7, abs=0.06)
    assert TrainingMaterial((real,), ()).draw(1.0, rng) is real
    assert TrainingMaterial((), (simulated,)).draw(0.0, rng) is simulated


def test_damaged_masks_are_of_every_quality() -> None:
    grid = np.stack(np.meshgrid(*[np.arange(32)] * 3, indexing="ij"))
    truth = np.zeros((32, 32, 32), dtype=bool)
    for centre, radius in (((10, 10, 10), 4), ((20, 12, 16), 3), ((14, 22, 20), 5)):
        truth |= ((grid - np.array(centre)[:, None, None, None]) ** 2).sum(axis=0) < radius**2
    scores = [dice(damage_mask(truth, np.random.default_rng(seed)), truth).dice for seed in range(60)]
    assert min(scores) < 0.4
    assert max(scores) > 0.8
    assert np.std(scores) > 0.15


def test_examples_depend_on_no_global_state_and_leave_it_alone(material: TrainingMaterial) -> None:
    stream = ExampleStream(material, DataSettings(grid=16, artefact=1.0), 12, 0, 10)
    drawn = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        np.random.seed(noise)
        random.seed(noise)
        before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
        drawn.append([stream[index]["images"] for index in (4, 0, 7)])
        assert torch.equal(torch.get_rng_state(), before[0])
        np.testing.assert_array_equal(np.random.get_state()[1], before[1])
        assert random.getstate() == before[2]
    assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True))


@pytest.mark.parametrize(("share", "blank"), [(0.0, 0), (1.0, 8)])
def test_t1_is_withheld_as_often_as_asked(material: TrainingMaterial, share: float, blank: int) -> None:
    stream = ExampleStream(material, DataSettings(grid=16, t1_absent=share, artefact=0.0), 0, 0, 8)
    assert sum(int(stream[index]["images"][1].max() == 0) for index in range(8)) == blank


def test_real_validation_scans_are_shown_as_they_are(material: TrainingMaterial) -> None:
    for example, scan in zip(validation_examples(material), material.real, strict=True):
        cube = np.load(scan.file).astype(np.float32) / 255
        np.testing.assert_array_equal(example["images"].numpy(), cube[:2])
        np.testing.assert_array_equal(example["ignored"][0].numpy() > 0, cube[3] >= 0.5)


def files_of(folder: Path, **images: Volume) -> dict[str, Path]:
    for name, image in images.items():
        write_image(folder / f"{name}.nii.gz", image)
    return {name: folder / f"{name}.nii.gz" for name in images}


def test_unlabelled_voxels_near_the_ventricles_are_ignored(tmp_path: Path) -> None:
    """On a cube that is the scan itself, against a loop over all pairs of voxels."""
    geometry = Geometry((16, 16, 16), np.diag([1.0, 1.0, 3.0, 1.0]))
    ventricles, lesion = np.zeros((2, 16, 16, 16), dtype=bool)
    ventricles[7:9, 8, 8], lesion[10, 8:10, 8] = True, True
    brightness = np.random.default_rng(0).uniform(50, 100, geometry.shape).astype(np.float32)
    flair = Volume(np.where(ventricles, 20, brightness).astype(np.float32), geometry)
    masks = {"ventricles": flair.with_voxels(ventricles), "mask": flair.with_voxels(lesion)}
    brain = flair.with_voxels(np.ones(geometry.shape, dtype=bool))
    case = Case(id="a", **files_of(tmp_path, flair=flair, t1=flair, brain_mask=brain, **masks))
    stripped = prepare([case], tmp_path, DataSettings(grid=16, rim_mm=3.0)).real[1].read()
    near = np.zeros(geometry.shape, dtype=bool)
    for index in np.ndindex(16, 16, 16):
        distances = [np.linalg.norm((np.array(index) - other) * (1, 1, 3)) for other in np.argwhere(ventricles)]
        near[index] = min(distances) <= 3.0
    np.testing.assert_array_equal(stripped["ignored"][0].numpy() >= 0.5, near & ~ventricles & ~lesion)
    np.testing.assert_array_equal(stripped["target"][0].numpy() >= 0.5, lesion)


def test_a_ventricle_mask_that_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    geometry = Geometry((16, 16, 16), np.eye(4))
    voxels = np.full(geometry.shape, 80, np.float32)
    voxels[6:10, 6:10, 6:10] = 20
    flair = Volume(voxels, geometry)
    masks = {"ventricles": flair.with_voxels(np.roll(voxels < 50, 5, axis=0)), "mask": flair.with_voxels(voxels > 100)}
    with pytest.raises(InputError, match=r"ventricles.nii.gz: not on the ventricles"):
        read_labelled(Case(id="a", **files_of(tmp_path, flair=flair, **masks)), False, rim_mm=4.0)


def test_voxels_of_another_label_are_ignored(tmp_path: Path) -> None:
    geometry = Geometry((16, 16, 16), np.diag([1.0, 1.0, 3.0, 1.0]))
    flair = Volume(np.random.default_rng(0).uniform(50, 100, geometry.shape).astype(np.float32), geometry)
    labels = np.zeros(geometry.shape, np.uint8)
    labels[4:7, 8, 8], labels[10, 8:11, 8] = 1, 2
    brain = flair.with_voxels(np.ones(geometry.shape, dtype=bool))
    files = files_of(tmp_path, flair=flair, mask=flair.with_voxels(labels), brain_mask=brain)
    case = Case("a", ignored_label=2, **files)
    stripped = prepare([case], tmp_path, DataSettings(grid=16)).real[1].read()
    np.testing.assert_array_equal(stripped["target"][0].numpy() >= 0.5, labels == 1)
    np.testing.assert_array_equal(stripped["ignored"][0].numpy() >= 0.5, labels == 2)
    with pytest.raises(InputError, match="not a binary mask"):
        prepare([Case("a", **files)], tmp_path / "other", DataSettings(grid=16))


def test_a_t1_on_another_grid_is_refused(tiny_scan: dict[str, Volume], tmp_path: Path) -> None:
    """Otherwise its voxels are taken for the FLAIR's, and the network learns from images that do not match."""
    flair = tiny_scan["flair"]
    moved = flair.affine.copy()
    moved[:3, 3] += 25
    t1 = Volume(tiny_scan["t1"].voxels, Geometry(flair.shape, moved))
    files = files_of(tmp_path, flair=flair, t1=t1, mask=flair.with_voxels(flair.voxels > 750))
    with pytest.raises(GeometryError, match=r"t1\.nii\.gz"):
        prepare([Case(id="a", **files)], tmp_path)


def test_an_empty_brain_mask_in_a_manifest_is_refused(tiny_scan: dict[str, Volume], tmp_path: Path) -> None:
    flair = tiny_scan["flair"]
    masks = {"mask": flair.with_voxels(flair.voxels > 750), "brain_mask": flair.with_voxels(flair.voxels > 1e9)}
    with pytest.raises(InputError):
        prepare([Case(id="a", **files_of(tmp_path, **tiny_scan, **masks))], tmp_path)
