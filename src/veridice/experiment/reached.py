"""How far an experiment has come, from what lies in its folder."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from veridice.experiment.fold import LAST_STAGE, STAGES
from veridice.training.loop import CHECKPOINT


def how_far(folder: Path, folds: int) -> str:
    """A sentence: how many folds are finished, and of the next one which stages, and the steps of a training under way."""
    for number in range(folds):
        fold = folder / f"fold-{number}"
        done = sorted((fold / STAGES).glob("*.json"), key=_written)
        if not (fold / STAGES / f"{LAST_STAGE}.json").exists():
            names = ", ".join(path.stem for path in done) or "none"
            return f"{number} of {folds} folds are finished; stages of fold {number}: {names}{_under_way(fold, done)}"
    return f"{folds} of {folds} folds are finished"


def _under_way(fold: Path, done: list[Path]) -> str:
    """Steps of the training whose checkpoint is younger than every finished stage."""
    checkpoints = sorted(fold.rglob(CHECKPOINT), key=_written)
    if not checkpoints or (done and _written(checkpoints[-1]) < _written(done[-1])):
        return ""
    state = json.loads(torch.load(checkpoints[-1], weights_only=True, map_location="cpu", mmap=True)["state"])
    return f"; {checkpoints[-1].parent.relative_to(fold)} is at step {state['step']}"


def _written(path: Path) -> int:
    """When it was written, ns."""
    return path.stat().st_mtime_ns
