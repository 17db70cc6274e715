"""The gateway as a whole: node or poller in, a judge beside, results out, old files away. Needs the extra ``dicom``."""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from pydicom.uid import Comprehensive3DSRStorage

from veridice.errors import InputError, OutputError
from veridice.gateway.inbox import FILE, Inbox, Limits
from veridice.gateway.node import Partners, start_node
from veridice.gateway.queue import Queue, StudyRow
from veridice.gateway.send import Archive, NotSentError
from veridice.gateway.tls import TlsFiles
from veridice.gateway.worker import WorkerSettings
from veridice.io.dicom_choice import SEGMENTATIONS
from veridice.io.dicom_headers import silence_libraries
from veridice.io.weight_cards import bundled_weights, read_card

if TYPE_CHECKING:
    from veridice.gateway.poll import Poller

LOG = logging.getLogger("veridice.gateway")
LOCK = "gateway.lock"
TURN_S, EMPTY_EVERY_S = 0.5, 600.0
LONGEST_JUDGEMENT_S = 1800.0
"""A judgement that takes longer hangs."""
LONGEST_START_S = 60.0
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 900.0
"""Until the archive is tried again: twice as long each time."""
REFUSED_S = 6 * 3600.0
"""An archive that refuses for so long will refuse for good; until then a person may mend it."""
NEEDED = {*SEGMENTATIONS, Comprehensive3DSRStorage}
"""Kinds without which nothing is said; an archive that takes no maps or pictures gets the rest."""


@dataclass(frozen=True)
class GatewayOptions:
    """How the gateway works.

    Args:
        worker: what is judged, and how.
        limits: how much is taken, and how long it is kept.
        partners: of the node; None: no node.
        archive: where results go; None: they stay in the inbox.
        poll_s: seconds between two looks at an archive that is polled.
        tls: what is shown to it.
    """

    worker: WorkerSettings
    limits: Limits = field(default_factory=Limits)
    partners: Partners | None = None
    archive: Archive | None = None
    poll_s: float = 60.0
    tls: TlsFiles | None = None


def serve(options: GatewayOptions, poll: str | None, days: int, on_start: Callable[[str, int], None]) -> None:
    """Work until interrupted.

    Args:
        options: how.
        poll: address of an archive that is asked for studies; None: none is.
        days: how far back it is.
        on_start: called with host and port of the node once it listens.

    Raises:
        VeridiceError: the inbox is another gateway's, or the node cannot listen.
    """
    inbox = Inbox(options.worker.inbox, options.limits)
    check_settings(options.worker)
    silence_libraries()
    try:
        lock = FileLock(inbox.root / LOCK, timeout=0).acquire()
    except Timeout as error:
        raise OutputError(f"{inbox.root}: another gateway works there; end it, or give another --inbox") from error
    with lock, contextlib.ExitStack() as running:
        inbox.sweep()
        stop = threading.Event()
        running.callback(stop.set)
        if options.partners:
            node = start_node(inbox, options.partners)
            running.callback(node.shutdown)
            on_start(*node.server_address[:2])
        if poll:
            from veridice.gateway.poll import Poller

            poller = Poller(poll, inbox, days, options.tls)
            _begin(lambda: _poll(poller, options.poll_s, stop), "poller")
        if options.archive:
            archive = options.archive
            _begin(lambda: _repeat(lambda: send_next(inbox, archive), stop), "sender")
        judge = Judge(inbox, options.worker)
        running.callback(judge.end)
        emptied = 0.0
        while True:
            judge.look_after()
            if time.monotonic() - emptied > EMPTY_EVERY_S:
                inbox.empty(unsent_too=options.archive is None)
                emptied = time.monotonic()
            time.sleep(TURN_S)


def _begin(work: Callable[[], None], name: str) -> None:
    threading.Thread(target=work, daemon=True, name=name).start()


def _repeat(turn: Callable[[], bool], stop: threading.Event) -> None:
    """Take turns; wait a moment after one that had nothing to do, and longer after one that went wrong."""
    while not stop.is_set():
        try:
            if not turn():
                stop.wait(TURN_S)
        except Exception as error:  # as when the disk is full: the next turn may go better
            LOG.warning("sending: %s", type(error).__name__)
            stop.wait(FIRST_WAIT_S)


def _poll(poller: Poller, every_s: float, stop: threading.Event) -> None:
    wait = every_s
    while not stop.is_set():
        try:
            poller.turn()
            wait = every_s
        except Exception as error:
            LOG.warning("the archive cannot be asked for studies (%s); again in %.0f s", type(error).__name__, wait)
            wait = min(2 * wait, LONGEST_WAIT_S)
        stop.wait(wait)


