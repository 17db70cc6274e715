"""From resume points to weights that load."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from veridice.inference.weights import load_network
from veridice.networks.mc_unet import McUnet
from veridice.training import endless_release
from veridice.training.endless import ResumePoint


def write_point(folder: Path) -> None:
    torch.manual_seed(0)
    arguments = {"features": 2, "depth": 3, "stem": 2, "dropout_rate": 0.2, "dropout_kind": "channel", "classes": 8}
    curve = [{"step": 4.0, "simulated": 0.5, "real": float("nan")}]
    facts = {"task": "anatomy", "seed": 0, **arguments}
    ResumePoint(McUnet(**arguments).state_dict(), 4, curve, facts, ("IXI000",)).write(folder)


def run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    options = ["anatomy", "-o", str(folder / "out"), "--resume", str(folder / "resume")]
    monkeypatch.setattr(sys, "argv", ["endless_release", *options])
    return endless_release.main()


def test_weights_that_load_and_their_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_point(tmp_path / "resume" / "anatomy")
    assert run(tmp_path, monkeypatch) == 0
    network, card = load_network(tmp_path / "out", "anatomy")
    assert isinstance(network, McUnet) and network.classes == 8
    assert card.kind == "anatomy" and card.steps == 4 and card.metrics == {"simulated": 0.5}
    assert "IXI000" in card.people["train"]


def test_a_training_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, monkeypatch) == 3
    assert "anatomy: no resume point; train it first" in capsys.readouterr().err
