"""The command line as a user meets it."""

from __future__ import annotations

import json
import os
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
from veridice.assessment.decide import LEAST_WORTH
from veridice.case import Assessment
from veridice.cli.common import interrupted_after
from veridice.io.nifti import read_map
from veridice.quality.decision import AGREEMENT_WEIGHT


def check(files: dict[str, Path], *more: str) -> int:
    return cli.run(["check", "--passes=2", *[f"--{name}={path}" for name, path in files.items()], *more])


def test_json_is_one_object_with_absolute_paths(scan_files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert check(scan_files, "--json") == 0
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    row = json.loads(printed)
    assert set(row) == set(Assessment.model_fields)
    assert "input_mask" in row["maps"]
    for path in row["maps"].values():
        assert Path(path).is_absolute()
        assert Path(path).is_file()
    assert {"read", "segmentation", "write", "report", "total"} <= set(row["seconds"])


def test_stored_files_name_no_absolute_path(scan_files: dict[str, Path]) -> None:
    assert check(scan_files) == 0
    texts = [p for p in scan_files["output"].iterdir() if p.suffix in (".json", ".html") or p.name == ".bidsignore"]
    assert len(texts) > 5
    for path in texts:
        assert str(scan_files["flair"].parent) not in path.read_text()


def test_sidecars_record_every_step_to_the_cube(scan_files: dict[str, Path]) -> None:
    assert check(scan_files) == 0
    sidecar = json.loads((scan_files["output"] / "sub-1_desc-entropy_uncertainty.json").read_text())
    record = sidecar["Preprocessing"]
    assert record["native_shape"] == list(nib.load(scan_files["flair"]).shape)
    assert record["grid_shape"] == [16, 16, 16]
    assert len(record["crop_box"]) == 3
    assert record["intensity_range"]["flair"]["low"] < record["intensity_range"]["flair"]["high"]
    assert set(record["intensity_range"]) == {"flair", "t1"}


def test_own_mask_when_none_is_given(scan_files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    del scan_files["mask"]
    assert check(scan_files, "--json") == 0
    row = json.loads(capsys.readouterr().out)
    assert "lesion_mask" in row["maps"]
    assert "input_mask" not in row["maps"]
    flair = nib.load(scan_files["flair"])
    for path in row["maps"].values():
        stored = read_map(Path(path))
        assert stored.shape == flair.shape
        np.testing.assert_allclose(stored.affine, flair.affine, atol=1e-4)


def test_two_people_with_nearly_one_name_do_not_mix(scan_files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert check(scan_files, "--case=patient 1") == 0
    before = {path: path.read_bytes() for path in scan_files["output"].iterdir()}
    assert check(scan_files, "--case=patient1") == 3
    assert "is of 'patient 1', not of 'patient1'" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in scan_files["output"].iterdir()} == before
    assert check(scan_files, "--case=patient 1") == 0


def test_a_hostile_case_name_stays_text(scan_files: dict[str, Path]) -> None:
    assert check(scan_files, "--case=</script><img onerror=alert(1)>") == 0
    (report,) = scan_files["output"].glob("*_report.html")
    html = report.read_text()
    assert "&lt;/script&gt;&lt;img onerror=alert(1)&gt;" in html
    assert "<img onerror" not in html
    assert html.count("<script") == html.count("</script") == 1  # the rating's, which the policy allows by its checksum


def test_report_needs_no_network(scan_files: dict[str, Path]) -> None:
    assert check(scan_files) == 0
    html = (scan_files["output"] / "sub-1_report.html").read_text()
    assert "http" not in html.replace('http-equiv="Content-Security-Policy"', "")
    assert "data:image/png;base64," in html
    assert "not a medical device" in html


def test_a_second_run_gives_the_same_numbers(scan_files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    rows = []
    for _ in range(2):
        assert check(scan_files, "--json") == 0
        rows.append(json.loads(capsys.readouterr().out))
    assert rows[0]["scores"] == rows[1]["scores"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "--flai", "x"],
        ["check"],
        ["nonsense"],
        ["check", "--flair=a", "-o", "b", "--passes=1"],
        *(
            [name, "a", "b", *rest, "--mask-threshold=nan"]
            for name, rest in (("run", ["participant"]), ("compare", ["--masks=x"]))
        ),
        *(["train", kind] for kind in ("critic", "anatomy", "probabilistic", "generator")),
    ],
)
def test_wrong_usage_is_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments) == 2
    assert "Usage" in capsys.readouterr().err


def test_unknown_device_is_exit_2(scan_files: dict[str, Path]) -> None:
    assert check(scan_files, "--device=abacus") == 2


