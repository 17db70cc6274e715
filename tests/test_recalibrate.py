"""A site recalibrates on its own cases, and check uses that."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from veridice import cli
from veridice.calibration import read_calibration
from veridice.case import Assessment

ROWS = 30


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    """A folder of stored results and the table of their true Dice."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(ROWS):
        predicted = float(rng.uniform(0.3, 0.9))
        assessment = Assessment(
            case=f"c{number}",
            verdict="review",
            predicted_dice=predicted,
            scores={"predicted_spread": 0.05},
            volumes_ml={},
            warnings=(),
            maps={"entropy": "entropy.nii.gz", "lesion_mask": "own.nii.gz", "input_mask": "given.nii.gz"},
            seconds={},
            model={},
            version="0",
        )
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / f"c{number}_veridice.json").write_text(assessment.model_dump_json())
        true = float(np.clip(predicted + rng.normal(0, 0.05), 0, 1))
        rows.append({"assessment": f"out/c{number}_veridice.json", "dice": true, "truth": ""})
    pd.DataFrame(rows).to_csv(tmp_path / "table.csv", index=False)
    return tmp_path


def test_calibrate_and_check(judged: Path, scan_files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    made = judged / "new" / "c.json"
    assert cli.run(["calibrate", str(judged / "table.csv"), "-o", str(made), "--source", "<b>our clinic"]) == 0
    calibration = read_calibration(made)
    assert (calibration.n, calibration.patients, calibration.simulated) == (ROWS, ROWS, False)
    capsys.readouterr()
    arguments = [f"--{name}={path}" for name, path in scan_files.items()]
    assert cli.run(["check", "--passes=2", "--json", f"--calibration={made}", *arguments]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["calibration"] == {"source": "<b>our clinic", "n": ROWS, "simulated": False, "accept_from": None}
    assert not any("rests on simulated" in warning for warning in row["warnings"])
    assert "&lt;b&gt;our clinic" in (scan_files["output"] / "sub-1_report.html").read_text()


def test_the_dice_is_measured_where_a_truth_is_given(judged: Path) -> None:
    rng = np.random.default_rng(1)
    images = {"entropy": rng.random((5, 6, 7)), "own": np.zeros((5, 6, 7)), "given": rng.random((5, 6, 7)) > 0.5}
    for name, voxels in images.items():
        nib.save(nib.Nifti1Image(np.asarray(voxels, np.float32), np.eye(4)), judged / "out" / f"{name}.nii.gz")
    truth = images["given"].copy()
    truth[:2] = False
    nib.save(nib.Nifti1Image(truth.astype(np.uint8), np.eye(4)), judged / "truth.nii.gz")
    table = pd.read_csv(judged / "table.csv", dtype=str, keep_default_na=False)
    table.assign(dice="", truth="truth.nii.gz", patient="one").to_csv(judged / "table.tsv", sep="\t", index=False)
    assert cli.run(["calibrate", str(judged / "table.tsv"), "-o", str(judged / "c.json")]) == 0
    calibration = read_calibration(judged / "c.json")
    assert set(calibration.dice) == {2 * truth.sum() / (truth.sum() + images["given"].sum())}
    assert calibration.patients == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop(columns=["dice", "truth"]), "needed are"),
        (lambda t: t.assign(dice="good"), "line 2"),
        (lambda t: t.assign(dice="1.5"), "from 0 to 1"),
        (lambda t: t.assign(dice=""), "neither truth nor dice"),
        (lambda t: t.assign(assessment="none.json"), "not a stored assessment"),
        (lambda t: t.iloc[:5], "too few"),
    ],
)
def test_what_cannot_be_used_is_said(judged: Path, change: object, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    change(pd.read_csv(judged / "table.csv", dtype=str, keep_default_na=False)).to_csv(judged / "bad.csv", index=False)
    capsys.readouterr()
    assert cli.run(["calibrate", str(judged / "bad.csv"), "-o", str(judged / "c.json")]) == 3
    printed = capsys.readouterr().err
    assert said in printed and printed.count("\n") == 1
    assert not (judged / "c.json").exists()


def test_a_share_that_cannot_be_shown(judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["calibrate", str(judged / "table.csv"), "-o", str(judged / "c.json"), "--accepted-share", "0.95"]
    assert cli.run(command) == 3
    assert "cannot show" in capsys.readouterr().err
