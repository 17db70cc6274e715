"""Corrected masks are judged again beside the desk, by one process that keeps the networks loaded."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from veridice.config import InferenceSettings
from veridice.review.background import BackgroundWork
from veridice.review.store import Store, StoredDrawing

LONGEST_S = 1800
"""A scan that takes longer is given up."""
TOLD = ("verdict", "predicted_dice", "interval", "coverage", "decided_by", "warnings")


@dataclass(frozen=True)
class Job:
    """A mask that is to be judged; everything in it can be sent to another process."""

    case: str
    flair: Path
    t1: Path | None
    mask: Path
    weights: Path | None
    calibration: Path | None
    settings: InferenceSettings


def _judge_until_told(connection: Connection) -> None:
    """The life of the worker: networks are loaded with the first job, and kept."""
    import signal

    from veridice.assessment.check import check, load_prepared
    from veridice.errors import VeridiceError
    from veridice.io.weight_cards import bundled_weights

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the desk says when to end
    models: Any = None
    with suppress(EOFError, OSError):  # the desk is gone
        while (job := connection.recv()) is not None:
            try:
                models = models or load_prepared(job.weights or bundled_weights(), job.settings)
                given = {"models": models, "settings": job.settings, "case": job.case, "calibration": job.calibration}
                done = check(job.flair, job.t1, job.mask, **given).assessment
                told = {name: getattr(done, name) for name in TOLD}
                answer = "done", {**told, "volume_ml": done.volumes_ml.get("judged_mask")}
            except VeridiceError as error:
                answer = "failed", {"reason": _without_folders(str(error), job)}
            except Exception as error:  # one scan must not end the worker
                answer = "failed", {"reason": f"internal error ({type(error).__name__})"}
            connection.send(answer)


def _without_folders(reason: str, job: Job) -> str:
    for path in (job.flair, job.t1, job.mask, job.weights, job.calibration):
        reason = reason.replace(str(path), path.name) if path else reason
    return reason


class Rejudging(BackgroundWork):
    """Judges the drawings that wait in a store, the oldest first, until it is closed.

    Args:
        store: where drawings wait, and where what came of them goes.
        job: makes a job of a drawing; None where its scan can no longer be judged.
    """

    def __init__(self, store: Store, job: Callable[[StoredDrawing], Job | None]) -> None:
        super().__init__("rejudging")
        self._store, self._job = store, job
        self._process: Any = None
        self._connection: Connection | None = None

    def close(self) -> None:
        """End the worker too, whatever it is at."""
        super().close()
        self._end_worker()

    def _turn(self) -> None:
        if waiting := [drawing for drawing in self._store.drawings() if drawing.state == "waiting"]:
            self._judge(waiting[0])
        else:
            self._rest()

    def _judge(self, drawing: StoredDrawing) -> None:
        job = self._job(drawing)
        state, result = ("failed", {"reason": "the scan is no longer there"}) if job is None else self._ask(job)
        if not self._closed.is_set():
            self._store.judged_again(drawing.id, state, result)

    def _ask(self, job: Job) -> tuple[str, dict[str, Any]]:
        """What the worker says; a worker that dies is started anew for the next job."""
        try:
            if self._process is None or not self._process.is_alive():
                self._start_worker()
            assert self._connection is not None  # noqa: S101 (made with the process)
            self._connection.send(job)
            for _ in range(LONGEST_S):
                if self._connection.poll(1):
                    state, result = self._connection.recv()
                    return state, result
                if self._closed.is_set() or not self._process.is_alive():
                    break
        except (OSError, EOFError, ValueError):
            pass
        self._end_worker()
        return "failed", {"reason": "the judging process ended or took too long; save the drawing once more to try again"}

    def _start_worker(self) -> None:
        if self._connection is not None:  # to one that died
            self._connection.close()
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_judge_until_told, args=(other,), daemon=True)
        self._process.start()
        other.close()

    def _end_worker(self) -> None:
        if self._process is not None and self._process.is_alive():
            self._process.kill()
            self._process.join(timeout=5)
        self._process = None
