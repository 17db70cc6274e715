"""Which scans a BIDS data set has, and which masks of other tools belong to them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from veridice.errors import InputError
from veridice.io.bids_dataset import check_dataset, describe_scans, find_scans, read_filter, validate_dataset, without_scans
from veridice.io.other_tools import SAMSEG_LESION, MaskFolder, find_masks


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Two subjects: one with two sessions, two FLAIRs and a T1w with contrast agent in the first; one without sessions."""
    root = tmp_path / "data set"
    files = [
        "sub-01/ses-a/anat/sub-01_ses-a_acq-2d_FLAIR.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-a_acq-3d_run-01_FLAIR.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-a_ce-gd_T1w.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-a_T1w.nii.gz",
        "sub-01/ses-b/anat/sub-01_ses-b_FLAIR.nii",
        "sub-01/ses-b/anat/sub-01_ses-b_T2w.nii",
        "sub-02/anat/sub-02_FLAIR.nii.gz",
        "sub-02/anat/sub-02_T1w.nii.gz",
        "sub-02/func/sub-02_task-rest_bold.nii.gz",
        "derivatives/x/sub-02/anat/sub-02_desc-x_FLAIR.nii.gz",
        "sourcedata/sub-03_FLAIR.nii.gz",
    ]
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "dataset_description.json").write_text(json.dumps({"Name": "two people", "BIDSVersion": "1.10.0"}))
    return root


def names(scans: list) -> list[str]:
    return [scan.name for scan in scans]


def test_each_flair_is_a_scan_with_the_t1w_most_like_it(dataset: Path) -> None:
    scans = find_scans(dataset)
    assert names(scans) == ["sub-01_ses-a_acq-2d", "sub-01_ses-a_acq-3d_run-01", "sub-01_ses-b", "sub-02"]
    first, second, third, fourth = scans
    assert first.t1.name == second.t1.name == "sub-01_ses-a_T1w.nii.gz"  # without contrast agent, as the FLAIR
    assert third.t1 is None
    assert fourth.t1.is_file()
    assert first.folder == Path("sub-01/ses-a/anat")
    assert fourth.folder == Path("sub-02/anat")


def test_subjects_without_a_flair_are_named(dataset: Path) -> None:
    (dataset / "sub-03/anat").mkdir(parents=True)
    (dataset / "sub-03/anat/sub-03_flair.nii.gz").touch()
    assert without_scans(dataset, find_scans(dataset)) == ["sub-03"]


@pytest.mark.parametrize("label", ["02", "sub-02"])
def test_labels_with_and_without_prefix(dataset: Path, label: str) -> None:
    assert names(find_scans(dataset, [label])) == ["sub-02"]
    assert names(find_scans(dataset, ["01"], ["ses-b"])) == ["sub-01_ses-b"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"flair": {"acquisition": "3d"}}, ["sub-01_ses-a_acq-3d_run-01"]),
        ({"flair": {"acq": ["2d", "3d"]}}, ["sub-01_ses-a_acq-2d", "sub-01_ses-a_acq-3d_run-01"]),
        ({"flair": {"acquisition": None}}, ["sub-01_ses-b", "sub-02"]),
        ({"flair": {"run": 1}}, ["sub-01_ses-a_acq-3d_run-01"]),
        ({"flair": {"subject": "sub-02", "session": "*"}}, ["sub-02"]),
    ],
)
def test_filter_file(dataset: Path, tmp_path: Path, query: dict, found: list[str]) -> None:
    file = tmp_path / "filter.json"
    file.write_text(json.dumps(query))
    assert names(find_scans(dataset, chosen=read_filter(file))) == found


def test_filter_chooses_the_t1w(dataset: Path) -> None:
    scans = find_scans(dataset, ["01"], ["a"], {"t1w": {"ceagent": "gd"}})
    assert {scan.t1.name for scan in scans} == {"sub-01_ses-a_ce-gd_T1w.nii.gz"}


