"""A site recalibrates on its own cases, and check uses that."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from veridice import cli
from veridice.case import Assessment
from veridice.io.weight_cards import bundled_weights, checksums
from veridice.quality.calibration import read_calibration
from veridice.quality.decision import people_with_bad_masks

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
    told = {"source": "<b>our clinic", "n": ROWS, "simulated": False, "sha256": calibration.checksum}
    assert row["calibration"] == told
    assert not any("rest on simulated" in warning for warning in row["warnings"])
    assert "&lt;b&gt;our clinic" in (scan_files["output"] / "sub-1_report.html").read_text()


def with_truth(folder: Path) -> float:
    """Writes maps, a truth and ``table.tsv``, which names it; returns the Dice of every case."""
    rng = np.random.default_rng(1)
    images = {"entropy": rng.random((5, 6, 7)), "own": np.zeros((5, 6, 7)), "given": rng.random((5, 6, 7)) > 0.5}
    for name, voxels in images.items():
        nib.save(nib.Nifti1Image(np.asarray(voxels, np.float32), np.eye(4)), folder / "out" / f"{name}.nii.gz")
    truth = images["given"].copy()
    truth[:2] = False
    nib.save(nib.Nifti1Image(truth.astype(np.uint8), np.eye(4)), folder / "truth.nii.gz")
    table = pd.read_csv(folder / "table.csv", dtype=str, keep_default_na=False)
    table.assign(dice="", truth="truth.nii.gz", patient="one").to_csv(folder / "table.tsv", sep="\t", index=False)
    return float(2 * truth.sum() / (truth.sum() + images["given"].sum()))


def test_the_dice_is_measured_where_a_truth_is_given(judged: Path) -> None:
    dice = with_truth(judged)
    assert cli.run(["calibrate", str(judged / "table.tsv"), "-o", str(judged / "c.json")]) == 0
    calibration = read_calibration(judged / "c.json")
    assert set(calibration.dice) == {dice}
    assert (calibration.patients, calibration.simulated) == (1, False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop(columns=["dice", "truth"]), "needed are"),
        (lambda t: t.assign(dice="good"), "line 2"),
        (lambda t: t.assign(dice="1.5"), "from 0 to 1"),
        (lambda t: t.assign(dice=""), "neither truth nor dice"),
        (lambda t: t.assign(assessment=["none.json", *t["assessment"][1:]]), "not a stored assessment"),
        (lambda t: t.iloc[:5], "too few"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "is there twice"),
        (lambda t: t.assign(assessment=["out/old.json", *t["assessment"][1:]]), "different weights"),
        (lambda t: t.assign(dice="", truth="table.csv", assessment=["out/bare.json", *t["assessment"][1:]]), "names no maps"),
    ],
)
def test_what_cannot_be_used_is_said(judged: Path, change: object, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = json.loads((judged / "out" / "c0_veridice.json").read_text())
    (judged / "out" / "old.json").write_text(json.dumps({**first, "model": {"weights": {"predictor": "another"}}}))
    (judged / "out" / "bare.json").write_text(json.dumps({**first, "maps": {}}))
    change(pd.read_csv(judged / "table.csv", dtype=str, keep_default_na=False)).to_csv(judged / "bad.csv", index=False)
    capsys.readouterr()
    assert cli.run(["calibrate", str(judged / "bad.csv"), "-o", str(judged / "c.json")]) == 3
    printed = capsys.readouterr().err
    assert said in printed and printed.count("\n") == 1
    assert not (judged / "c.json").exists()


def test_what_so_few_cannot_promise_is_refused(judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["calibrate", str(judged / "table.csv"), "-o", str(judged / "c.json"), "--max-missed"]
    assert cli.run([*command, "0.001"]) == 3
    said = capsys.readouterr().err
    assert "999 people are needed" in said and said.count("\n") == 1
    assert not (judged / "c.json").exists()
    assert cli.run([*command, "0.5"]) == 0
    assert "with them --max-missed may be" in capsys.readouterr().out


def many(folder: Path, count: int, **changes: object) -> Path:
    """A table of ``count`` results like the first one, with other names; nine of ten are good."""
    first = json.loads((folder / "out" / "c0_veridice.json").read_text())
    rng = np.random.default_rng(0)
    rows = []
    for number in range(count):
        row = {**first, "case": f"m{number}", "predicted_dice": float(rng.uniform(0.6, 0.9)), **changes}
        (folder / "out" / f"m{number}.json").write_text(json.dumps(row))
        rows.append({"assessment": f"out/m{number}.json", "dice": 0.2 if number % 10 == 0 else 0.95})
    pd.DataFrame(rows).to_csv(folder / "many.csv", index=False)
    return folder / "many.csv"


def test_a_site_decides_by_its_own_truths(
    judged: Path, scan_files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The same mask is accepted where all such masks were good, and not where they were bad."""
    arguments = [f"--{name}={path}" for name, path in scan_files.items()]
    found = {}
    for name, dice in (("good", 0.95), ("bad", 0.4)):
        table = pd.read_csv(many(judged, 60)).assign(dice=dice)
        table["dice"] = table["dice"].mask(table.index < 20, 0.1)
        table.to_csv(judged / "truths.csv", index=False)
        made = judged / f"{name}.json"
        assert cli.run(["calibrate", str(judged / "truths.csv"), "-o", str(made), "--min-dice=0.6", "--max-missed=0.05"]) == 0
        capsys.readouterr()
        assert cli.run(["check", "--passes=2", "--json", "--min-dice=0.6", f"--calibration={made}", *arguments]) == 0
        row = json.loads(capsys.readouterr().out)
        assert row["model"]["min_dice"] == 0.6 and set(row["p_values"]) == {"bad", "gross", "good"}
        found[name] = row["p_values"]["good"]
    assert found["good"] < 1 and found["bad"] == 1


