"""`veridice train` from a manifest to weights that `veridice check` uses, tiny and on synthetic scans."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from veridice import cli
from veridice.inference.weights import load_network
from veridice.io.nifti import read_image, write_image
from veridice.io.weight_cards import read_card


def train(network: str, study: Path) -> int:
    options = {"manifest": "manifest.csv", "data": ".", "config": "tiny.toml", "output": "run"}
    return cli.run(["train", network, *[f"--{name}={study / value}" for name, value in options.items()]])


def test_three_trainings_give_weights_that_check_uses(
    study: Path, scan_files: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    for network in ("segmenter", "reconstructor", "regressor"):
        assert train(network, study) == 0, capsys.readouterr().err
    card = read_card(study / "run" / "weights", "regressor-error")
    assert card.people == {"train": ["a-train"], "validation": ["a-validation"]}
    assert {"mae", "mae_of_constant", "pearson"} == set(card.metrics)
    made = {name: read_card(study / "run" / "weights", name).sha256 for name in ("segmenter", "reconstructor")}
    assert card.learnt_from == made
    metrics = pd.read_csv(study / "run" / "segmenter" / "metrics.csv")
    assert list(metrics["step"]) == [2, 4]
    assert list((study / "run" / "segmenter" / "tensorboard").iterdir())
    # Brain and judge come from trainings of their own.
    for file in [file for name in ("brain", "predictor", "calibration") for file in scan_files["weights"].glob(f"{name}.*")]:
        shutil.copy(file, study / "run" / "weights")
    scan_files["weights"] = study / "run" / "weights"
    assert cli.run(["check", "--passes=2", *[f"--{name}={path}" for name, path in scan_files.items()]]) == 0


def test_a_finished_training_is_not_done_again(study: Path) -> None:
    assert train("segmenter", study) == 0
    weights = study / "run" / "weights" / "segmenter.safetensors"
    before = weights.read_bytes()
    metrics = (study / "run" / "segmenter" / "metrics.csv").read_bytes()
    assert train("segmenter", study) == 0
    assert weights.read_bytes() == before
    assert (study / "run" / "segmenter" / "metrics.csv").read_bytes() == metrics


def test_a_training_does_not_go_on_with_other_settings(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("segmenter", study) == 0
    checkpoint = (study / "run" / "segmenter" / "checkpoint.pt").read_bytes()
    text = (study / "tiny.toml").read_text()
    (study / "tiny.toml").write_text(text.replace("[data]", "[data]\nrotation = 0.4"))
    assert train("segmenter", study) == 3
    assert "begun with another data.rotation" in capsys.readouterr().err
    assert (study / "run" / "segmenter" / "checkpoint.pt").read_bytes() == checkpoint
    # More steps, other processes: the same training, and its beginning is not lost.
    (study / "tiny.toml").write_text(text.replace("[data]", "[data]\njobs = 1").replace("steps = 4", "steps = 6"))
    assert train("segmenter", study) == 0
    assert list(pd.read_csv(study / "run" / "segmenter" / "metrics.csv")["step"]) == [2, 4, 6]


def test_regressors_do_not_learn_from_maps_of_earlier_networks(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for network in ("segmenter", "reconstructor", "regressor"):
        assert train(network, study) == 0
    card = study / "run" / "weights" / "segmenter.json"
    card.write_text(card.read_text().replace(read_card(card.parent, "segmenter").sha256, 64 * "0"))
    assert train("regressor", study) == 3
    assert "made by other weights" in capsys.readouterr().err


def test_training_twice_gives_the_same_weights(study: Path) -> None:
    assert train("segmenter", study) == 0
    first = (study / "run" / "weights" / "segmenter.safetensors").read_bytes()
    (study / "run").rename(study / "earlier")
    assert train("segmenter", study) == 0
    assert (study / "run" / "weights" / "segmenter.safetensors").read_bytes() == first


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("steps = 4", "steps = 0", "segmenter.steps"),
        ("[data]", "[data", "not TOML"),
        ("grid = 16", "gird = 16", "data.gird"),
    ],
)
def test_a_wrong_configuration_is_named(study: Path, old: str, new: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    (study / "tiny.toml").write_text((study / "tiny.toml").read_text().replace(old, new))
    assert train("segmenter", study) == 3
    assert said in capsys.readouterr().err


def test_the_configuration_may_name_the_data(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["train", "segmenter", f"--config={study / 'tiny.toml'}", f"--output={study / 'run'}"]
    assert cli.run(options) == 3
    assert "no training data" in capsys.readouterr().err
    named = f'[data]\nmanifest = "{study / "manifest.csv"}"\nroot = "{study}"'
    (study / "tiny.toml").write_text((study / "tiny.toml").read_text().replace("[data]", named))
    assert cli.run(options) == 0


def test_a_regressor_without_the_other_two_says_what_is_missing(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("regressor", study) == 3
    assert "segmenter" in capsys.readouterr().err


def test_a_training_may_start_from_other_weights(study: Path) -> None:
    assert train("segmenter", study) == 0
    (study / "tiny.toml").write_text((study / "tiny.toml").read_text().replace("steps = 4", "steps = 1\nlearning_rate = 1e-9"))
    (study / "run").rename(study / "earlier")
    options = {"manifest": "manifest.csv", "data": ".", "config": "tiny.toml", "output": "run", "start": "earlier/weights"}
    whole = ["train", "segmenter", "--whole-cubes", *[f"--{name}={study / value}" for name, value in options.items()]]
    assert cli.run(whole) == 0
    cards = [read_card(study / run / "weights", "segmenter") for run in ("earlier", "run")]
    assert (cards[0].started_from, cards[1].started_from) == ("", cards[0].sha256)
    first, second = (load_network(study / run / "weights", "segmenter")[0].state_dict() for run in ("earlier", "run"))
    assert all(torch.allclose(first[name], second[name], atol=1e-3) for name in first)


@pytest.mark.parametrize(("option", "said"), [("--whole-cubes", "sees no patches"), ("--start=run", "begins anew")])
def test_what_is_not_for_the_regressors_is_refused(
    option: str, said: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [f"--config={study / 'tiny.toml'}", f"--manifest={study / 'manifest.csv'}", f"--data={study}"]
    assert cli.run(["train", "regressor", option, f"--output={study / 'run'}", *options]) == 2
    assert said in capsys.readouterr().err
    assert not (study / "run").exists()


def test_a_start_of_another_layout_is_refused(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("segmenter", study) == 0
    (study / "run").rename(study / "earlier")
    (study / "tiny.toml").write_text((study / "tiny.toml").read_text().replace("features = 2", "features = 3"))
    options = {"manifest": "manifest.csv", "data": ".", "config": "tiny.toml", "output": "run", "start": "earlier/weights"}
    assert cli.run(["train", "segmenter", *[f"--{name}={study / value}" for name, value in options.items()]]) == 3
    assert "another layout" in capsys.readouterr().err


def test_a_left_out_group_goes_to_a_folder_of_its_own(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        f"--{n}={study / v}"
        for n, v in {"manifest": "manifest.csv", "data": ".", "config": "tiny.toml", "output": "run"}.items()
    ]
    assert cli.run(["train", "segmenter", "--leave-out=0", *options]) == 3
    assert "cannot be left out" in capsys.readouterr().err
    groups = 'donor_groups = ["mni152", "lesjak-01,a-train,a-validation"]\ngrid = 16'
    (study / "tiny.toml").write_text((study / "tiny.toml").read_text().replace("grid = 16", groups))
    assert cli.run(["train", "segmenter", "--leave-out=0", "--steps=3", *options]) == 0
    assert read_card(study / "run" / "fold-0" / "weights", "segmenter").steps == 3
    assert not (study / "run" / "weights").exists()


def test_a_validation_without_lesions_is_no_reason_to_fail(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (study / "tiny.toml").read_text()
    (study / "tiny.toml").write_text(text.replace("[reconstructor]", "[reconstructor]\nhole_weight = 1.0"))
    empty = read_image(study / "flair.nii.gz")
    write_image(study / "empty.nii.gz", empty.with_voxels(np.zeros(empty.shape, bool)))
    table = pd.read_csv(study / "manifest.csv")
    table.loc[table["split"] == "validation", "mask"] = "empty.nii.gz"
    table.to_csv(study / "manifest.csv", index=False)
    assert train("reconstructor", study) == 0, capsys.readouterr().err
    assert set(read_card(study / "run" / "weights", "reconstructor").metrics) == {"ssim"}


def test_a_training_does_not_go_on_from_other_weights(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train("segmenter", study) == 0
    options = {"manifest": "manifest.csv", "data": ".", "config": "tiny.toml", "output": "run", "start": "run/weights"}
    assert cli.run(["train", "segmenter", *[f"--{name}={study / value}" for name, value in options.items()]]) == 3
    assert "begun from other weights" in capsys.readouterr().err


def test_an_output_that_is_a_file_is_said(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (study / "run").write_text("")
    assert train("segmenter", study) == 3
    assert "another -o folder" in capsys.readouterr().err
