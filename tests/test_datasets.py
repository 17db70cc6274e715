"""Manifests, and configurations that name what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from veridice.config import InferenceSettings, TrainingSettings, load_training_settings, to_toml
from veridice.errors import ConfigError, InputError
from veridice.io.datasets import read_manifest

HEADER = "id,patient,split,flair\n"


def manifest(folder: Path, *rows: str, header: str = HEADER) -> Path:
    (folder / "a.nii.gz").write_bytes(b"")
    (folder / "m.csv").write_text(header + "\n".join(rows) + "\n")
    return folder / "m.csv"


def test_rows_become_cases(tmp_path: Path) -> None:
    (case,) = read_manifest(manifest(tmp_path, "c1,p1,train,a.nii.gz"), tmp_path)
    assert (case.id, case.patient, case.split) == ("c1", "p1", "train")
    assert case.flair == tmp_path / "a.nii.gz"
    assert case.t1 is None


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["c1,p1,train,b.nii.gz"], "does not exist"),
        (["c1,p1,training,a.nii.gz"], "split 'training'"),
        (["c1,p1,train,a.nii.gz", "c2,p1,validation,a.nii.gz"], "more than one split"),
    ],
)
def test_a_wrong_manifest_is_refused(tmp_path: Path, rows: list[str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_manifest(manifest(tmp_path, *rows), tmp_path)


def test_missing_columns_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="split"):
        read_manifest(manifest(tmp_path, "c1,p1", header="id,patient\n"), tmp_path)
    with pytest.raises(InputError, match="no such manifest"):
        read_manifest(tmp_path / "none.csv", tmp_path)


@pytest.mark.parametrize("name", ["default", "paper"])
def test_shipped_configurations_survive_a_round_trip(name: str, tmp_path: Path) -> None:
    settings = load_training_settings(name)
    assert settings.name == name
    (tmp_path / "copy.toml").write_text(to_toml(settings))
    assert load_training_settings(str(tmp_path / "copy.toml")) == settings


def test_the_paper_configuration_is_the_papers() -> None:
    settings = load_training_settings("paper")
    assert settings.data.grid == 128
    assert settings.segmenter.crop == 0
    assert settings.segmenter.cross_entropy == 0
    assert settings.segmenter.dropout_rate == 0.2
    assert settings.regressor.widths == (16, 32, 64, 128)
    assert settings.regressor.passes == InferenceSettings().passes == 20


@pytest.mark.parametrize("name", ["nothing", "../default", "nothing.toml"])
def test_an_unknown_configuration_names_those_that_ship(name: str) -> None:
    with pytest.raises(ConfigError, match="default, paper"):
        load_training_settings(name)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        TrainingSettings(name="a").seed = 3  # type: ignore[misc]


@pytest.mark.parametrize("content", [b"", b"id,patient,split\n\xff\xfe,p,train\n", b'id,patient,split\n"a,b\n'])
def test_what_is_no_table_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.csv").write_bytes(content)
    with pytest.raises(InputError, match=r"m\.csv"):
        read_manifest(tmp_path / "m.csv", tmp_path)


@pytest.mark.parametrize("name", ["NA", "null", "None", "007"])
def test_names_are_kept_as_they_are_written(tmp_path: Path, name: str) -> None:
    (case,) = read_manifest(manifest(tmp_path, f"{name},{name},train,a.nii.gz"), tmp_path)
    assert (case.id, case.patient) == (name, name)


def test_one_patient_may_have_many_scans_in_one_split(tmp_path: Path) -> None:
    rows = ["# a remark", "c1,p1,train,a.nii.gz", "c2,p1,train,", "c3,p2,test,a.nii.gz"]
    cases = read_manifest(manifest(tmp_path, *rows), tmp_path)
    assert [case.id for case in cases] == ["c1", "c2", "c3"]
    assert cases[1].flair is None


@pytest.mark.parametrize(
    "change",
    [
        "[data]\ngrid = 16",
        "[segmenter]\ncrop = 16",
        "[segmenter]\nkeep_at = [1.5]",
        "[regressor]\nwidths = []",
        "[regressor]\ninputs = []",
    ],
)
def test_settings_that_no_network_could_use_are_refused(change: str, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(f'name = "c"\n{change}\n')
    with pytest.raises(ConfigError):
        load_training_settings(str(tmp_path / "c.toml"))