@pytest.mark.parametrize("change", [{"for_review": True}, {"scores": {"predicted_spread": 0.05, "lesion_count": 0}}])
def test_what_is_never_accepted_proves_nothing(judged: Path, change: dict) -> None:
    """Neither scans that are for review whatever their Dice nor empty masks."""
    usable = pd.read_csv(many(judged, 40))
    for number in range(40):
        file = judged / "out" / f"m{number}.json"
        file.rename(judged / "out" / f"u{number}.json")
    rest = pd.read_csv(many(judged, 400, **change)).assign(dice=0.1)
    both = pd.concat([usable.assign(assessment=usable["assessment"].str.replace("/m", "/u")), rest])
    both.to_csv(judged / "both.csv", index=False)
    assert cli.run(["calibrate", str(judged / "both.csv"), "-o", str(judged / "c.json")]) == 0
    made = read_calibration(judged / "c.json")
    assert made.n == (440 if "for_review" in change else 40)
    assert people_with_bad_masks(made, 0.75) == 4


def test_the_table_is_not_overwritten(judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (judged / "table.csv").read_bytes()
    for victim in ("table.csv", "out/c3_veridice.json"):
        assert cli.run(["calibrate", str(judged / "table.csv"), "-o", str(judged / victim)]) == 3
        assert "is one of the files that are read" in capsys.readouterr().err
    assert (judged / "table.csv").read_bytes() == before


def test_a_calibration_of_other_weights_is_refused(
    judged: Path, scan_files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    table = many(judged, 30, model={"weights": {"predictor": "another"}, "passes": 20})
    assert cli.run(["calibrate", str(table), "-o", str(judged / "c.json")]) == 0
    arguments = [f"--{name}={path}" for name, path in scan_files.items()]
    assert cli.run(["check", "--passes=2", f"--calibration={judged / 'c.json'}", *arguments]) == 3
    assert "judged with other weights" in capsys.readouterr().err


def test_simulated_cases_stay_simulated(judged: Path) -> None:
    with_truth(judged)
    (judged / "sub-x_desc-simulation_parameters.json").write_text("{}")
    assert cli.run(["calibrate", str(judged / "table.tsv"), "-o", str(judged / "c.json")]) == 0
    assert read_calibration(judged / "c.json").simulated


def test_an_altered_calibration_beside_the_weights_is_told(tiny_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["models", "--verify", f"--weights={tiny_weights}"]) == 0
    file = tiny_weights / "calibration.json"
    file.write_text(file.read_text().replace("random numbers", "our best scans"))
    assert cli.run(["models", "--verify", f"--weights={tiny_weights}"]) == 3
    assert "calibration.json: altered" in capsys.readouterr().err


def test_cases_that_other_weights_judged_are_not_added_to_what_ships(judged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["calibrate", str(judged / "table.csv"), "-o", str(judged / "c.json"), "--add-to-shipped", "5"]
    for known in (checksums(bundled_weights()), {"segmenter": "another"}):
        for file in (judged / "out").glob("*_veridice.json"):
            model = {"weights": known, "passes": 20}
            file.write_text(json.dumps({**json.loads(file.read_text()), "model": model}))
        assert cli.run(command) == (3 if "brain" not in known else 0)
    assert "other weights" in capsys.readouterr().err