def test_interruption_is_exit_130_and_leaves_nothing(
    scan_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("veridice.assessment.assess.assess_masks", interrupt)
    assert check(scan_files) == 130
    assert "interrupted" in capsys.readouterr().err
    assert not scan_files["output"].exists()


def test_an_internal_error_is_one_line_and_exit_1(
    scan_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("broken\nbadly")

    monkeypatch.setattr("veridice.assessment.assess.assess_masks", fail)
    assert check(scan_files) == 1
    assert "ZeroDivisionError: broken badly" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("veridice ")


def test_models_lists_and_verifies(tiny_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["models", "--verify", f"--weights={tiny_weights}"]) == 0
    assert capsys.readouterr().out.count("(intact)") == 9
    (tiny_weights / "segmenter.safetensors").write_bytes(b"x")
    assert cli.run(["models", f"--weights={tiny_weights}"]) == 0
    assert cli.run(["models", "--verify", f"--weights={tiny_weights}"]) == 3


def test_demo_prints_true_beside_predicted_dice(tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["demo", f"--weights={tiny_weights}", "--passes=2", f"--output={tmp_path / 'demo'}"]) == 0
    printed = capsys.readouterr().out
    assert "predicted Dice" in printed
    assert "true Dice" in printed
    assert "CC-BY" in printed
    assert (tmp_path / "demo" / "sub-lesjak19_report.html").is_file()


def test_several_masks_are_ranked(scan_files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = nib.load(scan_files["mask"])
    half = np.asarray(mask.dataobj).copy()
    half[: half.shape[0] // 2] = 0
    nib.save(nib.Nifti1Image(half, mask.affine), tmp_path / "=half|.nii.gz")
    share = np.asarray(mask.dataobj).astype(np.float32) * np.float32(0.8)
    share[0, 0, 0] = 0.3
    nib.save(nib.Nifti1Image(share, mask.affine), tmp_path / "share.nii.gz")
    more = [f"--mask={tmp_path / name}" for name in ("=half|.nii.gz", "share.nii.gz")]
    assert check(scan_files, *more, "--json") == 0
    row = json.loads(capsys.readouterr().out)
    ranked = {entry["mask"]: entry for entry in row["ranking"]}
    assert set(ranked) == {"mask.nii.gz", "=half|.nii.gz", "share.nii.gz"}
    value = [entry["predicted_dice"] + AGREEMENT_WEIGHT * entry["agreement_with_others"] for entry in row["ranking"]]
    assert value == sorted(value, reverse=True)
    assert row["judged_mask"] == row["ranking"][0]["mask"] and row["predicted_dice"] == row["ranking"][0]["predicted_dice"]
    # The share, cut at 0.5, is the mask itself.
    whole, part = ranked["mask.nii.gz"], ranked["=half|.nii.gz"]
    assert whole["volume_ml"] == ranked["share.nii.gz"]["volume_ml"]
    overlap = 2 * part["volume_ml"] / (whole["volume_ml"] + part["volume_ml"])
    weights = [max(entry["predicted_dice"], LEAST_WORTH) for entry in (ranked["share.nii.gz"], part)]
    assert whole["agreement_with_others"] == pytest.approx(np.average([1, overlap], weights=weights))
    assert check(scan_files, *more) == 0
    assert "Masks, the best first" in capsys.readouterr().out
    report = (scan_files["output"] / "sub-1_report.html").read_text()
    assert "All masks, the best first" in report


def test_lesions_are_listed_and_numbered(scan_files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert check(scan_files, "--json") == 0
    row = json.loads(capsys.readouterr().out)
    table = pd.read_csv(row["tables"]["lesions"], sep="\t")
    numbers = np.asarray(nib.load(row["maps"]["lesion_numbers"]).dataobj)
    assert numbers.shape == nib.load(scan_files["flair"]).shape
    mask = np.asarray(nib.load(scan_files["mask"]).dataobj) > 0
    for lesion in table.to_dict("records"):
        inside = numbers == lesion["number"]
        assert mask[inside].all() if lesion["place"] == "mask" else not mask[inside].any()
    assert (np.isin(numbers, table.loc[table["place"] == "mask", "number"]) == mask).all()
    assert set(np.unique(numbers)) - {0} == set(table["number"])
    voxel_ml = abs(np.linalg.det(nib.load(scan_files["flair"]).affine[:3, :3])) / 1000
    assert table["volume_ml"].sum() == pytest.approx((numbers > 0).sum() * voxel_ml, rel=1e-4)
    assert row["volumes_ml"]["looks_missed"] == pytest.approx(
        table.loc[table["place"] == "missed", "volume_ml"].sum(), rel=1e-4
    )


def test_a_t1w_on_its_own_grid(scan_files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    t1 = nib.load(scan_files["t1"])
    affine = t1.affine.copy()
    affine[:3, 3] += t1.affine[:3, 0]
    nib.save(nib.Nifti1Image(np.asarray(t1.dataobj)[1:], affine), scan_files["t1"])
    assert check(scan_files, "--no-registration", "--json") == 0
    row = json.loads(capsys.readouterr().out)
    assert any("without registration" in warning for warning in row["warnings"])
    assert check(scan_files, "--json") == 0
    assert any("T1w" in warning for warning in json.loads(capsys.readouterr().out)["warnings"])


def test_an_interruption_that_gets_lost_comes_again() -> None:
    """In a process of its own: an interruption that came a moment late would end the one that tests."""
    code = """
import signal, time, types
from veridice import __main__ as starting
signal.signal(signal.SIGALRM, starting._interrupt)
try:
    # As Python says when the signal comes while it throws an object away.
    starting._unraisable(types.SimpleNamespace(exc_type=KeyboardInterrupt))
    time.sleep(5)
except KeyboardInterrupt:
    print("came again")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "came again\n"), done.stderr


@pytest.mark.parametrize("home", ["/proc/none", pytest.param("/sys", marks=pytest.mark.slow)])
def test_no_library_complains_of_a_home_where_nothing_can_be_written(home: str, scan_files: dict[str, Path]) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "MPL"))}
    arguments = [f"--{name}={scan_files[name]}" for name in ("flair", "mask", "weights", "output")]
    command = [sys.executable, "-m", "veridice", "check", "--passes=2", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env={**kept, "HOME": home})
    assert (done.returncode, done.stderr.strip()) == (0, "")


def test_minutes_that_are_over_interrupt() -> None:
    before = signal.getsignal(signal.SIGALRM)
    with pytest.raises(KeyboardInterrupt), interrupted_after(0.0005):
        time.sleep(60)
    with interrupted_after(60), interrupted_after(None):
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0) and signal.getsignal(signal.SIGALRM) is before
