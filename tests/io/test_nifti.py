"""NIfTI in and out, and every file that is refused; test_bad_input shows the same at the command line."""

from __future__ import annotations

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from veridice.errors import GeometryError, InputError
from veridice.imaging.volume import Geometry, Volume
from veridice.io import image_file
from veridice.io.nifti import read_filled, read_image, read_map, read_mask, write_image

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
    nib.save(nib.AnalyzeImage(np.ones((3, 4, 5), np.int16), None), tmp_path / "a.img")
    for name in ("a.img", "a.hdr"):
        with pytest.raises(InputError, match="left and right"):
            read_image(tmp_path / name)
    (tmp_path / "a.hdr").unlink()
    with pytest.raises(InputError, match=r"its header a\.hdr is missing"):
        read_image(tmp_path / "a.img")


def test_nifti_2_is_read(tmp_path: Path) -> None:
    voxels = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    nib.save(nib.Nifti2Image(voxels, AFFINE), tmp_path / "two.nii.gz")
    back = read_image(tmp_path / "two.nii.gz")
    np.testing.assert_array_equal(back.voxels, voxels)
    np.testing.assert_allclose(back.affine, AFFINE)


@pytest.mark.parametrize("suffix", [".mgz", ".mgh"])
def test_freesurfer_files_are_read(tmp_path: Path, suffix: str) -> None:
    voxels = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    image = nib.MGHImage(voxels, np.diag([-1.0, 2.0, 3.0, 1.0]))
    nib.save(image, tmp_path / f"a{suffix}")
    back = read_image(tmp_path / f"a{suffix}")
    np.testing.assert_array_equal(back.voxels, voxels)
    np.testing.assert_allclose(back.affine, image.affine, atol=1e-4)
    content = (gzip.decompress if suffix == ".mgz" else bytes)((tmp_path / f"a{suffix}").read_bytes())
    unplaced = content[:28] + bytes(2) + content[30:]
    (tmp_path / f"a{suffix}").write_bytes((gzip.compress if suffix == ".mgz" else bytes)(unplaced))
    with pytest.raises(GeometryError, match="where it lies"):
        read_image(tmp_path / f"a{suffix}")


def write_dicom(folder: Path, voxels: np.ndarray, series: int = 1, signed: bool = False) -> None:
    """One axial MR series of 2 x 1 x 3 mm, slices from the feet up, rows from the front, columns from the patient's right."""
    folder.mkdir(exist_ok=True)
    study, frame, uid = generate_uid(), generate_uid(), generate_uid()
    for number in range(voxels.shape[2]):
        slice_ = Dataset()
        slice_.file_meta = FileMetaDataset()
        slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_.file_meta.MediaStorageSOPClassUID = slice_.SOPClassUID = MRImageStorage
        slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID = generate_uid()
        slice_.PatientName, slice_.PatientID, slice_.Modality, slice_.Manufacturer = "Secret^Person", "7", "MR", "SIEMENS"
        slice_.StudyInstanceUID, slice_.FrameOfReferenceUID, slice_.SeriesInstanceUID = study, frame, uid
        slice_.SeriesNumber, slice_.InstanceNumber = series, number + 1
        slice_.Rows, slice_.Columns = voxels.shape[1], voxels.shape[0]
        slice_.PixelSpacing, slice_.SliceThickness, slice_.SpacingBetweenSlices = [1, 2], 3, 3
        slice_.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        slice_.ImagePositionPatient = [-10, -20, 3 * number]
        slice_.BitsAllocated = slice_.BitsStored = 16
        slice_.HighBit, slice_.PixelRepresentation, slice_.SamplesPerPixel = 15, int(signed), 1
        slice_.PhotometricInterpretation = "MONOCHROME2"
        slice_.PixelData = np.ascontiguousarray(voxels[:, :, number].T.astype("<u2")).tobytes()
        slice_.save_as(folder / f"{series}-{number}.dcm", enforce_file_format=True)


