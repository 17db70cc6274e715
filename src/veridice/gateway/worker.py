"""The judge, in a process of its own: it may need gigabytes, be slow, or die, and the node goes on taking images.

``python -m veridice.gateway.worker SETTINGS`` judges what is due and ends when nothing was for a while.
"""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from veridice.config import Frozen, InferenceSettings
from veridice.errors import OutputError, VeridiceError
from veridice.gateway.inbox import Inbox, tell_in_the_log
from veridice.gateway.queue import Sent, StudyRow
from veridice.io.dicom_headers import silence_libraries
from veridice.io.memory import memory_ran_out
from veridice.io.weight_cards import bundled_weights

if TYPE_CHECKING:
    from veridice.assessment.models import Models

LOG = logging.getLogger("veridice.gateway")
LOCK = "worker.lock"
PARENT_DEATH_SIGNAL = 1
IDLE_S, PAUSE_S = 120.0, 0.5
"""After so long without work it ends, and gives back its memory."""


class WorkerSettings(Frozen):
    """What the worker is told by the gateway."""

    inbox: Path
    quiet_s: float
    judge: str = "any"
    labelmap: bool = False
    weights: Path | None = None
    calibration: Path | None = None
    inference: InferenceSettings = InferenceSettings()


def main() -> None:
    """Judge until nothing is due, or the gateway is gone."""
    tell_in_the_log()
    silence_libraries()
    settings, gateway = WorkerSettings.model_validate_json(sys.argv[1]), os.getppid()
    _end_with_the_gateway()
    inbox = Inbox(settings.inbox)
    from veridice.assessment.check import load_prepared, with_calibration

    # One that outlived its gateway ends after the study that it is about; what it held is known to be free only then.
    with FileLock(inbox.root / LOCK):
        for key in inbox.queue.recover():
            LOG.warning("study %s: failed, the judge ended without a word each time", key)
        try:
            loaded = load_prepared(settings.weights or bundled_weights(), settings.inference)
            models = with_calibration(loaded, settings.calibration)
        except VeridiceError as error:
            LOG.warning("the judge cannot begin: %s", error)
            sys.exit(1)
        idle = time.monotonic()
        while os.getppid() == gateway and time.monotonic() - idle < IDLE_S:
            study = inbox.queue.claim(settings.quiet_s)
            if study is None:
                time.sleep(PAUSE_S)
                continue
            judge(study, inbox, models, settings)
            idle = time.monotonic()


def _end_with_the_gateway() -> None:
    """Where the system can (Linux), it kills this process once the gateway is gone, however that went."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)


def judge(study: StudyRow, inbox: Inbox, models: Models, settings: WorkerSettings) -> None:
    """Judge one study; results lie in its folder before the queue says so."""
    from veridice.gateway.study import StudyOptions, judge_study

    options = StudyOptions(judge=settings.judge, labelmap=settings.labelmap, **(study.options or {}))
    shutil.rmtree(inbox.results(study.key), ignore_errors=True)
    try:
        judged = judge_study(
            inbox.images(study.key),
            inbox.results(study.key),
            options=options,
            models=models,
            settings=settings.inference,
            case=f"study-{study.key}",
            earlier=study.published,
            revision=study.revision,
        )
    except OutputError as error:
        LOG.warning("study %s: waits, its results cannot be kept: %s", study.key, _reason(error, inbox))
        inbox.queue.wait_again(study, _reason(error, inbox))
        return
    except Exception as error:
        reason = _reason(error, inbox)
        LOG.warning("study %s: cannot be judged: %s", study.key, reason)
        inbox.queue.failed(study, "judging", reason)
        return
    objects = [
        Sent(str(dataset.SOPClassUID), str(dataset.SeriesInstanceUID), str(dataset.SOPInstanceUID), judged.files[what].name)
        for what, dataset in judged.objects.items()
    ]
    result = judged.result
    if inbox.queue.judged(study, result.verdict, result.predicted_dice, objects, judged.making.revision):
        LOG.info("study %s: %s, predicted Dice %.2f", study.key, result.verdict, result.predicted_dice)
    else:
        LOG.info("study %s: more images came while it was judged; it waits again", study.key)


def _reason(error: Exception, inbox: Inbox) -> str:
    """Why a study cannot be judged, without paths; our own errors name series by their numbers alone."""
    if not isinstance(error, VeridiceError):
        return memory_ran_out(error) or f"internal error: {type(error).__name__}"
    return str(error).replace(f"{inbox.root}/", "")


if __name__ == "__main__":
    main()
