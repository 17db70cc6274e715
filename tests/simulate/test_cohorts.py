"""`veridice simulate`: a BIDS data set that repeats, resumes and is never half-written."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from veridice import cli
from veridice.errors import InputError, OutputError
from veridice.imaging.volume import Geometry, Volume
from veridice.io.atomic import held
from veridice.simulate import cohorts as cohort_module
from veridice.simulate.cohorts import COHORTS, custom_cohort, write_cohort
from veridice.simulate.patient import SimulatedPatient
from veridice.simulate.plan import PatientPlan

made: list[int] = []


SMALL = ["simulate", "-n", "1", "--scanner=utrecht", "--severity=easy"]


def tiny_patient(plan: PatientPlan) -> SimulatedPatient:
    """Stands in for seconds of simulation where only the writing is tested."""
    made.append(plan.index)
    grid = Geometry((4, 5, 6), np.eye(4))
    image = Volume(np.full(grid.shape, plan.index + 1, np.int16), grid)
    mask = Volume(np.ones(grid.shape, np.uint8), grid)
    return SimulatedPatient(plan, image, image, mask, mask, mask)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    monkeypatch.setattr(cohort_module, "simulate_patient", tiny_patient)
    made.clear()
    return made


def test_a_cohort_is_a_bids_data_set(quick: list[int], tmp_path: Path) -> None:
    write_cohort(tmp_path / "c", COHORTS["paper-sim"], 3)
    assert quick == [0, 1, 2]
    root = tmp_path / "c"
    assert json.loads((root / "dataset_description.json").read_text())["DatasetType"] == "raw"
    truth = root / "derivatives" / "truth"
    assert json.loads((truth / "dataset_description.json").read_text())["DatasetType"] == "derivative"
    table = pd.read_csv(root / "participants.tsv", sep="\t")
    assert table["participant_id"].tolist() == ["sub-001", "sub-002", "sub-003"]
    assert table["scanner"].tolist() == ["utrecht"] * 3
    assert table["lesion_load_ml"].tolist() == [0.12] * 3
    assert set(json.loads((root / "participants.json").read_text())) == set(table.columns) - {"participant_id"}
    flair = nib.load(root / "sub-002" / "anat" / "sub-002_FLAIR.nii.gz")
    assert flair.get_data_dtype() == np.int16
    assert np.asarray(flair.dataobj).max() == 2
    mask = nib.load(truth / "sub-002" / "anat" / "sub-002_label-lesion_mask.nii.gz")
    assert mask.get_data_dtype() == np.uint8
    record = json.loads((truth / "sub-002" / "anat" / "sub-002_desc-simulation_parameters.json").read_text())
    assert PatientPlan.model_validate(record["plan"]) == COHORTS["paper-sim"].plan(1)
    assert not list(root.rglob(".*tmp*")) and not list(root.rglob(".veridice-*"))


@pytest.mark.usefixtures("quick")
def test_visits_are_sessions(tmp_path: Path) -> None:
    root = tmp_path / "c"
    plans = write_cohort(root, COHORTS["test"], 2, visits=3)
    scans = sorted(path.name for path in root.glob("sub-*/ses-*/anat/*_FLAIR.nii.gz"))
    assert scans == [f"sub-00{person}_ses-{visit}_FLAIR.nii.gz" for person in (1, 2) for visit in (1, 2, 3)]
    assert (root / "derivatives/truth/sub-002/ses-3/anat/sub-002_ses-3_label-lesion_mask.nii.gz").is_file()
    assert [plan.lesions.load_ml for plan in plans[:3]] == [plans[0].lesions.load_ml] * 3
    factors = [after.lesions.load_ml / before.lesions.load_ml for before, after in pairwise(plans[3:])]
    assert all(0.5 <= factor <= 2 and factor != 1 for factor in factors)
    assert len({plan.flair_acquisition.seed for plan in plans}) == 6 and len({plan.scanner for plan in plans[3:]}) == 1
    table = pd.read_csv(root / "participants.tsv", sep="\t")
    assert table["participant_id"].tolist() == ["sub-001", "sub-002"] and "lesion_load_ml" not in table
    sessions = pd.read_csv(root / "sub-002/sub-002_sessions.tsv", sep="\t")
    assert sessions["session_id"].tolist() == ["ses-1", "ses-2", "ses-3"] and (sessions["lesion_load_ml"] == 0.12).all()
    assert set(json.loads((root / "participants.json").read_text())) == set(table.columns) - {"participant_id"}
    with pytest.raises(OutputError, match="another simulated cohort"):
        write_cohort(root, COHORTS["test"], 2)


def test_a_further_visit_on_another_scanner_is_of_the_same_head_and_lesions() -> None:
    first, second = replace(COHORTS["test"], same_scanner=False).visits(0, 2)
    kept = {"index", "seed", "severity", "anatomy", "whole_head", "black_holes", "deformation", "lesions", "mimics"}
    assert first.model_dump(include=kept) == second.model_dump(include=kept)
    assert all(
        getattr(first, name) != getattr(second, name) for name in type(first).model_fields if name not in kept | {"scanner"}
    )


def test_an_interrupted_cohort_goes_on_where_it_was(quick: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(plan: PatientPlan) -> SimulatedPatient:
        if plan.index == 2:
            raise KeyboardInterrupt
        return tiny_patient(plan)

    monkeypatch.setattr(cohort_module, "simulate_patient", broken)
    with pytest.raises(KeyboardInterrupt):
        write_cohort(tmp_path / "c", COHORTS["test"], 4)
    assert not (tmp_path / "c" / "participants.tsv").exists()
    monkeypatch.setattr(cohort_module, "simulate_patient", tiny_patient)
    quick.clear()
    ticks: list[int] = []
    write_cohort(tmp_path / "c", COHORTS["test"], 4, on_step=lambda: ticks.append(1))
    assert quick == [2, 3]
    assert len(ticks) == 4
    assert len(pd.read_csv(tmp_path / "c" / "participants.tsv", sep="\t")) == 4


@pytest.mark.usefixtures("quick")
def test_asking_for_fewer_loses_nobody(tmp_path: Path) -> None:
    for count in (3, 1):
        write_cohort(tmp_path / "c", COHORTS["test"], count)
        assert len(pd.read_csv(tmp_path / "c" / "participants.tsv", sep="\t")) == 3
    next((tmp_path / "c").rglob("sub-003_desc-simulation_parameters.json")).write_text("{half")
    write_cohort(tmp_path / "c", COHORTS["test"], 1)
    assert len(pd.read_csv(tmp_path / "c" / "participants.tsv", sep="\t")) == 2


@pytest.mark.usefixtures("quick")
def test_two_at_once_in_one_folder_are_refused(tmp_path: Path) -> None:
    with held(tmp_path / "c"), pytest.raises(OutputError, match="another veridice works there"):
        write_cohort(tmp_path / "c", COHORTS["test"], 1)
    assert write_cohort(tmp_path / "c", COHORTS["test"], 1)


def test_a_damaged_patient_is_made_again(quick: list[int], tmp_path: Path) -> None:
    write_cohort(tmp_path / "c", COHORTS["test"], 2)
    parameters = next((tmp_path / "c").rglob("sub-002_desc-simulation_parameters.json"))
    parameters.write_text("{half")
    quick.clear()
    write_cohort(tmp_path / "c", COHORTS["test"], 2)
    assert quick == [1]


@pytest.mark.usefixtures("quick")
def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        write_cohort(tmp_path, COHORTS["test"], 1)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]
    write_cohort(tmp_path / "c", COHORTS["test"], 1)
    with pytest.raises(OutputError, match="another simulated cohort"):
        write_cohort(tmp_path / "c", replace(COHORTS["test"], seed=1), 1)
    with pytest.raises(OutputError, match="cannot be made"):
        write_cohort(tmp_path / "thesis.txt" / "c", COHORTS["test"], 1)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "severity", "scanner"), [("nothing", None, None), ("test", "mild", None), ("test", None, "toaster")]
)
def test_unknown_names_are_refused(name: str, severity: str | None, scanner: str | None) -> None:
    with pytest.raises(InputError, match="unknown; use one of"):
        custom_cohort(name, None, None, severity, scanner)


def test_choices_replace_those_of_the_cohort() -> None:
    chosen = custom_cohort("test", 7, "lesjak-05", "hard", "isbi")
    plan = chosen.plan(0)
    assert (plan.severity, plan.scanner, plan.seed, plan.anatomy) == ("hard", "isbi", 7, "anatomy-05")
    assert custom_cohort("test", None, None, None, None) == COHORTS["test"]


@pytest.mark.slow
def test_the_command_line_simulates_a_whole_head_of_a_real_pair(tmp_path: Path) -> None:
    assert cli.run([*SMALL, "--donors=lesjak-07", "--seed=0", "--jobs=1", "-o", str(tmp_path)]) == 0
    (stored,) = tmp_path.rglob("*_parameters.json")
    plan = PatientPlan.model_validate(json.loads(stored.read_text())["plan"])
    assert (plan.anatomy, plan.whole_head) == ("pair-07", True)
    images = {path.name.removesuffix(".nii.gz").partition("_")[2]: nib.load(path) for path in tmp_path.rglob("*.nii.gz")}
    assert set(images) == {"FLAIR", "T1w", "label-lesion_mask", "label-brain_mask", "label-ventricles_mask"}
    flair, brain = (np.asarray(images[name].dataobj) for name in ("FLAIR", "label-brain_mask"))
    distance = ndimage.distance_transform_edt(brain == 0, sampling=images["FLAIR"].header.get_zooms())
    around = (distance > 2) & (distance < 18)
    assert np.percentile(flair[around], 90) > 0.5 * np.median(flair[brain > 0])


@pytest.mark.slow
def test_processes_give_the_same_patients_as_one(tmp_path: Path) -> None:
    for jobs, folder in ((1, "one"), (2, "two")):
        assert cli.run([*SMALL, f"--jobs={jobs}", "-o", str(tmp_path / folder)]) == 0
    for path in (tmp_path / "one").rglob("*.nii.gz"):
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        first, second = (np.asarray(nib.load(name).dataobj) for name in (path, other))
        np.testing.assert_array_equal(first, second)


def test_the_command_line_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["simulate", "-n", "1", "--donors=nobody", "-o", str(tmp_path / "c")]) == 3
    message = capsys.readouterr().err
    assert "nobody" in message and "Traceback" not in message
    assert not (tmp_path / "c").exists()
