"""From resume points to weights that load: the share of the further training is chosen on people it never saw."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from veridice.config import to_toml
from veridice.inference.weights import load_network
from veridice.networks.mc_unet import McUnet
from veridice.training import endless_release
from veridice.training.endless import ResumePoint
from veridice.training.settings import (
    DataSettings,
    EndlessSettings,
    ReconstructorSettings,
    SegmenterSettings,
    TrainingSettings,
)
from veridice.training.weight_average import SHARES

GRID = 16


def write_point(folder: Path, seed: int, task: str = "segmenter", **more: int) -> None:
    torch.manual_seed(seed)
    arguments = {"features": 2, "depth": 3, "stem": 2, "dropout_rate": 0.2, "dropout_kind": "channel", **more}
    facts = {"task": task, "seed": 0, **arguments}
    curve = [{"step": 4.0, "simulated": 0.5, "real": float("nan")}]
    ResumePoint(McUnet(**arguments).state_dict(), 4, curve, facts).write(folder)


@pytest.fixture
def config(study: Path) -> Path:
    """Two donor groups of one real scan each; nothing is simulated."""
    settings = TrainingSettings(
        name="tiny",
        data=DataSettings(
            grid=GRID,
            cubes=str(study / "cubes"),
            simulated_patients=0,
            simulated_validation=0,
            donor_groups=("a-train", "a-validation"),
        ),
        segmenter=SegmenterSettings(features=2, depth=3, stem=2, crop=16),
        reconstructor=ReconstructorSettings(depth=3, crop=16),
        endless=EndlessSettings(heads=str(study / "heads"), real_fraction=1.0),
    )
    (study / "heads").mkdir()
    (study / "endless.toml").write_text(to_toml(settings))
    return study / "endless.toml"


def run(config: Path, study: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    options = [str(study), "-o", str(study / "out"), "--manifest", str(study / "manifest.csv"), "--config", str(config)]
    monkeypatch.setattr(sys, "argv", ["endless_release", *options, "--resume", str(study / "resume")])
    return endless_release.main()


def test_weights_that_load_and_their_cards(config: Path, study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_point(study / "resume" / "see-more", 0)
    for number, name in enumerate(("0", "1", "all")):
        write_point(study / "out" / f"further-{name}", number + 1)
    write_point(study / "resume" / "anatomy", 9, "anatomy", classes=8)
    assert run(config, study, monkeypatch) == 0
    table = pd.read_csv(study / "out" / "weight-share.csv")
    assert len(table) == 2 * 2 * len(SHARES) and set(table["fold"]) == {0, 1}
    network, card = load_network(study / "out" / "weights", "segmenter")
    assert isinstance(network, McUnet) and card.metrics["share"] in SHARES and card.steps == 4
    assert card.people == {"train": ["a-train"], "validation": ["a-validation"]}
    for group, person in enumerate(("a-train", "a-validation")):
        fold = load_network(study / "out" / f"fold-{group}" / "weights", "segmenter")[1]
        assert person not in {name for names in fold.people.values() for name in names}
    assert load_network(study / "out" / "weights", "anatomy")[1].kind == "anatomy"


def test_a_training_that_is_missing_is_named(
    config: Path, study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_point(study / "resume" / "see-more", 0)
    assert run(config, study, monkeypatch) == 3
    assert "further-0: no resume point; train it first" in capsys.readouterr().err
