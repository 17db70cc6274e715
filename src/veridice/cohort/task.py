"""One scan of a study, from its files to its record; runs in any process that sees the folders."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from veridice._version import __version__
from veridice.assessment.check import Request, judge_files, load_prepared
from veridice.assessment.compare import SELECTED, Comparing, compare_files
from veridice.cohort.records import (
    COMPARISON,
    Record,
    describe_input,
    is_finished,
    publish,
    read_record,
    scan_held,
    write_record,
)
from veridice.config import LESION, InferenceSettings
from veridice.errors import OutputError, VeridiceError
from veridice.io.atomic import how_to_mend, no_room
from veridice.io.bids import refuse_overwriting
from veridice.io.image_header import require_content
from veridice.io.memory import memory_ran_out
from veridice.io.weight_cards import checksums
from veridice.quality.calibration import read_calibration, read_fitting
from veridice.quality.model import CALIBRATION

if TYPE_CHECKING:
    from veridice.assessment.models import Models

PATIENCE = 3600
"""Seconds to wait for another run that judges the same scan."""
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class ScanTask:
    """What is to be done to one scan.

    Args:
        request: its files.
        folder: of its results, relative to ``output``.
        output: folder of derivatives.
        weights: folder of the networks.
        settings: passes, seed, thresholds.
        checksum: of everything but the files that decides the result, see :func:`settings_checksum`.
        problem: why it cannot be judged; known before it was tried.
        comparing: whose masks are compared; None: one mask is judged.
    """

    request: Request
    folder: Path
    output: Path
    weights: Path
    settings: InferenceSettings
    checksum: str
    problem: str = ""
    comparing: Comparing | None = None

    @property
    def name(self) -> str:
        """Of its record."""
        return self.request.case + (COMPARISON if self.comparing else "")

    def refuse_overwriting(self) -> None:
        """Make sure that no input is replaced: a study may have its masks in the very folder that gets the results.

        Raises:
            OutputError: one would be.
        """
        maps = None if self.comparing is None else SELECTED
        refuse_overwriting(self.output / self.folder, self.request.case, self.request.files, self.request.task, maps)

    def is_finished(self) -> bool:
        """Whether its results are there already."""
        return not self.problem and is_finished(self.output, self.name, self.request.files, self.checksum)


@dataclass(frozen=True)
class Outcome:
    """What became of a scan: judged now, finished before, held by another run, or failed and why."""

    scan: str
    status: Literal["done", "skipped", "held", "failed"]
    reason: str = ""


def settings_checksum(request: Request, weights: Path, settings: InferenceSettings, comparing: Comparing | None = None) -> str:
    """SHA-256 of version, weights, calibration and all settings but where they run.

    Raises:
        WeightsError: the weights cannot be used.
        InputError: the calibration cannot be read, or is of other weights.
    """
    parts = [__version__, settings.model_dump_json(exclude={"device", "precision", "engine", "shadow"})]
    judged_with = checksums(weights, request.task.name)
    parts += judged_with.values()
    own = request.calibration
    calibration = read_fitting(own, judged_with) if own else read_calibration(weights / CALIBRATION)
    parts.append(calibration.model_dump_json())
    parts.append(f"{request.mask_threshold} {request.mask_label} {request.registration}")
    if request.task.name != LESION.name:
        parts.append(request.task.model_dump_json())
    if comparing is not None:
        parts.append(repr(comparing))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def judge_scan(task: ScanTask, threads: int = 0, patient: bool = False) -> Outcome:
    """Judge one scan and store results and record, unless that was done before; what is wrong with it is recorded.

    Args:
        task: the scan.
        threads: processor threads to use; 0: as many as the process has.
        patient: whether to wait for a scan that another run holds.
    """
    # The networks use all threads of a process, whatever number of tasks a cluster gives it at once.
    with _one_at_a_time:
        try:
            if threads:
                import torch  # not where tasks are only planned

                torch.set_num_threads(threads)
            with scan_held(task.output, task.name, PATIENCE if patient else 0) as stage:
                if stage is not None:
                    return _judge_held(task, stage)
                reason = f"another run has held this scan for {PATIENCE} s"
                return Outcome(task.name, "failed" if patient else "held", reason)
        except VeridiceError as error:
            return Outcome(task.name, "failed", str(error))


def _judge_held(task: ScanTask, stage: Path) -> Outcome:
    if task.is_finished():
        return Outcome(task.name, "skipped")
    record = Record(scan=task.name, status="done", settings=task.checksum)
    try:
        if task.problem:
            return give_up(task, task.problem)
        for path in task.request.files:
            require_content(path)
        # Before they are read: a file that changes meanwhile is not taken for the one that was judged.
        record = record.model_copy(update={"inputs": tuple(map(describe_input, task.request.files))})
        _judge(task, stage)
        publish(stage, task.output, task.folder, record)
    except VeridiceError as error:
        return give_up(task, str(error))
    except OSError as error:
        if no_room(error):
            raise OutputError(f"{task.output.name}: {how_to_mend(error)}") from error
        return give_up(task, f"{error.filename or task.name}: cannot be read ({error.strerror or error})")
    except Exception as error:  # one scan must not end a study
        if ran_out := memory_ran_out(error):
            return give_up(task, ran_out)
        return give_up(task, f"internal error, please report it ({type(error).__name__}: {error})")
    return Outcome(task.name, "done")


def _judge(task: ScanTask, stage: Path) -> None:
    def load() -> Models:
        return _networks(task.weights, task.settings, task.request.task)

    if task.comparing is None:
        judge_files(task.request, stage, load, task.settings)
    else:
        compare_files(task.request, task.comparing, stage, load, task.settings)


def give_up(task: ScanTask, reason: str) -> Outcome:
    """Record that a scan failed; results of an earlier judgement, which would not be its own, are taken away."""
    # The reason goes into tables and reports: files are named there, not where they lie.
    for path in (*task.request.files, task.request.calibration, task.output, task.weights):
        reason = reason.replace(str(path), path.name) if path else reason
    reason = " ".join(reason.split())
    old = read_record(task.output, task.name)
    write_record(task.output, Record(scan=task.name, status="failed", reason=reason, settings=task.checksum))
    for name in old.files if old else ():
        (task.output / name).unlink(missing_ok=True)
    return Outcome(task.name, "failed", reason)


_networks = lru_cache(maxsize=1)(load_prepared)
"""Once a process."""
