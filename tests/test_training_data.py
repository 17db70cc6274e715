"""Examples, painted scans and damaged masks."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from veridice.case import Case
from veridice.config import DataSettings
from veridice.errors import GeometryError, InputError
from veridice.io.datasets import read_manifest
from veridice.io.nifti import write_image
from veridice.overlap import dice
from veridice.quality_data import damage_mask
from veridice.simulate import draw_contrasts, insert_lesions, paint_scan
from veridice.training_data import ExampleStream, TrainingMaterial, prepare_material, validation_examples
from veridice.volume import Geometry, Volume

SETTINGS = DataSettings(grid=16, artefact=0.3, simulated_validation=2)


@pytest.fixture
def material(study: Path) -> TrainingMaterial:
    cases = read_manifest(study / "manifest.csv", study)
    return prepare_material([case for case in cases if case.split == "train"], SETTINGS)


def test_a_scan_with_a_brain_mask_is_taken_whole_and_stripped(material: TrainingMaterial) -> None:
    assert [scan.id for scan in material.scans] == ["scan-train", "scan-train-stripped"]
    assert len(material.anatomies) == len(material.lesions) == 1


def test_own_lesions_become_white_matter(material: TrainingMaterial) -> None:
    (anatomy,) = material.anatomies
    total = anatomy.tissues.astype(np.float32).sum(axis=0)
    assert anatomy.lesion.max() > 0.5
    assert (total[anatomy.lesion > 0.5] > 0.9).all()


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
        assert set(example["lesion"].unique().tolist()) <= {0.0, 1.0}
        assert not (example["lesion"].bool() & example["ignored"].bool()).any()
        t1_absent += int(example["images"][1].max() == 0)
    assert 0 < t1_absent < 20


def test_whole_cubes_follow_the_patches(material: TrainingMaterial) -> None:
    stream = ExampleStream(material, SETTINGS, 12, 0, 4, patches=2)
    assert [stream[index]["images"].shape[1] for index in range(4)] == [12, 12, 16, 16]


def test_validation_examples_never_change(material: TrainingMaterial) -> None:
    first, second = (validation_examples(material, SETTINGS, 0) for _ in range(2))
    assert len(first) == 2 + 2
    assert all(torch.equal(a["images"], b["images"]) for a, b in zip(first, second, strict=True))


def test_an_unknown_kind_and_an_empty_split_are_refused() -> None:
    with pytest.raises(InputError, match="kind 'odd'"):
        prepare_material([Case(id="a", kind="odd")], SETTINGS)
    with pytest.raises(InputError, match="no scans"):
        prepare_material([], SETTINGS)
    with pytest.raises(InputError, match="column 'flair'"):
        prepare_material([Case(id="a")], SETTINGS)


def test_painted_lesions_are_bright_on_flair_and_darker_than_white_matter_on_t1() -> None:
    tissues = np.zeros((3, 20, 20, 20), np.float32)
    tissues[2, 2:18, 2:18, 2:18] = 1
    lesion = np.zeros((20, 20, 20), np.float32)
    lesion[8:12, 8:12, 8:12] = 1
    white = (tissues[2] > 0) & (lesion == 0)
    for seed in range(20):
        flair, t1 = paint_scan(tissues, lesion, np.random.default_rng(seed))
        assert flair[lesion > 0].mean() > flair[white].mean()
        assert t1[lesion > 0].mean() < t1[white].mean() * 1.1
        assert flair[0, 0, 0] == 0


def test_contrasts_keep_their_physical_order() -> None:
    for seed in range(50):
        flair, t1 = draw_contrasts(np.random.default_rng(seed))
        assert flair.csf < flair.white < flair.grey < flair.lesion
        assert t1.csf < t1.grey < t1.white > t1.lesion


def test_inserted_lesions_stay_in_white_matter() -> None:
    rng = np.random.default_rng(0)
    flair = rng.uniform(0.4, 0.5, (16, 16, 16)).astype(np.float32)
    white = np.zeros((16, 16, 16), dtype=bool)
    white[:8] = True
    donor = np.zeros((16, 16, 16), np.float32)
    donor[4:12, 4:8, 4:8] = 1
    changed, t1, added = insert_lesions(flair, flair, donor, white, rng)
    assert added[12:].max() == 0
    assert changed[5:7, 5:7, 5:7].mean() > flair[5:7, 5:7, 5:7].mean()
    assert t1[5:7, 5:7, 5:7].mean() < flair[5:7, 5:7, 5:7].mean()
    np.testing.assert_array_equal(changed[added == 0], flair[added == 0])


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
    for example, scan in zip(validation_examples(material, SETTINGS, 0)[:2], material.scans, strict=True):
        np.testing.assert_array_equal(example["images"].numpy(), np.stack([scan.flair, scan.t1]).astype(np.float32))
        np.testing.assert_array_equal(example["ignored"][0].numpy() > 0, scan.ignored)


def files_of(folder: Path, **images: Volume) -> dict[str, Path]:
    for name, image in images.items():
        write_image(folder / f"{name}.nii.gz", image)
    return {name: folder / f"{name}.nii.gz" for name in images}


def test_unlabelled_voxels_near_the_ventricles_are_ignored(tmp_path: Path) -> None:
    """On a cube that is the scan itself, against a loop over all pairs of voxels."""
    geometry = Geometry((16, 16, 16), np.diag([1.0, 1.0, 3.0, 1.0]))
    flair = Volume(np.random.default_rng(0).uniform(50, 100, geometry.shape).astype(np.float32), geometry)
    ventricles, lesion = np.zeros((2, 16, 16, 16), dtype=bool)
    ventricles[7:9, 8, 8], lesion[10, 8:10, 8] = True, True
    masks = {"ventricles": flair.with_voxels(ventricles), "mask": flair.with_voxels(lesion)}
    brain = flair.with_voxels(np.ones(geometry.shape, dtype=bool))
    case = Case(id="a", **files_of(tmp_path, flair=flair, t1=flair, brain_mask=brain, **masks))
    stripped = prepare_material([case], DataSettings(grid=16, rim_mm=3.0)).scans[1]
    near = np.zeros(geometry.shape, dtype=bool)
    for index in np.ndindex(16, 16, 16):
        distances = [np.linalg.norm((np.array(index) - other) * (1, 1, 3)) for other in np.argwhere(ventricles)]
        near[index] = min(distances) <= 3.0
    np.testing.assert_array_equal(stripped.ignored, near & ~ventricles & ~lesion)
    np.testing.assert_array_equal(stripped.lesion >= 0.5, lesion)


def test_a_t1_on_another_grid_is_refused(tiny_scan: dict[str, Volume], tmp_path: Path) -> None:
    """Otherwise its voxels are taken for the FLAIR's, and the network learns from images that do not match."""
    flair = tiny_scan["flair"]
    moved = flair.affine.copy()
    moved[:3, 3] += 25
    t1 = Volume(tiny_scan["t1"].voxels, Geometry(flair.shape, moved))
    files = files_of(tmp_path, flair=flair, t1=t1, mask=flair.with_voxels(flair.voxels > 750))
    with pytest.raises(GeometryError, match=r"t1\.nii\.gz"):
        prepare_material([Case(id="a", **files)], SETTINGS)


def test_an_empty_brain_mask_in_a_manifest_is_refused(tiny_scan: dict[str, Volume], tmp_path: Path) -> None:
    flair = tiny_scan["flair"]
    masks = {"mask": flair.with_voxels(flair.voxels > 750), "brain_mask": flair.with_voxels(flair.voxels > 1e9)}
    with pytest.raises(InputError):
        prepare_material([Case(id="a", **files_of(tmp_path, **tiny_scan, **masks))], SETTINGS)