class Judge:
    """The worker process: begun when something is due, ended when it hangs.

    Args:
        inbox: of the studies.
        settings: that it is told.
    """

    def __init__(self, inbox: Inbox, settings: WorkerSettings) -> None:
        self._queue: Queue = inbox.queue
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._began, self._deaths, self._not_before = 0.0, 0, 0.0
        self._queue.forgive()

    def look_after(self) -> None:
        """Begin a worker if there is work, and end one that hangs."""
        if self._process is not None and self._process.poll() is not None:
            self._note_end(self._process.returncode)
            self._process = None
        since = max(self._queue.judging_since() or time.time(), self._began)
        if self._process is not None and time.time() - since > LONGEST_JUDGEMENT_S:
            LOG.warning("the judge takes over %.0f s for a study and is ended", LONGEST_JUDGEMENT_S)
            self._process.kill()
        if self._process is None and time.time() >= self._not_before and self._queue.anything_due(self._settings.quiet_s):
            command = [sys.executable, "-m", "veridice.gateway.worker", self._settings.model_dump_json()]
            self._process, self._began = subprocess.Popen(command, stdin=subprocess.DEVNULL), time.time()

    def _note_end(self, code: int) -> None:
        """One that ends soon after it began, again and again, is begun less and less often."""
        self._deaths = self._deaths + 1 if code and time.time() - self._began < LONGEST_START_S else 0
        if code:
            wait = min(FIRST_WAIT_S * 2**self._deaths, LONGEST_WAIT_S) if self._deaths > 1 else 0.0
            self._not_before = time.time() + wait
            LOG.warning("the judge ended with code %d; the next one begins in %.0f s", code, wait)

    def end(self) -> None:
        """End the worker; what it was about waits for the next gateway."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(10)
            self._process.kill()


def send_next(inbox: Inbox, archive: Archive) -> bool:
    """Send the results of one study whose time has come; False where there is none."""
    study = inbox.queue.next_to_send()
    if study is None:
        return False
    folder, missing = inbox.results(study.key), {}
    inbox.queue.publish(study, list(study.objects))
    waiting = {folder / sent.file: sent for sent in study.objects if sent.instance not in study.delivered}

    def on_sent(file: Path, trouble: str) -> None:
        if trouble:
            missing[waiting[file].sop_class] = trouble
        else:
            inbox.queue.delivered(study, waiting[file].instance)

    try:
        archive.send(list(waiting), on_sent)
        if lost := [trouble for kind, trouble in missing.items() if kind in NEEDED]:
            raise NotSentError(lost[0], final=True)
    except NotSentError as error:
        _not_sent(inbox.queue, study, error)
        return True
    except Exception as error:  # results that are gone or damaged: other studies do not wait for these
        _not_sent(inbox.queue, study, NotSentError(f"its results cannot be sent ({type(error).__name__})", final=True))
        return True
    reason = "; ".join(missing.values())
    if inbox.queue.sent(study, reason):
        LOG.info("study %s: sent%s", study.key, f"; {reason}" if reason else "")
    return True


def _not_sent(queue: Queue, study: StudyRow, error: NotSentError) -> None:
    if error.final and study.first_refused and time.time() - study.first_refused > REFUSED_S:
        queue.failed(study, "judged", str(error))
        LOG.warning("study %s: %s; given up", study.key, error)
        return
    wait = min(FIRST_WAIT_S * 2 ** min(int(study.tries), 20), LONGEST_WAIT_S)
    queue.try_later(study, wait, str(error), refused=error.final)
    LOG.warning("study %s: %s; again in %.0f s", study.key, error, wait)


def check_settings(worker: WorkerSettings) -> None:
    """Say what the worker could not work with, before anybody sends a study.

    Raises:
        VeridiceError: weights or calibration cannot be used.
    """
    read_card(worker.weights or bundled_weights(), "segmenter")
    if worker.calibration:
        from veridice.quality.calibration import read_calibration

        read_calibration(worker.calibration)


def statuses(inbox: Path, study: str | None = None) -> list[StudyRow]:
    """Every study that an inbox knows, or the one with a UID or a name.

    Raises:
        OutputError: there is no inbox.
    """
    queue = _queue_of(inbox)
    wanted = (study, queue.hashed(study)) if study else ()
    return [row for row in queue.studies() if not study or row.key in wanted]


def retry(inbox: Path, study: str, options: dict[str, str]) -> None:
    """Have a study judged once more.

    Args:
        inbox: of the gateway, which need not run.
        study: as :func:`statuses` names it, or its UID.
        options: fields of :class:`veridice.gateway.study.StudyOptions`.

    Raises:
        InputError: there is no such study, or its images were deleted.
        OutputError: there is no inbox.
    """
    queue = _queue_of(inbox)
    if not (queue.try_again(study, options) or queue.try_again(queue.hashed(study), options)):
        raise InputError(f"{study}: no study of this inbox, or its images were deleted; send it again")


def _queue_of(inbox: Path) -> Queue:
    if not (inbox / FILE).is_file():
        raise OutputError(f"{inbox}: is no inbox of a gateway")
    return Queue(inbox / FILE)