@pytest.mark.parametrize("content", ["no json", "[]", '{"bold": {}}', '{"flair": 3}'])
def test_filters_that_are_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "filter.json").write_text(content)
    with pytest.raises(InputError, match=r"filter\.json"):
        read_filter(tmp_path / "filter.json")


def test_what_is_not_there_is_named(dataset: Path) -> None:
    with pytest.raises(InputError, match="sub-07"):
        find_scans(dataset, ["07"])
    with pytest.raises(InputError, match="no FLAIR found"):
        find_scans(dataset, sessions=["c"])
    with pytest.raises(InputError, match="no entity 'colour'"):
        find_scans(dataset, chosen={"flair": {"colour": "red"}})
    with pytest.raises(InputError, match="no such folder"):
        check_dataset(dataset / "absent")
    (dataset / "dataset_description.json").write_text("{}")
    with pytest.raises(InputError, match="Name and BIDSVersion"):
        check_dataset(dataset)


def test_what_the_data_set_says(dataset: Path) -> None:
    (dataset / "participants.tsv").write_text("participant_id\tage\tcentre\nsub-01\t40\tAmsterdam\nsub-02\t41\tn/a\n")
    (dataset / "FLAIR.json").write_text(json.dumps({"Manufacturer": "Any", "MagneticFieldStrength": 3}))
    (dataset / "sub-02/anat/sub-02_FLAIR.json").write_text(
        json.dumps({"ManufacturersModelName": "Two", "DeviceSerialNumber": "secret"})
    )
    (dataset / "sub-01/ses-a/sub-01_ses-a_scans.tsv").write_text(
        "filename\tacq_time\nanat/sub-01_ses-a_acq-2d_FLAIR.nii.gz\t2020-01-02T03:04:05\n"
    )
    (dataset / "sub-01/sub-01_sessions.tsv").write_text("session_id\tacq_time\nses-b\t2021-01-01T00:00:00\n")
    said = describe_scans(dataset, find_scans(dataset)).set_index("scan")
    assert said["site"].fillna("").tolist() == ["Amsterdam", "Amsterdam", "Amsterdam", ""]
    assert said.loc["sub-01_ses-b", "scanner"] == "Any 3 T"  # inherited
    assert said.loc["sub-02", "scanner"] == "Any Two 3 T"
    assert said["acquired"].fillna("").tolist() == ["2020-01-02T03:04:05", "", "2021-01-01T00:00:00", ""]


def test_a_damaged_sidecar_or_table_is_not_fatal(dataset: Path) -> None:
    (dataset / "sub-02/anat/sub-02_FLAIR.json").write_text("{")
    (dataset / "participants.tsv").write_bytes(b"\xff\xfe\x00")
    assert describe_scans(dataset, find_scans(dataset)).set_index("scan").loc["sub-02"].isna().all()


