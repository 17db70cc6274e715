"""Names, side files and output that appears whole or not at all."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from veridice.errors import InputError, OutputError
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


def test_files_appear_when_the_block_ends_well(tmp_path: Path) -> None:
    with bids.staged_output(tmp_path / "out") as stage:
        (stage / "a.txt").write_text("a")
        assert not (tmp_path / "out" / "a.txt").exists()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.txt"]


@pytest.mark.parametrize("failure", [RuntimeError("x"), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_nothing_is_left_when_the_block_fails(tmp_path: Path, failure: BaseException) -> None:
    expected = OutputError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected), bids.staged_output(tmp_path / "new" / "out") as stage:
        (stage / "a.txt").write_text("a")
        raise failure
    assert not (tmp_path / "new" / "out").exists()


def test_earlier_results_survive_a_failure(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("kept")
    with pytest.raises(OutputError, match="no room left"), bids.staged_output(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"]


def test_what_killed_runs_left_is_swept_away_and_what_runs_is_not(tmp_path: Path) -> None:
    for left in (".veridice-old", ".veridice-locked"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "map.nii.gz").write_text("x")
        (tmp_path / left / bids.LOCK).touch()
    (tmp_path / ".veridice-empty").mkdir()
    with bids.staged_output(tmp_path) as other, FileLock(tmp_path / ".veridice-locked" / bids.LOCK):
        with bids.staged_output(tmp_path) as stage:
            (stage / "a.txt").write_text("a")
        assert other.is_dir()
        assert {p.name for p in tmp_path.iterdir()} == {other.name, ".veridice-locked", "a.txt"}


def test_an_interruption_while_files_move_lets_them_arrive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved, replace = [], Path.replace

    def interrupted_once(file: Path, target: Path) -> None:
        moved.append(file.name)
        if len(moved) == 3:
            raise KeyboardInterrupt
        replace(file, target)

    names = ["a_veridice.json", "a_report.html", *[f"a_{n}.nii.gz" for n in range(4)]]
    (tmp_path / "a_veridice.json").write_text("earlier")
    monkeypatch.setattr(Path, "replace", interrupted_once)
    with pytest.raises(KeyboardInterrupt), bids.staged_output(tmp_path) as stage:
        for name in names:
            (stage / name).write_text("new")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == dict.fromkeys(names, "new")
    assert moved[-1] == "a_veridice.json"


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="give a folder"), bids.staged_output(tmp_path / "file"):
        pass


def test_maps_keep_geometry_and_sidecars_name_no_path(tmp_path: Path) -> None:
    affine = np.array([[0, -1.2, 0, 3], [0.9, 0, 0.1, -4], [0, 0.2, 3, 5], [0, 0, 0, 1]])
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


def test_every_map_has_a_name_and_a_meaning() -> None:
    assert bids.MAP_NAMES.keys() == bids.MAP_MEANINGS.keys()


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
