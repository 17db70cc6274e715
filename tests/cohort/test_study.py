"""A whole study: every scan judged once, whatever happens meanwhile, and all of them in one table."""

from __future__ import annotations

import dataclasses
import errno
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from veridice import cli
from veridice.assessment.check import Request
from veridice.case import Notice
from veridice.cohort.executor import run_cohort
from veridice.cohort.records import HIDDEN, read_record, scan_held
from veridice.cohort.schedule import plan_comparison, plan_tasks
from veridice.cohort.task import Outcome, ScanTask, judge_scan, settings_checksum
from veridice.cohort.worklist import as_text, expected_failures, known_values, without_shared_warnings
from veridice.config import InferenceSettings
from veridice.errors import InputError, OutputError
from veridice.io.bids_dataset import find_scans
from veridice.io.other_tools import MaskFolder
from veridice.metrics.catalogue import STUDY_COLUMNS
from veridice.quality.calibration import CalibrationSet, read_calibration, write_calibration

SUBJECTS = ("01", "02", "03")


@pytest.fixture
def bids(scan_files: dict[str, Path], tmp_path: Path) -> Path:
    """Three subjects with the tiny scan, a little different each; the third's FLAIR is damaged."""
    root = tmp_path / "bids"
    rng = np.random.default_rng(0)
    for subject in SUBJECTS:
        folder = root / f"sub-{subject}" / "anat"
        folder.mkdir(parents=True)
        for kind, file in (("FLAIR", scan_files["flair"]), ("T1w", scan_files["t1"])):
            image = nib.load(file)
            noisy = np.asarray(image.dataobj) + rng.normal(0, 5, image.shape) * (np.asarray(image.dataobj) > 0)
            nib.save(nib.Nifti1Image(noisy.astype(np.float32), image.affine), folder / f"sub-{subject}_{kind}.nii.gz")
    flair = root / "sub-03/anat/sub-03_FLAIR.nii.gz"
    flair.write_bytes(flair.read_bytes()[:500])
    (root / "dataset_description.json").write_text(json.dumps({"Name": "three", "BIDSVersion": "1.10.0"}))
    return root


def tasks_of(bids: Path, weights: Path, output: Path, **changes: object) -> list[ScanTask]:
    settings = InferenceSettings(passes=2, **changes)
    requests = {scan: Request(scan.name, scan.flair, scan.t1) for scan in find_scans(bids)}
    return [
        ScanTask(request, scan.folder, output, weights, settings, settings_checksum(request, weights, settings))
        for scan, request in requests.items()
    ]


def here(tasks: list[ScanTask], patient: bool):
    return ((task, judge_scan(task, patient=patient)) for task in tasks)


def run_here(tasks: list[ScanTask]) -> dict[str, str]:
    outcomes = {}
    run_cohort(tasks, here, lambda outcome: outcomes.setdefault(outcome.scan, outcome.status))
    return outcomes


def contents(output: Path) -> dict[str, bytes]:
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob("*.nii.gz"))}


def assert_same_images(found: dict[str, bytes], expected: dict[str, bytes]) -> None:
    """The same files, byte for byte; where not, the failure names the file and says how far its voxels are apart."""
    assert list(found) == list(expected)
    for name, content in found.items():
        if content != expected[name]:
            images = [nib.Nifti1Image.from_bytes(gzip.decompress(stored)) for stored in (content, expected[name])]
            np.testing.assert_array_equal(*(image.get_fdata() for image in images), err_msg=name)
            pytest.fail(f"{name}: the same voxels, stored in other bytes")


