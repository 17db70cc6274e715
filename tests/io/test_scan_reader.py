"""Files of one scan are brought onto the FLAIR's grid, and what was done is said."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from test_registration import FLAIR, OBLIQUE, T1, head, rigid

from veridice.errors import GeometryError, InputError
from veridice.imaging.scan import Scan
from veridice.imaging.volume import Geometry, Volume
from veridice.io.nifti import write_image
from veridice.io.scan_reader import read_given_mask, read_scan

MOVE = rigid((6, -4, 5), (7, -9, 6))


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    t1 = head(T1, "t1")
    images = {
        "flair": FLAIR,
        "same": head(FLAIR.geometry, "t1"),
        "elsewhere": t1,
        "moved": Volume(t1.voxels, Geometry(T1.shape, MOVE @ T1.affine)),
        "noise": Volume(np.random.default_rng(0).random(T1.shape).astype(np.float32), T1),
    }
    for name, image in images.items():
        write_image(tmp_path / f"{name}.nii.gz", image)
    return {name: tmp_path / f"{name}.nii.gz" for name in images}


def likeness(scan: Scan) -> float:
    assert scan.t1 is not None and scan.t1.geometry.same_grid(FLAIR.geometry)
    return float(np.corrcoef(scan.t1.voxels.ravel(), head(FLAIR.geometry, "t1").voxels.ravel())[0, 1])


def test_a_t1w_that_fits_is_not_touched(files: dict[str, Path]) -> None:
    scan = read_scan(files["flair"], files["same"])
    assert scan.warnings == () and scan.alignment is None
    assert likeness(scan) == pytest.approx(1)


@pytest.mark.parametrize("name", ["elsewhere", "moved"])
def test_a_t1w_elsewhere_is_registered(files: dict[str, Path], name: str) -> None:
    scan = read_scan(files["flair"], files[name])
    assert likeness(scan) > 0.97
    assert scan.warnings[0].code == ("t1_resampled" if name == "elsewhere" else "t1_registered")
    if scan.alignment is not None:
        assert scan.record["t1_alignment"]["distance_mm"] == pytest.approx(scan.alignment.distance, abs=0.01)
    unmoved = read_scan(files["flair"], files[name], registration=False)
    assert "without registration" in unmoved.warnings[0].text
    assert (likeness(unmoved) > 0.97) == (name == "elsewhere")


def test_a_t1w_that_cannot_be_registered_stays_where_its_header_puts_it(files: dict[str, Path]) -> None:
    scan = read_scan(files["flair"], files["noise"])
    assert "cannot be registered" in scan.doubts[0].text and "nothing in common" in scan.doubts[0].text
    assert scan.t1.geometry.same_grid(FLAIR.geometry)


def cube(geometry: Geometry, value: float = 1, low: float = -20, high: float = 20) -> Volume:
    places = np.stack(np.meshgrid(*[np.arange(n) for n in geometry.shape], indexing="ij"), axis=-1)
    millimetres = places @ geometry.affine[:3, :3].T + geometry.affine[:3, 3]
    inside = ((millimetres > low) & (millimetres < high)).all(axis=-1)
    return Volume(np.where(inside, np.float32(value), np.float32(0)), geometry)


def test_a_mask_on_the_t1w_goes_where_the_t1w_went(files: dict[str, Path], tmp_path: Path) -> None:
    scan = read_scan(files["flair"], files["moved"])
    drawn = cube(T1)
    write_image(tmp_path / "m.nii.gz", Volume(drawn.voxels, Geometry(T1.shape, MOVE @ T1.affine)))
    given = read_given_mask(tmp_path / "m.nii.gz", scan)
    wanted = cube(FLAIR.geometry).voxels > 0
    shared = 2 * (given.volume.voxels & wanted).sum() / (given.volume.voxels.sum() + wanted.sum())
    assert shared > 0.85
    assert "T1w's grid" in given.warnings[0].text


@pytest.mark.parametrize(
    ("value", "said"),
    [(1, ""), (255, ""), (2, ""), (0.8, "m.nii.gz holds 0.8 alone: every voxel that has it is the mask"), (0, "")],
)
def test_binary_masks_of_any_number(tmp_path: Path, value: float, said: str) -> None:
    write_image(tmp_path / "m.nii.gz", cube(FLAIR.geometry, value))
    given = read_given_mask(tmp_path / "m.nii.gz", Scan(FLAIR))
    assert "".join(notice.text for notice in given.warnings) == said
    np.testing.assert_array_equal(given.volume.voxels, cube(FLAIR.geometry, value).voxels > 0)


def test_probabilities_and_thresholds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    share = rng.random(FLAIR.shape).astype(np.float32)
    path = tmp_path / "p.nii.gz"
    write_image(path, FLAIR.with_voxels(share))
    given = read_given_mask(path, Scan(FLAIR))
    assert "cut at 0.5" in given.warnings[0].text
    np.testing.assert_array_equal(given.volume.voxels, share >= 0.5)
    np.testing.assert_array_equal(read_given_mask(path, Scan(FLAIR), 0.2).volume.voxels, share >= np.float32(0.2))
    for voxels in (share * 100, share - 0.5, rng.integers(-1, 3, FLAIR.shape).astype(np.float32)):
        write_image(path, FLAIR.with_voxels(voxels))
        with pytest.raises(InputError, match="--mask-threshold"):
            read_given_mask(path, Scan(FLAIR))
        assert "cut at 0.4" in read_given_mask(path, Scan(FLAIR), 0.4).warnings[0].text
    write_image(path, cube(FLAIR.geometry))
    with pytest.raises(InputError, match="every voxel is 0 or more"):
        read_given_mask(path, Scan(FLAIR), 0)


def test_a_fine_mask_is_averaged_onto_thick_slices(tmp_path: Path) -> None:
    """A lesion between the middles of two slices is in the one of which it fills more than half."""
    thick = Volume(np.ones((30, 30, 6), np.float32), Geometry((30, 30, 6), np.diag([1.0, 1.0, 6.0, 1.0])))
    fine = Geometry((30, 30, 36), np.diag([1.0, 1.0, 1.0, 1.0]))
    drawn = np.zeros(fine.shape, np.float32)
    drawn[10:20, 10:20, 7:12] = 1  # slice 1 has its middle at 6 and reaches from 3 to 9, slice 2 from 9 to 15
    drawn[10:20, 10:20, 13:16] = 1
    drawn[10:20, 10:20, 18] = 1  # the middle of slice 3, but a sixth of it
    write_image(tmp_path / "m.nii.gz", Volume(drawn, fine))
    given = read_given_mask(tmp_path / "m.nii.gz", Scan(thick, thick, t1_geometry=fine)).volume.voxels
    assert given[15, 15].tolist() == [False, False, True, False, False, False]


def written(path: Path, mask: Volume) -> Path:
    write_image(path, mask)
    return path


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 0, 2), (0, 2, 1)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1)])
@pytest.mark.parametrize("shift", [0, 0.01, 0.05])
def test_the_same_voxels_in_another_order_are_the_same_mask(
    tmp_path: Path, order: tuple[int, ...], flips: tuple[int, ...], shift: float
) -> None:
    drawn = cube(FLAIR.geometry)
    affine = FLAIR.affine.copy()
    affine[:3, 3] += shift
    stored = nib.Nifti1Image(drawn.voxels, affine).as_reoriented(np.array([*zip(order, flips, strict=True)]))
    nib.save(stored, tmp_path / "m.nii.gz")
    scan = read_scan(written(tmp_path / "f.nii.gz", FLAIR), brain=tmp_path / "m.nii.gz")
    given = read_given_mask(tmp_path / "m.nii.gz", scan)
    assert given.warnings == () and scan.warnings == ()
    np.testing.assert_array_equal(given.volume.voxels, drawn.voxels > 0)
    assert scan.brain is not None
    np.testing.assert_array_equal(scan.brain.voxels, drawn.voxels > 0)


GRIDS = {
    "one voxel short": Geometry((39, 46, 28), OBLIQUE),
    "one voxel long": Geometry((41, 46, 28), OBLIQUE),
    "half the size": Geometry((80, 92, 56), OBLIQUE @ np.diag([0.5, 0.5, 0.5, 1])),
    "of the T1w": T1,
}


@pytest.mark.parametrize("name", GRIDS)
def test_a_mask_on_another_grid_of_the_same_space_is_resampled(tmp_path: Path, name: str) -> None:
    given = read_given_mask(written(tmp_path / "m.nii.gz", cube(GRIDS[name])), Scan(FLAIR))
    assert given.volume.geometry is FLAIR.geometry
    wanted = cube(FLAIR.geometry).voxels > 0
    shared = 2 * (given.volume.voxels & wanted).sum() / (given.volume.voxels.sum() + wanted.sum())
    assert shared > 0.85
    assert [notice.code for notice in given.warnings] == ["mask_resampled"]
    assert "from which its own differs: " in given.warnings[0].text


def test_what_a_mask_marks_has_to_lie_within_the_flair(tmp_path: Path) -> None:
    larger = Geometry((80, 92, 56), OBLIQUE)
    low, high = np.zeros(larger.shape, np.float32), np.zeros(larger.shape, np.float32)
    high[60:70, 60:70, 40:50] = 1
    low[10:20, 10:20, 10:20], low[60:64, 60:64, 40:44] = 1, 1
    with pytest.raises(GeometryError, match="100% of what it marks lies outside the FLAIR"):
        read_given_mask(written(tmp_path / "m.nii.gz", Volume(high, larger)), Scan(FLAIR))
    given = read_given_mask(written(tmp_path / "m.nii.gz", Volume(low, larger)), Scan(FLAIR))
    assert "6% of what it marks lies outside the FLAIR" in given.warnings[0].text


def test_a_template_is_refused_but_for_scans_on_it(tmp_path: Path) -> None:
    brain = written(tmp_path / "sub-1_space-MNI152_mask.nii.gz", cube(GRIDS["half the size"]))
    flair = written(tmp_path / "f.nii.gz", FLAIR)
    for arguments in ({"brain": brain}, {"t1": brain}):
        with pytest.raises(GeometryError, match=r"template \(MNI\)"):
            read_scan(flair, **arguments)
    here = written(tmp_path / "sub-1_space-MNI152_same.nii.gz", cube(FLAIR.geometry))
    assert read_given_mask(here, Scan(FLAIR)).warnings == ()
    on_it = read_scan(written(tmp_path / "sub-1_space-MNI152_FLAIR.nii.gz", FLAIR))
    assert read_given_mask(brain, on_it).warnings[0].code == "mask_resampled"


def test_axes_that_are_not_at_right_angles_are_refused(tmp_path: Path) -> None:
    shear = np.eye(4)
    shear[0, 2] = 0.25
    with pytest.raises(GeometryError, match="right angles"):
        read_scan(written(tmp_path / "f.nii.gz", Volume(FLAIR.voxels, Geometry(FLAIR.shape, OBLIQUE @ shear))))
    shear[0, 2] = 0.005
    assert (
        read_scan(written(tmp_path / "f.nii.gz", Volume(FLAIR.voxels, Geometry(FLAIR.shape, OBLIQUE @ shear)))).warnings == ()
    )


def numbered(count: int) -> np.ndarray:
    mask = cube(FLAIR.geometry, low=-12, high=12).voxels > 0
    return np.float32(np.where(mask, np.cumsum(mask).reshape(mask.shape) % count + 1, 0))


@pytest.mark.parametrize("count", [2, 28])
def test_all_labels_together_are_the_mask(tmp_path: Path, count: int) -> None:
    path = written(tmp_path / "m.nii.gz", FLAIR.with_voxels(numbered(count)))
    with pytest.raises(InputError, match=f"looks like a map of {count} numbered lesions: give --mask-label all"):
        read_given_mask(path, Scan(FLAIR))
    given = read_given_mask(path, Scan(FLAIR), label="all")
    np.testing.assert_array_equal(given.volume.voxels, numbered(count) > 0)
    assert given.warnings[0].text == f"all {count} labels of m.nii.gz together are the mask"


def test_labels_of_tissues_and_fractions_are_no_numbered_lesions(tmp_path: Path) -> None:
    tissues = np.float32(FLAIR.voxels > np.median(FLAIR.voxels)) + 1
    tissues[:3] = 0
    gaps = np.where(numbered(3) == 3, 99, numbered(3))
    for voxels in (tissues, gaps):
        with pytest.raises(InputError, match=r"neither a binary mask nor .* --mask-label with that of the lesions"):
            read_given_mask(written(tmp_path / "m.nii.gz", FLAIR.with_voxels(np.float32(voxels))), Scan(FLAIR))
    path = written(tmp_path / "p.nii.gz", FLAIR.with_voxels(np.float32(numbered(3) / 2)))
    with pytest.raises(InputError, match="holds no labels"):
        read_given_mask(path, Scan(FLAIR), label="all")


def test_a_brain_mask(files: dict[str, Path], tmp_path: Path) -> None:
    write_image(tmp_path / "b.nii.gz", cube(FLAIR.geometry, 1, -60, 60))
    scan = read_scan(files["flair"], brain=tmp_path / "b.nii.gz")
    assert scan.brain is not None and scan.brain.voxels.dtype == bool
    write_image(tmp_path / "b.nii.gz", cube(FLAIR.geometry, 0))
    with pytest.raises(InputError, match="empty"):
        read_scan(files["flair"], brain=tmp_path / "b.nii.gz")
    labels = cube(FLAIR.geometry, 3).voxels + cube(FLAIR.geometry, 1).voxels * (np.arange(FLAIR.shape[2]) % 2)
    write_image(tmp_path / "b.nii.gz", FLAIR.with_voxels(labels))
    with pytest.raises(InputError, match="zeros and ones"):
        read_scan(files["flair"], brain=tmp_path / "b.nii.gz")


def test_one_label_of_many_is_the_mask(scan_files: dict[str, Path], tmp_path: Path) -> None:
    """As SAMSEG writes it: .mgz with 99 for lesions among tissues."""
    image = nib.load(scan_files["mask"])
    mask = np.asarray(image.dataobj) > 0
    labels = np.where(mask, 99, 2).astype(np.float32)
    nib.save(nib.MGHImage(labels, image.affine), tmp_path / "seg.mgz")
    scan = read_scan(scan_files["flair"])
    given = read_given_mask(tmp_path / "seg.mgz", scan, label=99)
    np.testing.assert_array_equal(given.volume.voxels, mask)
    assert "label 99 of seg.mgz" in " ".join(notice.text for notice in given.warnings)
    assert not read_given_mask(tmp_path / "seg.mgz", scan, label=77).volume.voxels.any()
