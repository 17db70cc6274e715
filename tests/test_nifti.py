"""NIfTI in and out; what is wrong with a file is tested in test_bad_input."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from veridice.errors import InputError
from veridice.io.nifti import read_image, read_map, read_mask, write_image
from veridice.volume import Geometry, Volume

AFFINE = np.array([[0.0, -1.8, 0.6, 3], [0.9, 0, 0, -4], [0, 0.6, 1.8, 5], [0, 0, 0, 1]])


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("affine", [AFFINE, np.diag([-1.0, 2.0, 3.0, 1.0])])
def test_round_trip_keeps_voxels_and_affine(tmp_path: Path, suffix: str, affine: np.ndarray) -> None:
    voxels = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    write_image(tmp_path / f"a{suffix}", Volume(voxels, Geometry(voxels.shape, affine)))
    back = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(back.voxels, voxels)
    np.testing.assert_allclose(back.affine, affine, atol=1e-4)
    header = nib.load(tmp_path / f"a{suffix}").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)


def test_masks_are_written_as_bytes(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).random((4, 5, 6)) > 0.5
    write_image(tmp_path / "m.nii.gz", Volume(mask, Geometry(mask.shape, AFFINE)))
    assert nib.load(tmp_path / "m.nii.gz").get_data_dtype() == np.uint8
    np.testing.assert_array_equal(read_mask(tmp_path / "m.nii.gz", Geometry(mask.shape, AFFINE)).voxels, mask)


def test_scaling_is_applied(tmp_path: Path) -> None:
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(0.5, 10)
    nib.save(image, tmp_path / "s.nii.gz")
    np.testing.assert_allclose(read_image(tmp_path / "s.nii.gz").voxels.ravel(), np.arange(24) * 0.5 + 10)


def test_big_endian_is_read(tmp_path: Path) -> None:
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    image = nib.Nifti1Image(np.arange(24, dtype=">i2").reshape(2, 3, 4), np.eye(4), header)
    nib.save(image, tmp_path / "b.nii")
    np.testing.assert_array_equal(read_image(tmp_path / "b.nii").voxels.ravel(), np.arange(24))


def test_a_single_volume_in_four_dimensions_is_a_volume(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).random((3, 4, 5, 1)).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / "four.nii.gz")
    assert read_image(tmp_path / "four.nii.gz").shape == (3, 4, 5)


def test_a_plane_is_refused(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones((3, 4), np.float32), np.eye(4)), tmp_path / "plane.nii.gz")
    with pytest.raises(InputError, match="three-dimensional"):
        read_image(tmp_path / "plane.nii.gz")


def test_masks_of_0_and_255_or_of_nothing_are_binary(tmp_path: Path) -> None:
    grid = Geometry((3, 3, 3), np.eye(4))
    for value in (0, 255):
        voxels = np.zeros((3, 3, 3), np.uint8)
        voxels[1, 1, 1] = value
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / "m.nii.gz")
        assert read_mask(tmp_path / "m.nii.gz", grid).voxels.sum() == (value > 0)


def test_maps_may_be_constant(tmp_path: Path) -> None:
    write_image(tmp_path / "c.nii.gz", Volume(np.zeros((2, 2, 2), np.float32), Geometry((2, 2, 2), np.eye(4))))
    assert read_map(tmp_path / "c.nii.gz").voxels.max() == 0


def test_an_analyze_file_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.img").write_bytes(b"x")
    with pytest.raises(InputError, match="convert it"):
        read_image(tmp_path / "a.img")
