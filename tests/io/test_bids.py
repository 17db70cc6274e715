"""Names, side files and output that appears whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from veridice.errors import InputError
from veridice.imaging.volume import Geometry, Volume
from veridice.io import bids
from veridice.io.nifti import read_map


@pytest.mark.parametrize(
    ("file", "case"),
    [
        ("sub-01_ses-2_FLAIR.nii.gz", "sub-01_ses-2"),
        ("sub-01_flair.nii", "sub-01"),
        ("a b.nii.gz", "a b"),
        ("_FLAIR.nii.gz", "scan"),
        ("sub-01_FLAIR.hdr", "sub-01"),
        ("sub-01_FLAIR.img.gz", "sub-01"),
    ],
)
def test_case_is_named_after_its_flair(file: str, case: str) -> None:
    assert bids.case_name(Path("/somewhere") / file) == case


@pytest.mark.parametrize(
    ("case", "stem"),
    [
        ("sub-01_ses-2", "sub-01_ses-2"),
        ("</script><img onerror=alert(1)>", "sub-scriptimgonerroralert1"),
        ("../../etc/passwd", "sub-etcpasswd"),
        ("脳", "sub-scan"),
        ("x" * 500, "sub-" + "x" * 80),
    ],
)
def test_file_names_hold_safe_characters_only(case: str, stem: str) -> None:
    assert bids.file_stem(case) == stem


def test_maps_keep_geometry_and_sidecars_name_no_path(tmp_path: Path) -> None:
    affine = np.array([[0, -1.8, 0.6, 3], [0.9, 0, 0, -4], [0, 0.6, 1.8, 5], [0, 0, 0, 1]])
    voxels = np.random.default_rng(0).random((4, 5, 6)).astype(np.float32)
    maps = {"entropy": Volume(voxels, Geometry(voxels.shape, affine))}
    files = bids.write_maps(tmp_path, "sub-1", maps, {"Model": {"passes": 2}})
    assert files == {"entropy": "sub-1_desc-entropy_uncertainty.nii.gz"}
    stored = read_map(tmp_path / files["entropy"])
    np.testing.assert_allclose(stored.affine, affine, atol=1e-4)
    np.testing.assert_allclose(stored.voxels, voxels, atol=bids.ROUNDING / 2 + 1e-7)
    sidecar = json.loads((tmp_path / "sub-1_desc-entropy_uncertainty.json").read_text())
    assert sidecar["Units"] == "bit"
    assert sidecar["Model"] == {"passes": 2}
    assert str(tmp_path) not in json.dumps(sidecar)


def test_damaged_assessment_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    with pytest.raises(InputError, match="not a stored assessment"):
        bids.read_assessment(tmp_path / "x.json")


def test_a_data_set_that_is_there_stays_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "dataset_description.json").write_text("{}")
    (tmp_path / ".bidsignore").write_text("mine/\n*_report.html\n")
    (tmp_path / "README.md").write_text("mine")
    for _ in range(2):
        bids.write_dataset_files(tmp_path)
    assert (tmp_path / "dataset_description.json").read_text() == "{}"
    assert (tmp_path / "README.md").read_text() == "mine"
    ignored = (tmp_path / ".bidsignore").read_text().splitlines()
    assert ignored[0] == "mine/"
    assert len(ignored) == len(set(ignored)) == len(bids.UNKNOWN_TO_BIDS) + 1


def test_sessions_follow_their_times_where_all_have_one_else_their_numbers() -> None:
    assert bids.in_time({"ses-10": "", "ses-2": "2020-01-01T00:00:00", "ses-1": ""}) == ["ses-1", "ses-2", "ses-10"]
    assert bids.in_time({"ses-1": "2021-05-01T08:00:00", "ses-2": "2020-01-01T00:00:00"}) == ["ses-2", "ses-1"]
    assert bids.in_time({"ses-b2": "", "ses-b10": "", "ses-a": "", "ses-": ""}) == ["ses-", "ses-a", "ses-b2", "ses-b10"]
