"""kill -9 at any moment: what was acknowledged is there afterwards."""

from __future__ import annotations

import os
import signal
import threading
import time
from http.client import HTTPException
from pathlib import Path

import numpy as np
import pytest
from desk_study import SHAPE, Client, DeskProcess, served, served_apart, without_judge, write_study

from veridice.review.store import kept_open


class Hurry(threading.Thread):
    """A rater who rates and draws without a pause, and notes what was acknowledged."""

    def __init__(self, client: Client, scan: str, draws: bool) -> None:
        super().__init__(daemon=True)
        self.client, self.scan, self.draws = client, scan, draws
        self.ratings: list[str] = []
        self.drawings: list[int] = []

    def run(self) -> None:
        voxels = np.zeros(SHAPE)
        try:
            while True:
                key = os.urandom(8).hex()
                if self.client.rate(self.scan, "accept", key=key)[0] == 200:
                    self.ratings.append(key)
                if self.draws:
                    voxels.flat[len(self.drawings) % voxels.size] = 1
                    status, kept = self.client.draw(self.scan, voxels)
                    if status == 200:
                        self.drawings.append(kept["id"])
        except (OSError, ValueError, AssertionError, HTTPException):
            return  # the desk is gone


def killed(desk: DeskProcess, after: float) -> list[Hurry]:
    raters = [Hurry(desk[name], f"sub-{n:03d}", n < 2) for n, name in enumerate(("A", "B", "C", "D"))]
    for rater in raters:
        rater.start()
    # On a slow machine the first of them comes late.
    patience = time.monotonic() + 20
    while not after and not all(rater.drawings for rater in raters if rater.draws) and time.monotonic() < patience:
        time.sleep(0.02)
    time.sleep(after)
    os.kill(desk.process.pid, signal.SIGKILL)
    desk.process.wait()
    for rater in raters:
        rater.join(30)
    return raters


def check_nothing_lost(tmp_path: Path, weights: Path, kills: int) -> None:
    study = write_study(tmp_path / "study", 4)
    ratings: set[str] = set()
    drawings: set[int] = set()
    for kill in range(kills):
        with served_apart(study, raters="A,B,C,D", weights=weights) as desk:
            for rater in killed(desk, 0.037 * (kill % 20)):
                ratings |= set(rater.ratings)
                drawings |= set(rater.drawings)
        with kept_open(study) as store:
            kept = {row["key"] for row in store.rows("SELECT key FROM ratings")}
            files = {row["id"]: row["file"] for row in store.rows("SELECT id, file FROM drawings")}
        assert ratings <= kept
        assert drawings <= set(files)
        assert all((study / files[number]).is_file() for number in drawings)
    assert len(ratings) > kills
    assert drawings
    with served(study, raters="A,B,C,D", weights=weights):  # what was kept but not put in its place comes there
        assert (study / "sub-000" / "anat" / "sub-000_label-lesion_desc-edited_mask.nii.gz").is_file()
    assert not list(study.rglob("*.tmp*"))


@pytest.mark.slow
def test_a_kill_loses_nothing(tmp_path: Path) -> None:
    check_nothing_lost(tmp_path, without_judge(tmp_path / "weights"), 1)


@pytest.mark.slow
def test_thirty_kills_under_load_lose_nothing(tmp_path: Path) -> None:
    check_nothing_lost(tmp_path, without_judge(tmp_path / "weights"), 30)
