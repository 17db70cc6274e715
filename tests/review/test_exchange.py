"""Corrected masks as truths: for a calibration and for a training; and what a notebook shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from command import veridice
from desk_study import SHAPE, served, without_judge, write_study

from veridice.imaging.volume import Volume
from veridice.io.datasets import read_manifest
from veridice.quality.calibration import read_calibration
from veridice.report.live_view import live_view


def test_corrected_masks_calibrate_and_train(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", 13)
    drawn = np.zeros(SHAPE)
    drawn[3:6, 4:7, 3] = 1
    with served(study, raters="ANNA", weights=without_judge(tmp_path / "weights")) as desk:
        for number in range(13):
            assert desk["ANNA"].draw(f"sub-{number:03d}", drawn)[0] == 200
    output = tmp_path / "calibration.json"
    done = veridice("calibrate", "--from-review", str(study), "-o", str(output), "--source", "ours")
    assert done.returncode == 0, done.stderr
    assert "random part" in done.stdout
    made = read_calibration(output)
    assert (made.n, made.patients, made.source, made.simulated) == (13, 13, "ours", False)
    assert made.dice == pytest.approx([18 / 28] * 13)
    done = veridice("review", "export", str(study))
    assert "13 corrected masks" in done.stderr
    manifest = study / "review" / "manifest.csv"
    assert str(tmp_path) not in manifest.read_text()
    cases = read_manifest(manifest, tmp_path / "study")
    assert {case.split for case in cases} == {"train", "validation"}
    assert all(case.t1 for case in cases)


def test_a_scan_that_was_judged_again_has_no_known_dice(tmp_path: Path) -> None:
    study = write_study(tmp_path / "study", 2)
    with served(study, raters="ANNA", weights=without_judge(tmp_path / "weights")) as desk:
        desk["ANNA"].draw("sub-001", np.ones(SHAPE))
    (study / "sub-001" / "anat" / "sub-001_label-lesion_mask.nii.gz").unlink()
    done = veridice("calibrate", "--from-review", str(study), "-o", str(tmp_path / "c.json"))
    assert done.returncode == 3
    assert "0 masks that are not empty are too few" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["table.csv", "--from-review", "study"]])
def test_a_table_or_a_review_but_not_both(arguments: list[str]) -> None:
    assert veridice("calibrate", *arguments, "-o", "c.json").returncode == 2


def test_a_notebook_shows_the_same_layers(tiny_scan: dict[str, Volume]) -> None:
    pytest.importorskip("ipyniivue")
    flair = tiny_scan["flair"]
    mask = flair.with_voxels(flair.voxels > 750)
    widget = live_view(flair, tiny_scan["t1"], {"lesion_mask": mask, "entropy": flair, "input_mask": mask})
    shown = [(volume.name, volume.opacity) for volume in widget.volumes]
    assert shown == [
        ("FLAIR.nii", 1.0),
        ("T1w.nii", 0.0),
        ("entropy.nii", 0.0),
        ("input_mask.nii", 0.6),
        ("lesion_mask.nii", 0.0),
    ]
