"""Masks become segmentations and come back, voxel by voxel, whatever the scanner's frames look like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_cases import as_enhanced, in_file_order, other_segmentation
from pydicom import dcmread

from veridice.errors import GeometryError, InputError
from veridice.imaging.volume import Geometry, Volume
from veridice.io.dicom_frames import SourceImages, read_sources
from veridice.io.dicom_objects import Making, stable_uid
from veridice.io.dicom_seg import parametric_map, read_parametric_map, read_segmentation, segmentation
from veridice.io.nifti import read_map
from veridice.simulate.dicom_study import FLAIR, write_mr_series

MAKING = Making("1.2.3", {"segmenter": "a" * 64}, ["1.2.3.4"], [7700])
KINDS = ("axial", "coronal", "sagittal", "enhanced")


@pytest.fixture
def mask(tiny_scan: dict[str, Volume]) -> Volume:
    """Single voxels at random places, and the ends of all axes: on an oblique grid."""
    flair = tiny_scan["flair"]
    voxels = np.random.default_rng(1).random(flair.shape) < 0.01
    voxels[0, 0, 0] = voxels[-1, -1, -1] = voxels[0, -1, 3] = True
    return flair.with_voxels(voxels)


def series(folder: Path, flair: Volume, kind: str) -> list[Path]:
    orientation: Any = "axial" if kind == "enhanced" else kind
    files = write_mr_series(folder, flair, FLAIR, study="1.2.3", number=2, description="flair", orientation=orientation)
    return [as_enhanced(files, folder / "enhanced.dcm")] if kind == "enhanced" else files


def world(path: Path) -> set[tuple[int, ...]]:
    """Where the marked pixels of a segmentation lie (tenths of a mm, RAS), from its headers, one pixel after the other."""
    read = dcmread(path)
    shared, found = read.SharedFunctionalGroupsSequence[0], set()
    pixels = read.pixel_array
    spacing = [float(s) for s in shared.PixelMeasuresSequence[0].PixelSpacing]
    directions = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    for frame, image in zip(read.PerFrameFunctionalGroupsSequence, pixels, strict=True):
        place = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        for row, column in np.argwhere(image):
            point = place + column * spacing[1] * directions[:3] + row * spacing[0] * directions[3:]
            found.add(tuple(np.rint(10 * point * [-1, -1, 1]).astype(int)))
    return found


def world_of(mask: Volume) -> set[tuple[int, ...]]:
    places = np.argwhere(mask.voxels) @ mask.affine[:3, :3].T + mask.affine[:3, 3]
    return {tuple(np.rint(10 * place).astype(int)) for place in places}


@pytest.mark.parametrize("labelmap", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_is_the_same_after_a_round_trip(
    kind: str, labelmap: bool, mask: Volume, tiny_scan: dict[str, Volume], tmp_path: Path
) -> None:
    sources = read_sources(series(tmp_path / "study", tiny_scan["flair"], kind))
    made = segmentation(MAKING, sources, mask, "Lesions", 1, labelmap)
    made.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    back = read_segmentation(tmp_path / "seg.dcm", sources).mask
    placed = back.on(mask.geometry)
    assert placed is not None
    np.testing.assert_array_equal(placed.voxels, mask.voxels)
    assert world(tmp_path / "seg.dcm") == world_of(mask)
    assert made.NumberOfFrames == len(sources.slice_of_frame), "empty frames are stored too"
    assert made.SeriesNumber == 7701, "a number that no series of the study has"


def test_the_series_as_read_lies_where_the_frames_say(tiny_scan: dict[str, Volume], tmp_path: Path) -> None:
    for kind in KINDS:
        files = series(tmp_path / kind, tiny_scan["flair"], kind)
        if kind == "enhanced":
            folder = tmp_path / "only"
            folder.mkdir()
            files[0].rename(folder / "e.dcm")
            files = [folder / "e.dcm"]
        assert read_map(files[0].parent).on(read_sources(files).grid) is not None, kind


@pytest.mark.parametrize("what", ["lesion_probability", "entropy"])
def test_a_map_is_the_same_after_a_round_trip(what: str, tiny_scan: dict[str, Volume], tmp_path: Path) -> None:
    values = tiny_scan["flair"].with_voxels(np.random.default_rng(2).random(tiny_scan["flair"].shape).astype(np.float32))
    for kind in ("sagittal", "enhanced"):
        sources = read_sources(series(tmp_path / kind, tiny_scan["flair"], kind))
        parametric_map(MAKING, sources, values, what, 1).save_as(tmp_path / "map.dcm", enforce_file_format=True)
        placed = read_parametric_map(tmp_path / "map.dcm").on(values.geometry)
        assert placed is not None
        np.testing.assert_array_equal(placed.voxels, values.voxels)


def test_slices_that_lie_unevenly_are_refused(tiny_scan: dict[str, Volume], tmp_path: Path) -> None:
    files = series(tmp_path, tiny_scan["flair"], "axial")
    with pytest.raises(GeometryError, match="unevenly"):
        read_sources(files[:7] + files[8:])
    with pytest.raises(InputError, match="does not state where"):
        moved = dcmread(files[3])
        moved.ImageOrientationPatient = [0, 1, 0, 0, 0, 1]
        moved.save_as(files[3])
        read_sources(files)


def test_a_mask_of_another_place_is_refused(mask: Volume, tiny_scan: dict[str, Volume], tmp_path: Path) -> None:
    sources = read_sources(series(tmp_path, tiny_scan["flair"], "axial"))
    affine = mask.affine.copy()
    affine[0, 3] += 3
    with pytest.raises(GeometryError, match="does not lie on the images"):
        segmentation(MAKING, sources, Volume(mask.voxels, Geometry(mask.shape, affine)), "Lesions", 1)


def read(path: Path, sources: SourceImages, like: Volume, segment: str | None = None) -> np.ndarray:
    found = read_segmentation(path, sources, segment).mask.on(like.geometry)
    assert found is not None
    return found.voxels


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
@pytest.mark.parametrize("omit", [True, False])
def test_another_tools_segmentation_is_read_with_or_without_its_empty_frames(
    kind: str, omit: bool, mask: Volume, tiny_scan: dict[str, Volume], tmp_path: Path
) -> None:
    voxels = mask.voxels.copy()
    voxels[:, :, [0, 1, 4, 5, 6, 12]] = False  # slices that no other tool would store
    mask = mask.with_voxels(voxels)
    files = series(tmp_path, tiny_scan["flair"], "axial")
    path = other_segmentation(
        files, in_file_order(files, mask).astype(np.uint8), tmp_path / "other.dcm", kind, omit_empty_frames=omit
    )
    np.testing.assert_array_equal(read(path, read_sources(files), mask), mask.voxels)


def test_one_slice_alone_is_read_at_its_place(tiny_scan: dict[str, Volume], tmp_path: Path) -> None:
    voxels = np.zeros(tiny_scan["flair"].shape, bool)
    voxels[5:8, 9:12, 6] = True
    mask = tiny_scan["flair"].with_voxels(voxels)
    files = series(tmp_path, tiny_scan["flair"], "axial")
    path = other_segmentation(files, in_file_order(files, mask).astype(np.uint8), tmp_path / "other.dcm")
    np.testing.assert_array_equal(read(path, read_sources(files), mask), voxels)


def test_a_fractional_segmentation_gives_probabilities(tiny_scan: dict[str, Volume], tmp_path: Path) -> None:
    values = tiny_scan["flair"].with_voxels(np.random.default_rng(4).random(tiny_scan["flair"].shape).astype(np.float32))
    files = series(tmp_path, tiny_scan["flair"], "coronal")
    path = other_segmentation(files, in_file_order(files, values), tmp_path / "other.dcm", "FRACTIONAL")
    np.testing.assert_allclose(read(path, read_sources(files), values), values.voxels, atol=1 / 255)


def test_the_segment_of_lesions_is_found_and_others_may_be_named(
    mask: Volume, tiny_scan: dict[str, Volume], tmp_path: Path
) -> None:
    files = series(tmp_path, tiny_scan["flair"], "axial")
    brain = mask.with_voxels(tiny_scan["flair"].voxels > 100)
    frames = np.stack([in_file_order(files, one).astype(np.uint8) for one in (brain, mask)], axis=-1)
    sources = read_sources(files)
    path = other_segmentation(files, frames, tmp_path / "other.dcm", labels=("Brain", "WMH"))
    np.testing.assert_array_equal(read(path, sources, mask), mask.voxels)
    np.testing.assert_array_equal(read(path, sources, mask, "brain"), brain.voxels)
    np.testing.assert_array_equal(read(path, sources, mask, "2"), mask.voxels)
    assert read_segmentation(path, sources).name == "segmentation of Other Company WMH-Finder"
    with pytest.raises(InputError, match="give the number of one"):
        read_segmentation(path, sources, "ventricle")
    two = other_segmentation(files, frames, tmp_path / "two.dcm", labels=("thing 1", "thing 2"))
    with pytest.raises(InputError, match="choose one with --segment"):
        read_segmentation(two, sources)


def test_a_segmentation_of_another_place_or_of_nothing_is_refused(
    mask: Volume, tiny_scan: dict[str, Volume], tmp_path: Path
) -> None:
    files = series(tmp_path / "a", tiny_scan["flair"], "axial")
    other = write_mr_series(tmp_path / "b", mask, FLAIR, study="1.2.3", number=2, description="x", frame_of_reference="1.2.3.9")
    path = other_segmentation(other, in_file_order(other, mask).astype(np.uint8), tmp_path / "other.dcm")
    with pytest.raises(InputError, match="another frame of reference"):
        read_segmentation(path, read_sources(files))
    with pytest.raises(InputError, match="cannot be read as a segmentation"):
        read_segmentation(files[0], read_sources(files))


def test_uids_follow_from_what_they_name() -> None:
    first = stable_uid("a", "b")
    assert first == stable_uid("a", "b") != stable_uid("ab", "")
    assert first.is_valid and first.startswith("2.25.") and len(first) <= 44
    again = Making("1.2.3", {"segmenter": "b" * 64}, ["1.2.3.4"])
    assert again.uid("report 1") != MAKING.uid("report 1")
