"""When results are sent again, when they are given up, and a judge that dies or hangs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hospital import certificate
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ExplicitVRLittleEndian,
    ParametricMapStorage,
    SegmentationStorage,
)
from pynetdicom import AE, evt

from veridice.errors import InputError, OutputError, WeightsError
from veridice.gateway import supervisor
from veridice.gateway.inbox import Inbox
from veridice.gateway.queue import MOST_TRIES, Sent
from veridice.gateway.send import NotSentError, OnSent, StoreArchive, WebArchive, _look_for_failures, archive_of, web_client
from veridice.gateway.supervisor import Judge, check_settings, send_next
from veridice.gateway.tls import TlsFiles
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

    def __init__(self, answer: Callable[[], None], trouble: str = "") -> None:
        self.answer, self.trouble, self.calls, self.got = answer, trouble, 0, []

    def send(self, files: Sequence[Path], on_sent: OnSent) -> None:
        self.calls += 1
        for file in files:
            self.answer()
            self.got.append(file.name)
            on_sent(file, self.trouble)


def away() -> None:
    raise NotSentError("the archive does not answer")


def refuses() -> None:
    raise NotSentError("the archive refused a Segmentation Storage with status 0110", final=True)


def run(inbox: Inbox, archive: Archive, clock: Clock, seconds: float) -> None:
    end = clock.now + seconds
    while clock.now < end:
        send_next(inbox, archive)
        clock.now += 1


def test_an_archive_that_is_down_for_an_hour_is_asked_less_and_less_and_gets_everything(inbox: Inbox, clock: Clock) -> None:
    archive = Archive(away)
    run(inbox, archive, clock, 3600)
    assert 8 <= archive.calls <= 16, "5, 10, 20 ... seconds, then every 15 minutes"
    assert inbox.queue.study("s1").state == "judged"
    archive.answer = refuses  # it starts, and refuses at first
    run(inbox, archive, clock, 2 * supervisor.LONGEST_WAIT_S)
    assert inbox.queue.study("s1").state == "judged", "one refusal is not the end"
    archive.answer = lambda: None
    run(inbox, archive, clock, 2 * supervisor.LONGEST_WAIT_S)
    row = inbox.queue.study("s1")
    assert (row.state, row.published, archive.got) == ("sent", (REPORT,), ["report.dcm"])


def test_what_is_refused_for_hours_is_given_up_with_its_reason(inbox: Inbox, clock: Clock) -> None:
    run(inbox, Archive(refuses), clock, supervisor.REFUSED_S + 2 * supervisor.LONGEST_WAIT_S)
    row = inbox.queue.study("s1")
    assert (row.state, row.reason) == ("failed", "the archive refused a Segmentation Storage with status 0110")


def test_an_archive_that_takes_no_maps_gets_the_rest_and_it_is_said(inbox: Inbox) -> None:
    send_next(inbox, Archive(lambda: None, "the archive takes no Parametric Map Storage"))
    row = inbox.queue.study("s1")
    assert (row.state, row.reason) == ("sent", "the archive takes no Parametric Map Storage")


def test_what_the_archive_has_is_not_sent_again(inbox: Inbox, clock: Clock) -> None:
    archive = Archive(lambda: None)
    send_next(inbox, archive)
    inbox.queue.add_image("s1", "p1", "i2", "digest", "i2.dcm", 10)
    clock.now += 1
    study = inbox.queue.claim(0)
    assert study is not None
    other = Sent("1.2", "1.3", "1.5", "other.dcm")
    inbox.queue.judged(study, "accept", 0.9, [REPORT, other])
    send_next(inbox, archive)
    assert archive.got == ["report.dcm", "other.dcm"]
    assert inbox.queue.study("s1").published == (REPORT, other)


def test_more_images_while_it_is_sent_leave_it_waiting(inbox: Inbox) -> None:
    archive = Archive(lambda: inbox.queue.add_image("s1", "p1", "i2", "digest", "i2.dcm", 10))
    assert send_next(inbox, archive)
    row = inbox.queue.study("s1")
    assert row.state == "received"
    assert row.published == (REPORT,), "what may be in the archive is remembered, to be taken back"
    assert not send_next(inbox, archive)


class Lacking:
    """A real node that takes no maps, and answers as it is told."""

    def __init__(self, status: int = 0) -> None:
        node = AE("ARCHIVE")
        for kind in (SegmentationStorage, Comprehensive3DSRStorage):
            node.add_supported_context(kind)
        self.got: list[str] = []
        self.status = status
        self.server = node.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self.store)])

    def store(self, event: evt.Event) -> int:
        self.got.append(str(event.request.AffectedSOPClassUID))
        return self.status


@pytest.mark.parametrize(("status", "raised"), [(0, ""), (0xB000, ""), (0x0111, ""), (0x0110, "0110"), (0xA700, "A700")])
def test_a_real_node_gets_what_it_takes(status: int, raised: str, tmp_path: Path) -> None:
    files = []
    for number, kind in enumerate((SegmentationStorage, ParametricMapStorage, Comprehensive3DSRStorage)):
        made = Dataset()
        made.SOPClassUID, made.SOPInstanceUID, made.PatientID = kind, f"1.2.3.{number}", "x"
        made.file_meta = FileMetaDataset()
        made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        made.file_meta.MediaStorageSOPClassUID, made.file_meta.MediaStorageSOPInstanceUID = kind, made.SOPInstanceUID
        files.append(tmp_path / f"{number}.dcm")
        made.save_as(files[-1], enforce_file_format=True)
    archive, said = Lacking(status), {}
    sending = archive_of(f"127.0.0.1:{archive.server.server_address[1]}/ARCHIVE", "US", None)
    try:
        if raised:
            with pytest.raises(NotSentError, match=raised) as found:
                sending.send(files, said.__setitem__)
            assert found.value.final == (status != 0xA700)
            return
        sending.send(files, said.__setitem__)
    finally:
        archive.server.shutdown()
    assert archive.got == [SegmentationStorage, Comprehensive3DSRStorage]
    assert list(said.values()) == ["", "the archive takes no Parametric Map Storage", ""]


@pytest.mark.parametrize(("reason", "final"), [(0x0111, None), (0x0110, True), (0xA700, False)])
def test_an_answer_over_the_web_that_holds_a_failure_is_no_success(reason: int, final: bool | None) -> None:
    failure, answer = Dataset(), Dataset()
    failure.FailureReason = reason
    answer.FailedSOPSequence = [failure]
    if final is None:
        return _look_for_failures(answer, "x")
    with pytest.raises(NotSentError) as found:
        _look_for_failures(answer, "x")
    assert found.value.final == final
    return None


def test_an_image_that_comes_while_the_inbox_is_emptied_is_kept(inbox: Inbox, clock: Clock) -> None:
    queue, folder = inbox.queue, inbox.folder("s1") / "images"
    folder.mkdir(parents=True)
    (folder / "i1.dcm").write_bytes(b"x")
    send_next(inbox, Archive(lambda: None))
    clock.now += 3600 * inbox.limits.keep_hours + 1
    old = queue.done_before

    def then_comes_another(*arguments: object) -> list[str]:
        found = old(*arguments)
        queue.add_image("s1", "p1", "i2", "digest", "i2.dcm", 10)
        return found

    queue.done_before = then_comes_another  # type: ignore[method-assign]
    inbox.empty()
    assert (folder / "i1.dcm").exists() and queue.study("s1").images == 2
    queue.done_before = old  # type: ignore[method-assign]
    study = queue.claim(0)
    assert study is not None
    queue.failed(study, "judging", "no FLAIR")
    clock.now += 3600 * inbox.limits.keep_hours + 1
    assert inbox.empty() == 1
    assert not folder.exists() and queue.study("s1").images == 0


def test_what_was_coming_or_leaving_when_a_gateway_was_killed_is_swept_away(inbox: Inbox) -> None:
    (inbox.incoming / "half.dcm").write_bytes(b"x")
    (inbox.incoming / "old-s1").mkdir()
    (inbox.incoming / "old-s1" / "i1.dcm").write_bytes(b"x")
    inbox.sweep()
    assert list(inbox.incoming.iterdir()) == []


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
    monkeypatch.setattr(supervisor, "FIRST_WAIT_S", 0.0)
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


def test_a_judge_that_cannot_begin_is_begun_less_and_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, clock = supervisor.subprocess.Popen, Clock(monkeypatch)
    inbox, begun = Inbox(tmp_path / "inbox"), []
    inbox.queue.add_image("s1", "p1", "i1", "digest", "i1.dcm", 10)

    def begin(*_: object, **__: object) -> object:
        begun.append(clock.now)
        process = real([sys.executable, "-c", "raise SystemExit(1)"])
        process.wait()
        return process

    monkeypatch.setattr(supervisor.subprocess, "Popen", begin)
    judge = Judge(inbox, settings(inbox))
    for _ in range(600):
        clock.now += 1
        judge.look_after()
    assert 4 <= len(begun) <= 10, "not every second"


def test_weights_that_are_not_there_are_said_before_anybody_sends(tmp_path: Path) -> None:
    with pytest.raises(WeightsError):
        check_settings(WorkerSettings(inbox=tmp_path, quiet_s=1, weights=tmp_path / "nothing"))
    with pytest.raises(InputError):
        check_settings(WorkerSettings(inbox=tmp_path, quiet_s=1, calibration=tmp_path / "nothing.json"))


def test_what_is_encrypted_goes_to_no_address_that_is_not(tmp_path: Path) -> None:
    tls = TlsFiles(*certificate(tmp_path, "ours"), certificate(tmp_path, "theirs")[0])
    with pytest.raises(InputError, match="is not encrypted"):
        archive_of("http://pacs/dicom-web", "US", tls)
    client = web_client("https://pacs/dicom-web", tls)
    assert client._session.cert == (str(tls.certificate), str(tls.key)) and client._session.verify == str(tls.partners)


def test_addresses_of_archives() -> None:
    assert archive_of("pacs.local:104/ARCHIVE", "US", None) == StoreArchive("pacs.local", 104, "ARCHIVE", "US")
    assert archive_of("[::1]:104/A", "US", None) == StoreArchive("::1", 104, "A", "US")
    assert isinstance(archive_of("https://pacs/dicom-web", "US", None), WebArchive)


@pytest.mark.parametrize(
    "address",
    [
        "pacs",
        "pacs:104",
        "pacs/A",
        "pacs:0/A",
        "pacs:99999/A",
        "pacs:104/",
        "pacs:104/ARCHÍV X",
        "ftp://x",
        "http://",
        "http://x:y/",
    ],
)
def test_what_is_no_address_is_one_line(address: str) -> None:
    with pytest.raises(InputError, match=r"give HOST:PORT/AET|is no address"):
        archive_of(address, "US", None)


def test_no_password_is_printed() -> None:
    for address in ("https://me:secret@pacs:port/dicom-web", "https://me:secret@", "ftp://me:se@cret@pacs/x"):
        with pytest.raises(InputError) as raised:
            web_client(address)
        assert "cret" not in str(raised.value), address


@pytest.mark.parametrize("error", [FileNotFoundError("report.dcm"), ValueError("no DICOM")])
def test_results_that_are_gone_or_damaged_keep_no_other_study_waiting(error: Exception, inbox: Inbox, clock: Clock) -> None:
    inbox.queue.add_image("s2", "p2", "i2", "digest", "i2.dcm", 10)
    clock.now += 1
    study = inbox.queue.claim(0)
    assert study is not None
    inbox.queue.judged(study, "accept", 0.9, [Sent("1.2", "1.3", "1.9", "other.dcm")])

    def send(files: Sequence[Path], on_sent: OnSent) -> None:
        if files[0].name == "report.dcm":
            raise error
        on_sent(files[0], "")

    archive = Archive(away)
    archive.send = send  # type: ignore[method-assign]
    run(inbox, archive, clock, 10)
    assert inbox.queue.study("s2").state == "sent"
    run(inbox, archive, clock, supervisor.REFUSED_S + 2 * supervisor.LONGEST_WAIT_S)
    row = inbox.queue.study("s1")
    assert (row.state, row.reason) == ("failed", f"its results cannot be sent ({type(error).__name__})")