def test_a_folder_with_one_dicom_series_is_a_scan(tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(1, 900, (8, 9, 5))
    write_dicom(tmp_path / "a b", voxels)
    volume = read_image(tmp_path / "a b")
    assert sorted(round(spacing) for spacing in volume.geometry.voxel_spacing) == [1, 2, 3]
    # The voxel at LPS (-10, -20, 6) is the third slice's first: RAS (10, 20, 6).
    place = np.linalg.inv(volume.affine) @ [10, 20, 6, 1]
    assert volume.voxels[tuple(np.round(place[:3]).astype(int))] == voxels[0, 0, 2]
    write_dicom(tmp_path / "a b", voxels, series=2)
    with pytest.raises(InputError, match="holds 2 DICOM series"):
        read_image(tmp_path / "a b")
    for file in (tmp_path / "a b").iterdir():
        file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(InputError, match="no DICOM series"):
        read_image(tmp_path / "a b")


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ([5], "a slice is missing at 15.0 mm along the slice direction, between those at 12.0 and 18.0"),
        ([4, 5, 6], "3 slices are missing at 12.0, 15.0, 18.0 mm along the slice direction, between those at 9.0 and 21.0"),
        ([2, 8], "2 slices are missing at 6.0, 24.0 mm"),
    ],
)
def test_slices_that_are_missing_in_a_dicom_series_are_told(
    tmp_path: Path, gone: list[int], said: str, signed: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    write_dicom(tmp_path, np.random.default_rng(0).integers(1, 900, (8, 9, 12)), signed=signed)
    (tmp_path / "README.txt").write_text("no DICOM")
    for number in gone:
        (tmp_path / f"1-{number}.dcm").unlink()
    with pytest.raises(InputError) as caught:
        read_image(tmp_path)
    said_in_one_line(caught, tmp_path, said)
    assert capfd.readouterr() == ("", "")
    write_dicom(tmp_path, np.random.default_rng(0).integers(1, 900, (8, 9, 12)), series=2)
    with pytest.raises(InputError, match="holds 2 DICOM series"):
        read_image(tmp_path)


GOOD = np.random.default_rng(5).integers(1, 900, (6, 7, 8)).astype(np.int16)
GRID = Geometry(GOOD.shape, np.diag([1.0, 2.0, 3.0, 1.0]))


def nifti_bytes(voxels: np.ndarray = GOOD, affine: np.ndarray = GRID.affine, patches: dict[int, bytes] | None = None) -> bytes:
    """One uncompressed file, with bytes of the header overwritten that nibabel would put right."""
    content = bytearray(nib.Nifti1Image(voxels, affine).to_bytes())
    for offset, replacement in (patches or {}).items():
        content[offset : offset + len(replacement)] = replacement
    return bytes(content)


def flipped(content: bytes) -> bytes:
    """One byte in the middle of the stream is another."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


SIZES = {42: np.array([1500, 1500, 600], "<i2").tobytes()}
COLOURS = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
# Large enough that what is cut or changed lies behind the header.
ZIPPED = gzip.compress(nifti_bytes(np.random.default_rng(6).integers(1, 900, (12, 13, 14)).astype(np.int16)))
BAD_FILES: dict[str, tuple[str, bytes, type[InputError], str]] = {
    "another kind": ("a.nrrd", b"NRRD0004\n" * 99, InputError, "no image file"),
    "text as nii": ("a.nii", b"not an image " * 99, InputError, "not a readable image file"),
    "text as nii.gz": ("a.nii.gz", b"not an image " * 99, InputError, "a.nii.gz"),
    "text in gzip": ("a.nii.gz", gzip.compress(b"not an image " * 99), InputError, "not a readable image file"),
    "nothing": ("a.nii", b"", InputError, "a.nii"),
    "nothing in gzip": ("a.nii.gz", gzip.compress(b""), InputError, "a.nii.gz"),
    "truncated": ("a.nii", nifti_bytes()[:-9], InputError, "damaged or cut short"),
    "truncated gzip": ("a.nii.gz", ZIPPED[:-60], InputError, "damaged or cut short"),
    "corrupt gzip": ("a.nii.gz", flipped(ZIPPED), InputError, "damaged or cut short"),
    # Level 0 stores bytes as they are: the stream stays readable, only its checksum tells that a voxel is wrong.
    "wrong checksum": ("a.nii.gz", flipped(gzip.compress(nifti_bytes(), 0)), InputError, "damaged or cut short"),
    "two volumes": ("a.nii", nifti_bytes(np.stack([GOOD, GOOD], axis=-1)), InputError, "holds 2 volumes"),
    "complex": ("a.nii", nifti_bytes(GOOD.astype(np.complex64)), InputError, "complex numbers"),
    "colours": ("a.nii", nifti_bytes(np.zeros(GOOD.shape, COLOURS)), InputError, "RGB colours"),
    "constant": ("a.nii", nifti_bytes(np.full_like(GOOD, 4)), InputError, "every voxel is 4"),
    "lying header": ("a.nii", nifti_bytes(patches=SIZES), InputError, "more than the file can hold"),
    "lying header in gzip": ("a.nii.gz", gzip.compress(nifti_bytes(patches=SIZES)), InputError, "more than the file can hold"),
    "negative size": ("a.nii", nifti_bytes(patches={42: b"\xff\xff"}), InputError, "a.nii"),
    "singular affine": ("a.nii", nifti_bytes(patches={280: bytes(16)}), GeometryError, "singular"),
    "no place in space": ("a.nii", nifti_bytes(patches={252: bytes(4)}), GeometryError, "where it lies in space"),
}


def said_in_one_line(caught: pytest.ExceptionInfo[InputError], path: Path, said: str) -> None:
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert said in message


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_every_bad_file_is_named_in_one_line(name: str, tmp_path: Path) -> None:
    file, content, kind, said = BAD_FILES[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(kind) as caught:
        read_image(tmp_path / file)
    assert type(caught.value) is kind
    said_in_one_line(caught, tmp_path / file, said)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    for path, said in ((tmp_path / "none.nii", "no such file"), (tmp_path, "holds no DICOM series")):
        with pytest.raises(InputError) as caught:
            read_image(path)
        said_in_one_line(caught, path, said)


def test_the_memory_at_hand_is_asked_before_voxels_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.nii").write_bytes(nifti_bytes())
    needed = GOOD.size * 4 * image_file.WORKING_COPIES
    monkeypatch.setattr(image_file, "available_memory", lambda: needed)
    assert read_image(tmp_path / "a.nii").shape == GOOD.shape
    monkeypatch.setattr(image_file, "available_memory", lambda: needed - 1)
    with pytest.raises(InputError) as caught:
        read_image(tmp_path / "a.nii")
    said_in_one_line(caught, tmp_path / "a.nii", "GiB of memory")


@pytest.mark.parametrize("values", [(0, 1, 2), (1, 2), (-1, 0), (0, 0.5, 1), (0, np.nan), (0, np.inf), (-1,)])
def test_what_is_no_binary_mask_is_refused(tmp_path: Path, values: tuple[float, ...]) -> None:
    voxels = np.resize(np.array(values, np.float32), GRID.shape)
    (tmp_path / "m.nii").write_bytes(nifti_bytes(voxels))
    with pytest.raises(InputError) as caught:
        read_mask(tmp_path / "m.nii", GRID)
    said_in_one_line(caught, tmp_path / "m.nii", "not a binary mask")


@pytest.mark.parametrize("other", [Geometry((6, 7, 9), GRID.affine), Geometry(GRID.shape, np.diag([1.0, 2, 3.1, 1]))])
def test_another_grid_is_refused(tmp_path: Path, other: Geometry) -> None:
    (tmp_path / "m.nii").write_bytes(nifti_bytes((GOOD > 400).astype(np.uint8)))
    with pytest.raises(GeometryError) as caught:
        read_mask(tmp_path / "m.nii", other)
    said_in_one_line(caught, tmp_path / "m.nii", "nearest neighbour")
    with pytest.raises(GeometryError, match="register and resample"):
        read_image(tmp_path / "m.nii", other)


def test_values_that_are_missing_outside_the_head_are_background_and_said_so(tmp_path: Path) -> None:
    place = np.stack(np.meshgrid(*[np.arange(24) - 12.0] * 3, indexing="ij"))
    voxels = np.where((place**2).sum(0) < 64, 500 + place[0], np.nan).astype(np.float32)
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), tmp_path / "f.nii.gz")
    volume, notices = read_filled(tmp_path / "f.nii.gz")
    assert np.isfinite(volume.voxels).all()
    assert [notice.code for notice in notices] == ["missing_background"] and "f" in notices[0].text
    np.testing.assert_array_equal(read_image(tmp_path / "f.nii.gz").voxels, volume.voxels)
