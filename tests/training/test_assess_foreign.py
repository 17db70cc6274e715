"""Masks of other networks: each is drawn, judged and told with its true Dice; no network draws in two of the roles."""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from veridice.assessment.models import load_models
from veridice.imaging.scan import Scan
from veridice.imaging.volume import Volume
from veridice.metrics.overlap import dice
from veridice.training.assessed_masks import KnownScan


@pytest.fixture(scope="module")
def script() -> ModuleType:
    file = Path(__file__).parents[2] / "scripts" / "assess_foreign.py"
    spec = importlib.util.spec_from_file_location("assess_foreign", file)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for their module there
    spec.loader.exec_module(module)
    return module


def test_two_tools_draw_four_masks(
    script: ModuleType, tiny_scan: dict[str, Volume], tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flair, truth = tiny_scan["flair"], tiny_scan["flair"].voxels > 750
    known = KnownScan("scan", "person", 0, Scan(flair, tiny_scan["t1"]), (truth,), np.ones_like(truth), {"simulated": True})
    half = truth & (np.arange(len(truth)) < np.flatnonzero(truth.any(axis=(1, 2))).mean())[:, None, None]
    drawn = {"all": truth * 1.0, "some": half * 1.0}
    monkeypatch.setattr(script, "probability", lambda name, *_: drawn[name])
    models, file = load_models(tiny_weights, with_quality=False), tmp_path / "scan.json"
    draw = partial(script.drawn_by_two, tools=tuple(drawn))
    script.judge(script.Drawing(lambda: known, draw, models, (1,), file))
    told = {row["kind"]: row["dice"] for row in json.loads(file.read_text())}
    assert told["foreign all"] == 1.0
    assert told["foreign some"] == pytest.approx(dice(half, truth).dice)
    assert sorted(told) in [
        sorted(["foreign all", "foreign some", f"foreign {one}, other level", "foreign two together"]) for one in drawn
    ]
    assert told["foreign two together"] in (told["foreign all"], told["foreign some"])


def test_tools_that_are_learnt_from_neither_calibrate_nor_check(script: ModuleType) -> None:
    learnt = set(script.TOOLS["training"])
    assert not learnt & {*script.TOOLS["calibration"], *script.TOOLS["coverage"]}
    for name in set().union(*script.TOOLS.values()):
        assert script.tool(name).training is False
