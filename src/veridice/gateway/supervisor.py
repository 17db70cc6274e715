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

from filelock import FileLock, Timeout

from veridice.errors import InputError, OutputError
from veridice.gateway.inbox import FILE, Inbox, Limits
from veridice.gateway.node import Partners, start_node
from veridice.gateway.queue import Queue, StudyRow
from veridice.gateway.send import Archive, NotSentError
from veridice.gateway.worker import WorkerSettings

LOG = logging.getLogger("veridice.gateway")
LOCK = "gateway.lock"
TURN_S, EMPTY_EVERY_S = 0.5, 600.0
LONGEST_JUDGEMENT_S = 1800.0
"""A judgement that takes longer hangs."""
FIRST_WAIT_S, LONGEST_WAIT_S = 5.0, 900.0
"""Until the archive is tried again: twice as long each time."""
MOST_FINAL_TRIES = 3
"""Of what the archive refuses for good: a person may mend it meanwhile."""


@dataclass(frozen=True)
class GatewayOptions:
    """How the gateway works.

    Args:
        worker: what is judged, and how.
        limits: how much is taken, and how long it is kept.
        partners: of the node; None: no node.
        archive: where results go; None: they stay in the inbox.
        poll_s: seconds between two looks at an archive that is polled.
    """

    worker: WorkerSettings
    limits: Limits = field(default_factory=Limits)
    partners: Partners | None = None
    archive: Archive | None = None
    poll_s: float = 60.0


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
    try:
        lock = FileLock(inbox.root / LOCK, timeout=0).acquire()
    except Timeout as error:
        raise OutputError(f"{inbox.root}: another gateway works there; end it, or give another --inbox") from error
    with lock, contextlib.ExitStack() as running:
        stop = threading.Event()
        running.callback(stop.set)
        if options.partners:
            node = start_node(inbox, options.partners)
            running.callback(node.shutdown)
            on_start(*node.server_address[:2])
        if poll:
            from veridice.gateway.poll import Poller

            _begin(lambda: _poll(Poller(poll, inbox, days), options.poll_s, stop), "poller")
        if options.archive:
            archive = options.archive
            _begin(lambda: _repeat(lambda: send_next(inbox, archive), stop), "sender")
        judge = Judge(inbox, options.worker)
        running.callback(judge.end)
        emptied = 0.0
        while True:
            judge.look_after()
            if time.monotonic() - emptied > EMPTY_EVERY_S:
                inbox.empty()
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


def _poll(poller: object, every_s: float, stop: threading.Event) -> None:
    wait = every_s
    while not stop.is_set():
        try:
            poller.turn()  # type: ignore[attr-defined]
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
        self._began = 0.0
        self._queue.forgive()

    def look_after(self) -> None:
        """Begin a worker if there is work, and end one that hangs."""
        if self._process is not None and self._process.poll() is not None:
            if self._process.returncode:
                LOG.warning("the judge ended with code %d", self._process.returncode)
            self._process = None
        since = max(self._queue.judging_since() or time.time(), self._began)
        if self._process is not None and time.time() - since > LONGEST_JUDGEMENT_S:
            LOG.warning("the judge takes over %.0f s for a study and is ended", LONGEST_JUDGEMENT_S)
            self._process.kill()
        if self._process is None and self._queue.anything_due(self._settings.quiet_s):
            command = [sys.executable, "-m", "veridice.gateway.worker", self._settings.model_dump_json()]
            self._process, self._began = subprocess.Popen(command, stdin=subprocess.DEVNULL), time.time()

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
    folder = inbox.results(study.key)
    inbox.queue.publish(study, list(study.objects))
    try:
        archive.send([folder / sent.file for sent in study.objects])
    except NotSentError as error:
        _not_sent(inbox.queue, study, error)
        return True
    except FileNotFoundError:
        return True  # it is being judged anew, which the queue says by now
    if inbox.queue.sent(study):
        LOG.info("study %s: sent", study.key)
    return True


def _not_sent(queue: Queue, study: StudyRow, error: NotSentError) -> None:
    if error.final and study.tries + 1 >= MOST_FINAL_TRIES:
        queue.failed(study, "judged", str(error))
        LOG.warning("study %s: %s; given up", study.key, error)
        return
    wait = min(FIRST_WAIT_S * 2 ** min(int(study.tries), 20), LONGEST_WAIT_S)
    queue.try_later(study, wait, str(error))
    LOG.warning("study %s: %s; again in %.0f s", study.key, error, wait)


def statuses(inbox: Path) -> list[StudyRow]:
    """Every study that an inbox knows.

    Raises:
        OutputError: there is no inbox.
    """
    return _queue_of(inbox).studies()


def retry(inbox: Path, key: str, options: dict[str, str]) -> None:
    """Have a study judged once more.

    Args:
        inbox: of the gateway, which need not run.
        key: of the study.
        options: fields of :class:`veridice.gateway.study.StudyOptions`.

    Raises:
        InputError: there is no such study, or its images were deleted.
        OutputError: there is no inbox.
    """
    if not _queue_of(inbox).try_again(key, options):
        raise InputError(f"{key}: no study of this inbox, or its images were deleted; send it again")


def _queue_of(inbox: Path) -> Queue:
    if not (inbox / FILE).is_file():
        raise OutputError(f"{inbox}: is no inbox of a gateway")
    return Queue(inbox / FILE)
