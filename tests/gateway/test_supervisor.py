"""When results are sent again, when they are given up, and a judge that dies or hangs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from veridice.errors import InputError, OutputError
from veridice.gateway import supervisor
from veridice.gateway.inbox import Inbox
from veridice.gateway.queue import MOST_TRIES, Sent
from veridice.gateway.send import NotSentError, StoreArchive, WebArchive, archive_of
from veridice.gateway.supervisor import MOST_FINAL_TRIES, Judge, send_next
from veridice.gateway.worker import WorkerSettings, judge

REPORT = Sent("1.2", "1.3", "1.4", "report.dcm")


class Clock:
    """Time as the queue and the supervisor see it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 1e9
        patch.setattr("veridice.gateway.queue.time.time", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def inbox(clock: Clock, tmp_path: Path) -> Inbox:
    """With one study that was judged."""
    made = Inbox(tmp_path / "inbox")
    made.queue.add_image("s1", "p1", "i1", "digest", "i1.dcm", 10)
    clock.now += 1
    study = made.queue.claim(0)
    assert study is not None
    made.queue.judged(study, "accept", 0.9, [REPORT])
    return made


class Archive:
    """Answers as it is told."""

    def __init__(self, answer: Callable[[], None]) -> None:
        self.answer, self.calls = answer, 0

    def send(self, files: Sequence[Path]) -> None:
        assert [file.name for file in files] == ["report.dcm"]
        self.calls += 1
        self.answer()


def away() -> None:
    raise NotSentError("the archive does not answer")


def refuses() -> None:
    raise NotSentError("the archive takes no Segmentation Storage", final=True)


def test_an_archive_that_is_down_for_an_hour_is_asked_less_and_less_and_gets_everything(inbox: Inbox, clock: Clock) -> None:
    archive = Archive(away)
    begin = clock.now
    while clock.now < begin + 3600:
        send_next(inbox, archive)
        clock.now += 1
    assert 8 <= archive.calls <= 16, "5, 10, 20 ... seconds, then every 15 minutes"
    assert inbox.queue.study("s1").state == "judged"
    archive.answer = lambda: None
    while inbox.queue.study("s1").state != "sent":
        send_next(inbox, archive)
        clock.now += 1
    assert clock.now < begin + 3600 + 2 * supervisor.LONGEST_WAIT_S
    assert inbox.queue.study("s1").published == (REPORT,)


def test_what_is_refused_for_good_is_given_up_with_its_reason(inbox: Inbox, clock: Clock) -> None:
    archive = Archive(refuses)
    for _ in range(3600):
        send_next(inbox, archive)
        clock.now += 1
    row = inbox.queue.study("s1")
    assert (row.state, archive.calls) == ("failed", MOST_FINAL_TRIES)
    assert row.reason == "the archive takes no Segmentation Storage"


def test_more_images_while_it_is_sent_leave_it_waiting(inbox: Inbox) -> None:
    archive = Archive(lambda: inbox.queue.add_image("s1", "p1", "i2", "digest", "i2.dcm", 10))
    assert send_next(inbox, archive)
    row = inbox.queue.study("s1")
    assert row.state == "received"
    assert row.published == (REPORT,), "what may be in the archive is remembered, to be taken back"
    assert not send_next(inbox, archive)


def settings(inbox: Inbox) -> WorkerSettings:
    return WorkerSettings(inbox=inbox.root, quiet_s=0)


CLAIMS_AND_DIES = """
import os, sys
from pathlib import Path
from veridice.gateway.queue import Queue
queue = Queue(Path(sys.argv[1]))
queue.recover()
queue.claim(0)
os._exit(1)
"""


def test_a_study_that_kills_the_judge_is_given_up_and_others_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox = Inbox(tmp_path / "inbox")
    inbox.queue.add_image("s1", "p1", "i1", "digest", "i1.dcm", 10)
    real = supervisor.subprocess.Popen
    command = [sys.executable, "-c", CLAIMS_AND_DIES, str(inbox.queue.file)]
    monkeypatch.setattr(supervisor.subprocess, "Popen", lambda *_, **__: real(command))
    judge = Judge(inbox, settings(inbox))
    for _ in range(MOST_TRIES + 1):
        judge.look_after()
        if judge._process is not None:
            judge._process.wait()
    assert inbox.queue.study("s1").state == "failed"
    judge.end()


def test_a_judge_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inbox = Inbox(tmp_path / "inbox")
    inbox.queue.add_image("s1", "p1", "i1", "digest", "i1.dcm", 10)
    real = supervisor.subprocess.Popen
    monkeypatch.setattr(supervisor.subprocess, "Popen", lambda *_, **__: real(["sleep", "100"]))
    monkeypatch.setattr(supervisor, "LONGEST_JUDGEMENT_S", 0.1)
    judge = Judge(inbox, settings(inbox))
    judge.look_after()
    process = judge._process
    assert process is not None and process.poll() is None
    inbox.queue.claim(0)
    supervisor.time.sleep(0.2)
    judge.look_after()
    assert process.wait(5) != 0
    judge.end()


@pytest.mark.parametrize(("error", "state"), [(OutputError("no room left"), "received"), (InputError("no FLAIR"), "failed")])
def test_a_full_disk_is_waited_for_and_a_study_without_flair_is_not(
    error: Exception, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox(tmp_path / "inbox")
    inbox.queue.add_image("s1", "p1", "i1", "digest", "i1.dcm", 10)
    (inbox.folder("s1") / "images").mkdir(parents=True)

    def judge_study(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("veridice.gateway.study.judge_study", judge_study)
    study = inbox.queue.claim(0)
    assert study is not None
    judge(study, inbox, None, settings(inbox))  # type: ignore[arg-type]
    row = inbox.queue.study("s1")
    assert (row.state, row.reason) == (state, str(error))
    assert (inbox.queue.claim(0) is not None) == (state == "received")


def test_addresses_of_archives() -> None:
    assert archive_of("pacs.local:104/ARCHIVE", "US", None) == StoreArchive("pacs.local", 104, "ARCHIVE", "US")
    assert archive_of("[::1]:104/A", "US", None) == StoreArchive("::1", 104, "A", "US")
    assert isinstance(archive_of("https://pacs/dicom-web", "US", None), WebArchive)


@pytest.mark.parametrize(
    "address", ["pacs", "pacs:104", "pacs/A", "pacs:0/A", "pacs:99999/A", "pacs:104/", "ftp://x", "http://", "http://x:y/"]
)
def test_what_is_no_address_is_one_line(address: str) -> None:
    with pytest.raises(InputError, match=r"give HOST:PORT/AET|is no address"):
        archive_of(address, "US", None)
