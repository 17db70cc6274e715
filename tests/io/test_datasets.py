"""Manifests, and configurations that name what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from veridice.config import InferenceSettings, load_task, to_toml
from veridice.errors import ConfigError, InputError
from veridice.io.datasets import LAYOUTS, read_dataset, read_manifest
from veridice.training.settings import TrainingSettings, load_training_settings

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
    with pytest.raises(ConfigError, match=r"default.*, paper"):
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


# The four data sets of the paper and BIDS, by the names in which they are handed out

TREES = {
    "wmh2017": (
        ["Utrecht/0/pre/FLAIR.nii.gz", "Utrecht/0/pre/T1.nii.gz", "Utrecht/0/orig/FLAIR.nii.gz", "Utrecht/0/wmh.nii.gz"],
        ["Amsterdam/GE3T/100/pre/FLAIR.nii.gz", "Amsterdam/GE3T/100/pre/T1.nii.gz", "Amsterdam/GE3T/100/wmh.nii.gz"],
        ["Singapore/50/pre/T1.nii.gz", "Singapore/50/wmh.nii.gz"],
    ),
    "isbi2015": (
        [
            *[f"training01/preprocessed/training01_{t}_{k}_pp.nii" for t in ("01", "02") for k in ("flair", "mprage")],
            *[f"training01/masks/training01_{t}_mask{rater}.nii" for t in ("01", "02") for rater in (1, 2)],
        ],
        ["training02/preprocessed/training02_01_flair_pp.nii", "training02/masks/training02_01_mask2.nii"],
        ["training03/preprocessed/training03_01_flair_pp.nii", "training03/masks/training03_02_mask1.nii"],
    ),
    "msseg2016": (
        [
            "Training/Center_01/Patient_01/Preprocessed_Data/FLAIR_preprocessed.nii.gz",
            "Training/Center_01/Patient_01/Preprocessed_Data/T1_preprocessed.nii.gz",
            "Training/Center_01/Patient_01/Masks/Consensus.nii.gz",
            "Training/Center_01/Patient_01/Masks/ManualSegmentation_1.nii.gz",
        ],
        [f"Center_07/patient_02/{name}.nii.gz" for name in ("3DFLAIR", "3DT1", "ManualSegmentation_1", "ManualSegmentation_2")],
        ["Center_07/patient_03/3DFLAIR.nii.gz"],
    ),
    "lesjak2017": (
        [f"patient01/patient01_{name}.nii.gz" for name in ("FLAIR", "T1W", "consensus_gt", "T2W")],
        [f"patient02/patient02_{name}.nii.gz" for name in ("FLAIR", "consensus_gt")],
        ["patient03/patient03_T1W.nii.gz"],
    ),
    "bids": (
        [
            "sub-01/anat/sub-01_FLAIR.nii.gz",
            "sub-01/anat/sub-01_T1w.nii.gz",
            "derivatives/truth/sub-01/anat/sub-01_label-lesion_mask.nii.gz",
            "derivatives/truth/sub-01/anat/sub-01_desc-copy_FLAIR.nii.gz",
        ],
        [
            "sub-02/ses-a/anat/sub-02_ses-a_FLAIR.nii.gz",
            "derivatives/truth/sub-02/ses-a/anat/sub-02_ses-a_label-lesion_mask.nii.gz",
        ],
        ["sub-03/anat/sub-03_FLAIR.nii.gz"],
    ),
}
"""By layout: files of a whole case, of one that is odd but usable, of one that is not."""


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_a_data_set_is_read_as_it_is_handed_out(layout: str, tmp_path: Path) -> None:
    for file in (file for case in TREES[layout] for file in case):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"")
    reading = read_dataset(layout, tmp_path)
    assert len(reading.cases) == 2 and len({case.patient for case in reading.cases}) == 2
    by_flair = {str(case.flair.relative_to(tmp_path)): case for case in reading.cases if case.flair}
    whole, odd = TREES[layout][:2]
    assert whole[0] in by_flair and odd[0] in by_flair
    assert by_flair[whole[0]].t1 == tmp_path / whole[1] and by_flair[whole[0]].mask is not None
    (line,) = reading.left_out
    assert "no flair" in line or "no mask" in line
    assert str(tmp_path) not in line


def test_details_of_the_layouts(tmp_path: Path) -> None:
    for tree in TREES.values():
        for file in (file for case in tree for file in case):
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_bytes(b"")
    found = {layout: read_dataset(layout, tmp_path).cases for layout in LAYOUTS}
    assert {case.dataset for case in found["wmh2017"]} == {"wmh2017-Utrecht", "wmh2017-Amsterdam"}
    assert all(case.ignored_label == 2 for case in found["wmh2017"])
    names = [case.mask.name for case in (*found["isbi2015"], *found["msseg2016"]) if case.mask]
    assert names == ["training01_01_mask1.nii", "training02_01_mask2.nii", "ManualSegmentation_1.nii.gz", "Consensus.nii.gz"]


def test_the_true_mask_of_a_bids_data_set_is_that_of_the_wanted_target(tmp_path: Path) -> None:
    truth = tmp_path / "derivatives" / "truth"
    files = [
        "sub-01/anat/sub-01_FLAIR.nii.gz",
        *(f"derivatives/truth/sub-01/anat/sub-01_label-{label}_mask.nii.gz" for label in ("lesion", "ventricles")),
    ]
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(b"")
    (case,) = read_dataset("bids", tmp_path, load_task("ventricles")).cases
    assert case.ventricles == truth / "sub-01/anat/sub-01_label-ventricles_mask.nii.gz"
    # A mask of the ventricles beside lesions would say that their rims are not judged.
    (case,) = read_dataset("bids", tmp_path).cases
    assert case.mask == truth / "sub-01/anat/sub-01_label-lesion_mask.nii.gz" and case.ventricles is None


def test_a_folder_that_is_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no 'lesjak2017' data set"):
        read_dataset("lesjak2017", tmp_path)
    with pytest.raises(InputError, match="wmh2017, isbi2015"):
        read_dataset("adni", tmp_path)


def test_a_sign_that_begins_remarks_may_stand_in_a_name(tmp_path: Path) -> None:
    (tmp_path / "f#1.nii.gz").write_bytes(b"")
    cases = read_manifest(manifest(tmp_path, "# a remark", "c#1,p1,train,f#1.nii.gz"), tmp_path)
    assert [(case.id, case.flair) for case in cases] == [("c#1", tmp_path / "f#1.nii.gz")]
