"""What is said of an experiment that was interrupted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch

from veridice.experiment.reached import how_far
from veridice.training.loop import CHECKPOINT


def written(path: Path, seconds: int, content: object = None) -> None:
    """A file of that age."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path) if content else path.write_text("{}")
    os.utime(path, (seconds, seconds))


def test_folds_stages_and_steps(tmp_path: Path) -> None:
    assert how_far(tmp_path, 2) == "0 of 2 folds are finished; stages of fold 0: none"
    for stage, seconds in (("segmenter", 10), ("inner-0", 20), ("scores", 30)):
        written(tmp_path / "fold-0" / "stages" / f"{stage}.json", seconds)
    written(tmp_path / "fold-1" / "stages" / "segmenter.json", 40)
    finished = tmp_path / "fold-1" / "segmenter" / CHECKPOINT
    written(finished, 39, {"state": json.dumps({"step": 900})})
    assert how_far(tmp_path, 2) == "1 of 2 folds are finished; stages of fold 1: segmenter"
    written(tmp_path / "fold-1" / "inner-0" / "segmenter" / CHECKPOINT, 50, {"state": json.dumps({"step": 400})})
    assert how_far(tmp_path, 2).endswith("stages of fold 1: segmenter; inner-0/segmenter is at step 400")
    written(tmp_path / "fold-1" / "stages" / "scores.json", 60)
    assert how_far(tmp_path, 2) == "2 of 2 folds are finished"
