"""Output that appears whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from filelock import FileLock

from veridice.errors import OutputError
from veridice.io import atomic


def test_files_appear_when_the_block_ends_well(tmp_path: Path) -> None:
    with atomic.staged_output(tmp_path / "out") as stage:
        (stage / "a.txt").write_text("a")
        assert not (tmp_path / "out" / "a.txt").exists()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.txt"]


@pytest.mark.parametrize("failure", [RuntimeError("x"), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_nothing_is_left_when_the_block_fails(tmp_path: Path, failure: BaseException) -> None:
    expected = OutputError if isinstance(failure, OSError) else type(failure)
    with pytest.raises(expected), atomic.staged_output(tmp_path / "new" / "out") as stage:
        (stage / "a.txt").write_text("a")
        raise failure
    assert not (tmp_path / "new" / "out").exists()


def test_earlier_results_survive_a_failure(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("kept")
    with pytest.raises(OutputError, match="no room left"), atomic.staged_output(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert [p.name for p in tmp_path.iterdir()] == ["kept.txt"]


def test_what_killed_runs_left_is_swept_away_and_what_runs_is_not(tmp_path: Path) -> None:
    for left in (".veridice-old", ".veridice-locked"):
        (tmp_path / left).mkdir()
        (tmp_path / left / "map.nii.gz").write_text("x")
        (tmp_path / left / atomic.LOCK).touch()
    (tmp_path / ".veridice-empty").mkdir()
    with atomic.staged_output(tmp_path) as other, FileLock(tmp_path / ".veridice-locked" / atomic.LOCK):
        with atomic.staged_output(tmp_path) as stage:
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
    with pytest.raises(KeyboardInterrupt), atomic.staged_output(tmp_path, last="_veridice.json") as stage:
        for name in names:
            (stage / name).write_text("new")
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == dict.fromkeys(names, "new")
    assert moved[-1] == "a_veridice.json"


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="give a folder"), atomic.staged_output(tmp_path / "file"):
        pass