def test_finished_scans_are_skipped_and_failed_ones_tried_again(bids: Path, tiny_weights: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    tasks = tasks_of(bids, tiny_weights, output)
    assert run_here(tasks) == {"sub-01": "done", "sub-02": "done", "sub-03": "failed"}
    reason = read_record(output, "sub-03").reason
    assert "damaged or cut short" in reason
    assert str(tmp_path) not in reason
    assert not list((output / "sub-03").rglob("*") if (output / "sub-03").exists() else [])
    before = contents(output)
    assert run_here(tasks) == {"sub-01": "skipped", "sub-02": "skipped", "sub-03": "failed"}
    shutil.copy(bids / "sub-01/anat/sub-01_FLAIR.nii.gz", bids / "sub-03/anat/sub-03_FLAIR.nii.gz")
    assert run_here(tasks)["sub-03"] == "done"
    assert {name: content for name, content in contents(output).items() if "sub-03" not in name} == before
    assert sorted(path.name for path in (output / HIDDEN).iterdir()) == [f"sub-{subject}.lock" for subject in SUBJECTS]


def test_a_scan_is_judged_anew_when_anything_changed(bids: Path, tiny_weights: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    task = tasks_of(bids, tiny_weights, output)[0]
    assert judge_scan(task).status == "done"
    flair = task.request.flair
    os.utime(flair, (1, 1))  # copied anew, the same content
    assert judge_scan(task).status == "skipped"
    shutil.copy(bids / "sub-02/anat/sub-02_FLAIR.nii.gz", flair)
    assert judge_scan(task).status == "done"
    assert judge_scan(tasks_of(bids, tiny_weights, output, min_dice=0.5)[0]).status == "done"
    (output / read_record(output, "sub-01").files[0]).unlink()
    assert judge_scan(tasks_of(bids, tiny_weights, output, min_dice=0.5)[0]).status == "done"


def test_results_that_are_no_longer_made_go(
    bids: Path, scan_files: dict[str, Path], tiny_weights: Path, tmp_path: Path
) -> None:
    task = tasks_of(bids, tiny_weights, tmp_path / "out")[0]
    with_mask = dataclasses.replace(task, request=dataclasses.replace(task.request, masks=[scan_files["mask"]]), checksum="1")
    folder = tmp_path / "out/sub-01/anat"
    judge_scan(with_mask)
    assert (folder / "sub-01_label-lesion_desc-input_mask.nii.gz").is_file()
    judge_scan(task)
    assert not (folder / "sub-01_label-lesion_desc-input_mask.nii.gz").exists()
    assert (folder / "sub-01_label-lesion_mask.nii.gz").is_file()
    assert judge_scan(dataclasses.replace(task, problem="no mask")) == Outcome("sub-01", "failed", "no mask")
    assert not list(folder.iterdir())


def test_two_runs_share_a_folder(bids: Path, tiny_weights: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    first, second, _ = tasks_of(bids, tiny_weights, output)
    with scan_held(output, first.name) as stage:
        (stage / "half.nii.gz").touch()
        assert judge_scan(first).status == "held"
        assert judge_scan(second).status == "done"
    assert run_here([first, second]) == {"sub-02": "skipped", "sub-01": "done"}


def test_a_killed_run_leaves_nothing_that_counts(bids: Path, tiny_weights: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    task = tasks_of(bids, tiny_weights, output)[0]
    assert judge_scan(task).status == "done"
    undisturbed = contents(output)
    # As if the process had died between moving the first result and the last.
    (output / "records/sub-01.json").unlink()
    (output / HIDDEN / "sub-01").mkdir()
    (output / HIDDEN / "sub-01" / "half.nii.gz").touch()
    next((output / "sub-01/anat").glob("*.nii.gz")).write_bytes(b"half")
    assert not task.is_finished()
    assert judge_scan(task).status == "done"
    assert_same_images(contents(output), undisturbed)
    assert not (output / HIDDEN / "sub-01").exists()


def test_command_line(bids: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    options = [str(bids), str(output), "participant", f"--weights={tiny_weights}", "--passes=2"]
    assert cli.run(["run", *options, "--dry-run"]) == 0
    assert "to be judged" in capsys.readouterr().out
    assert not output.exists()
    assert cli.run(["run", *options, "--n-jobs=1"]) == 1
    said = capsys.readouterr().err
    assert "failed: sub-03: sub-03_FLAIR.nii.gz: damaged or cut short" in " ".join(said.split())
    assert "2 judged, 0 finished before, 1 failed of 3 scans" in said.splitlines()[-1]
    (output / "sub-01/anat/sub-01_rating.json").write_text('{"Rating": "accept", "Reasons": ["boredom"]}')
    (output / "sub-02/anat/sub-02_rating.json").write_text('{"Rating": ')
    assert cli.run(["run", str(bids), str(output), "group"]) == 0
    said, page = " ".join(capsys.readouterr().err.split()), (output / "report.html").read_text()
    for text in ("sub-01_rating.json has an unknown reason", "sub-02_rating.json is no JSON: it counts for nothing"):
        assert text in said and text in page
    table = pd.read_csv(output / "veridice.tsv", sep="\t", na_values="n/a")
    assert table.set_index("scan")["rating"].dropna().to_dict() == {"sub-01": "accept"}
    assert list(table) == list(STUDY_COLUMNS) == list(json.loads((output / "veridice.json").read_text()))
    assert table["scan"].tolist()[0] == "sub-03"
    assert table["rank"].tolist() == [1, 2, 3]
    gain = table["expected_gain"].dropna()
    assert gain.is_monotonic_decreasing
    for name in table["report"].dropna():
        assert (output / name).is_file()
    assert str(tmp_path) not in (output / "veridice.tsv").read_text() + (output / "records/sub-03.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["{bids}", "{bids}", "participant"], "is the data set itself"),
        (["{bids}/absent", "{out}", "participant"], "no such folder"),
        (["{bids}", "{out}", "group"], "run the participant level first"),
        (["{bids}", "{out}", "participant", "--masks={bids}/none"], "no such folder of masks"),
        (["{bids}", "{out}", "participant", "--participant-label=9"], "no scans of sub-9"),
        (["{bids}", "{out}", "participant", "--bids-filter-file={bids}/x.json"], "x.json"),
        (["{bids}", "{out}", "participant", "--scheduler=tcp://127.0.0.1:1"], "no Dask scheduler answers"),
        (["{bids}", "{out}", "participant", "--slurm={bids}/x.toml"], "x.toml"),
        (["{bids}", "{out}", "participant", "--calibration={bids}/x.json"], "x.json"),
    ],
)
def test_wrong_calls_end_in_one_line(
    bids: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments, said
) -> None:
    monkeypatch.setattr("veridice.cohort.cluster.SECONDS_TO_CONNECT", 1)
    assert cli.run(["run", *[text.format(bids=bids, out=tmp_path / "out") for text in arguments]]) == 3
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]


def test_content_that_was_not_fetched_and_memory_that_ran_out_are_reasons(
    bids: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flair = bids / "sub-01/anat/sub-01_FLAIR.nii.gz"
    flair.unlink()
    flair.symlink_to("../../.git/annex/objects/x1/MD5-s1.nii.gz")

    def run_out(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("veridice.cohort.task.judge_files", run_out)
    output = tmp_path / "out"
    run_here(tasks_of(bids, tiny_weights, output)[:2])
    reasons = [read_record(output, name).reason for name in ("sub-01", "sub-02")]
    assert "sub-01_FLAIR.nii.gz: its content was not fetched" in reasons[0]
    assert "datalad get sub-01_FLAIR.nii.gz" in reasons[0]
    assert reasons[1].startswith("the memory ran out: more was needed")


def test_labels_as_bids_apps_have_them(bids: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["run", str(bids), str(tmp_path / "out"), "participant", "--dry-run", "--skip-bids-validation"]
    for labels in (["--participant_label", "01", "sub-02"], ["--participant-label=01", "--participant-label", "02"]):
        assert cli.run([*call, *labels, "--passes", "2"]) == 0
        said = capsys.readouterr().out
        assert "sub-01" in said
        assert "sub-02" in said
        assert "sub-03" not in said


def test_wrong_level_is_wrong_usage(bids: Path, tmp_path: Path) -> None:
    assert cli.run(["run", str(bids), str(tmp_path / "out"), "everything"]) == 2
    assert cli.run(["run", str(bids), str(tmp_path / "o"), "participant", "--scheduler=x", f"--slurm={tmp_path}"]) == 2


def test_expected_failures_by_hand() -> None:
    table = pd.DataFrame({"status": ["failed", "done", "done", "done"], "failure_probability": [np.nan, 0.5, 0.1, 0.02]})
    rows = expected_failures(table).set_index("looks")
    assert rows.loc[2, "failures_found"] == pytest.approx(1.5)
    assert rows.loc[2, "failures_left"] == pytest.approx(0.12)
    assert rows.loc[2, "share_left"] == pytest.approx(0.06)
    assert rows.index[rows["fewest"]].tolist() == [3]
    assert rows.loc[4, "share_left"] == 0


def test_which_values_are_bad_by_hand() -> None:
    predicted, dice = (0.2, 0.62, 0.66, 0.95, 1.0), (0.1, 0.8, 0.6, 0.9, 0.7)
    known = CalibrationSet(source="", simulated=True, patients=5, predicted=predicted, spread=(0.1,) * 5, dice=dice)
    rows = known_values(known, pd.DataFrame({"predicted_dice": [0.61, None, 1.0]}), 0.75)
    assert [(row["low"], row["masks"], row["bad"], row["scans"]) for row in rows if row["masks"] or row["scans"]] == [
        (0.0, 1, 1, 0),
        (0.6, 2, 1, 1),
        (0.9, 2, 1, 1),
    ]
    middle = next(row for row in rows if row["low"] == 0.6)
    assert middle["share_low"] < middle["share"] == 0.5 < middle["share_high"]


def test_what_is_said_of_every_scan_is_said_once() -> None:
    a, b, c = Notice("one", "a; with a semicolon"), Notice("two", "b"), Notice("three", "c; d")
    table = pd.DataFrame({"warnings": [(a, b), None, (b, a, c), (b, a)]})
    shown, shared = without_shared_warnings(table)
    assert shared == [a, b]
    assert as_text(shown)["warnings"].fillna("-").tolist() == ["", "-", "c; d", ""]
    assert without_shared_warnings(table[:1])[1] == []


def test_derivatives_are_valid_bids(bids: Path, tiny_weights: Path, tmp_path: Path) -> None:
    validator = shutil.which("bids-validator-deno", path=str(Path(sys.executable).parent))
    assert validator, "the extra 'dev' brings bids-validator-deno"
    output = tmp_path / "out"
    run_here(tasks_of(bids, tiny_weights, output)[:2])
    assert cli.run(["run", str(bids), str(output), "group", "--participant-label=01", "--participant-label=02"]) == 0
    found = subprocess.run([validator, str(output), "--json"], capture_output=True, text=True, timeout=120)
    issues = json.loads(found.stdout)["issues"]["issues"]
    assert [issue for issue in issues if issue["severity"] == "error"] == []


@pytest.mark.slow
def test_runs_killed_at_any_moment_end_as_an_undisturbed_one(bids: Path, tiny_weights: Path, tmp_path: Path) -> None:
    for number in range(4, 10):
        shutil.copytree(bids / "sub-01", bids / f"sub-{number:02d}")
        for file in (bids / f"sub-{number:02d}/anat").iterdir():
            file.rename(file.with_name(file.name.replace("sub-01", f"sub-{number:02d}")))
    command = [sys.executable, "-m", "veridice", "run", str(bids)]
    more = ["participant", f"--weights={tiny_weights}", "--passes=2", "--n-jobs=2"]
    subprocess.run([*command, str(tmp_path / "undisturbed"), *more], check=False, timeout=300, capture_output=True)
    disturbed = tmp_path / "disturbed"
    rng = np.random.default_rng(0)
    for _ in range(20):
        process = subprocess.Popen([*command, str(disturbed), *more], stderr=subprocess.DEVNULL, start_new_session=True)
        time.sleep(rng.uniform(2, 14))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert subprocess.run([*command, str(disturbed), *more], timeout=300, capture_output=True).returncode == 1
    tables = []
    for output in (tmp_path / "undisturbed", disturbed):
        subprocess.run([*command, str(output), "group"], check=True, timeout=300, capture_output=True)
        tables.append((output / "veridice.tsv").read_bytes())
    assert tables[0] == tables[1]
    assert_same_images(contents(disturbed), contents(tmp_path / "undisturbed"))
    assert not [path for path in (disturbed / HIDDEN).iterdir() if path.is_dir()]


def test_masks_in_the_folder_of_results_are_not_overwritten(
    bids: Path, scan_files: dict[str, Path], tiny_weights: Path, tmp_path: Path
) -> None:
    output, settings = tmp_path / "out", InferenceSettings(passes=2)
    mask = output / "sub-01/anat/sub-01_label-lesion_desc-input_mask.nii.gz"
    mask.parent.mkdir(parents=True)
    shutil.copy(scan_files["mask"], mask)
    scans, folder = [scan for scan in find_scans(bids) if scan.name == "sub-01"], MaskFolder(output, "input")
    with pytest.raises(OutputError, match="would be overwritten"):
        plan_tasks(scans, Request, folder, None, output, tiny_weights, settings)
    with pytest.raises(OutputError, match="would be overwritten"):
        best = mask.with_name("sub-01_label-lesion_desc-best_mask.nii.gz")
        mask.rename(best)
        folders = {"a": MaskFolder(output, "best")}
        plan_comparison(scans, Request, folders, None, False, ["best"], output, tiny_weights, settings)
    best.rename(mask)
    folders = {"a": MaskFolder(output, "input")}  # a comparison writes no such mask
    assert plan_comparison(scans, Request, folders, None, False, ["best"], output, tiny_weights, settings)


def test_a_full_disk_is_said_and_is_no_internal_error(
    bids: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    task = tasks_of(bids, tiny_weights, tmp_path / "out")[0]
    for place in ("veridice.cohort.task._judge", "veridice.cohort.records.write_text"):
        with monkeypatch.context() as patch:
            patch.setattr(place, full)
            outcome = judge_scan(task)
        assert outcome.status == "failed" and "no room left" in outcome.reason, place
    assert judge_scan(task).status == "done"


@pytest.mark.parametrize("name", ["../sub-02.nii.gz", "/etc/hostname", "sub-01/../../x", ""])
def test_a_record_that_points_out_of_the_folder_is_none(name: str, tmp_path: Path) -> None:
    record = {"scan": "sub-01", "status": "done", "settings": "x", "files": [name]}
    (tmp_path / "records").mkdir()
    (tmp_path / "records/sub-01.json").write_text(json.dumps(record))
    assert read_record(tmp_path, "sub-01") is None


def test_a_calibration_of_other_weights_is_said_before_the_study_begins_and_without_its_place(
    bids: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    known = read_calibration(tiny_weights / "calibration.json")
    other = tmp_path / "secret" / "c.json"
    other.parent.mkdir()
    write_calibration(other, known.model_copy(update={"weights": {"segmenter": "another"}}))
    task = tasks_of(bids, tiny_weights, tmp_path / "out")[0]
    request = dataclasses.replace(task.request, calibration=other)
    with pytest.raises(InputError, match="other weights"):
        settings_checksum(request, tiny_weights, task.settings)
    reason = judge_scan(dataclasses.replace(task, request=request)).reason
    assert "other weights" in reason and "secret" not in reason