LAYOUTS = {
    "BIDS": ("sub-01/ses-a/anat/sub-01_ses-a_space-FLAIR_label-lesion_mask.nii.gz", None),
    "BIDS probabilities": ("sub-01/ses-a/anat/sub-01_ses-a_label-WMH_probseg.nii.gz", None),
    "LST-AI": ("sub-01/ses-a/space-flair_seg-lst.nii.gz", None),
    "LST-AI, older": ("sub-01_ses-a/space-orig_seg-lst.nii.gz", None),
    "SAMSEG": ("sub-01_ses-a/seg.mgz", SAMSEG_LESION),
    "nnU-Net": ("sub-01_ses-a_acq-2d.nii.gz", None),
    "nnU-Net, FLAIR's name": ("sub-01_ses-a_acq-2d_FLAIR.nii.gz", None),
    "one mask a subject": ("sub-01/sub-01_label-lesion_mask.nii.gz", None),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_masks_of_other_tools(dataset: Path, tmp_path: Path, layout: str) -> None:
    name, label = LAYOUTS[layout]
    folder = tmp_path / "masks"
    decoys = (
        "sub-01/ses-a/space-flair_desc-annotated_seg-lst.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-a_desc-brain_mask.nii.gz",
        "sub-01/ses-a/anat/sub-01_ses-a_space-MNI152NLin6Asym_label-lesion_mask.nii.gz",
        "sub-01/ses-a/temp/sub-X_ses-Y_space-orig_label-lesion_mask.nii.gz",
        "sub-02/anat/sub-02_label-lesion_mask.nii.gz",
        "dataset.json",
    )
    for file in (name, *decoys):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    found = MaskFolder(folder).of(find_scans(dataset)[0])
    assert (found.path, found.label) == (folder / name, label)


def test_which_of_several_masks_is_asked_for(dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "masks"
    (folder / "sub-02").mkdir(parents=True)
    for desc in ("desc-lga_", "desc-lpa_"):
        (folder / f"sub-02/sub-02_{desc}label-lesion_mask.nii.gz").touch()
    scan = find_scans(dataset, ["02"])[0]
    with pytest.raises(InputError, match=r"several masks of sub-02 .*DIR:desc"):
        MaskFolder(folder).of(scan)
    assert find_masks(f"{folder}:lpa", folder).of(scan).path.name == "sub-02_desc-lpa_label-lesion_mask.nii.gz"
    # One without a description is the tool's own choice.
    (folder / "sub-02/sub-02_label-lesion_mask.nii.gz").touch()
    assert MaskFolder(folder).of(scan).path.name == "sub-02_label-lesion_mask.nii.gz"
    with pytest.raises(InputError, match="no mask of sub-01_ses-b"):
        MaskFolder(folder).of(find_scans(dataset, ["01"], ["b"])[0])


def test_folders_without_masks(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with pytest.raises(InputError, match="no such folder of masks") as caught:
        find_masks("absent:x", data)
    assert f"{Path('absent').absolute()} nor {data / 'absent'};" in str(caught.value)
    with pytest.raises(InputError, match="no lesion masks found with desc-x"):
        MaskFolder(tmp_path, "x")


def test_folders_of_masks_are_looked_for_here_and_in_the_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, here = tmp_path / "data", tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    masks = data / "derivatives/tool/sub-01_label-lesion_mask.nii.gz"
    masks.parent.mkdir(parents=True)
    masks.touch()
    assert find_masks("derivatives/tool", data).folder == masks.parent
    shutil.copytree(data / "derivatives", here / "derivatives")
    assert find_masks("derivatives/tool", data).folder == here / "derivatives/tool"
    # A colon that belongs to the name.
    (here / "derivatives/tool").rename(here / "a:b")
    assert find_masks("a:b", data).folder == here / "a:b"
    shutil.copytree(here / "a:b", here / "a")
    (here / "a/sub-01_label-lesion_mask.nii.gz").rename(here / "a/sub-01_desc-c_label-lesion_mask.nii.gz")
    assert (find_masks("a:c", data).folder, find_masks("a:c", data).desc) == (here / "a", "c")


def test_content_that_was_not_fetched_makes_no_data_set_invalid(dataset: Path) -> None:
    for file in dataset.rglob("sub-*.nii*"):
        nib.save(nib.Nifti1Image(np.ones((3, 4, 5), np.float32), np.eye(4)), file)
    for folder in ("derivatives", "sourcedata"):
        shutil.rmtree(dataset / folder)
    shutil.rmtree(dataset / "sub-02/func")
    (dataset / "README").write_text("Two people.")
    flair = dataset / "sub-02/anat/sub-02_FLAIR.nii.gz"
    flair.unlink()
    flair.symlink_to("../../.git/annex/objects/x1/MD5-s1.nii.gz")
    assert validate_dataset(dataset) == ""
    flair.unlink()
    flair.symlink_to("nowhere.nii.gz")
    with pytest.raises(InputError, match="SYMLINK_BROKEN"):
        validate_dataset(dataset)
