"""Ratings that are told to another program: signed, again until they are taken, over a restart."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from desk_study import served, write_study

from veridice.errors import InputError
from veridice.review import webhook
from veridice.review.background import BackgroundWork
from veridice.review.serve import SECRET
from veridice.review.webhook import SIGNATURE, checked_address

KEY = "a secret of many letters"


class Receiver(HTTPServer):
    """Keeps what it takes; refuses the first ``refuses`` messages."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.taken: list[tuple[bytes, str]] = []
        self.refuses = 0
        self.redirects = False
        self.came = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook"


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        refused = self.server.refuses > 0
        self.server.refuses -= refused
        self.send_response(503 if refused else 302 if self.server.redirects else 204)
        if self.server.redirects:
            self.send_header("Location", self.server.address)
        self.end_headers()
        if not refused and not self.server.redirects:
            self.server.taken.append((body, self.headers[SIGNATURE]))
            self.server.came.set()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was refused is sent again soon."""
    monkeypatch.setattr(webhook, "FIRST_WAIT_S", 0.1)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    server = Receiver()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_a_rating_arrives_signed_after_it_was_refused(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET, KEY)
    receiver.refuses = 1
    with served(write_study(tmp_path / "study", 2), "--webhook", receiver.address) as desk:
        assert desk["ANNA"].rate("sub-001", "reject", comment="ü")[0] == 200
        assert receiver.came.wait(20)
    (body, header), *others = receiver.taken
    assert not others
    assert json.loads(body)["Rating"] == "reject"
    moment, given = (part.partition("=")[2] for part in header.split(","))
    assert hmac.compare_digest(given, hmac.new(KEY.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest())
    assert str(tmp_path) not in body.decode()


def test_what_was_not_taken_is_sent_by_the_next_desk(
    tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET, KEY)
    study = write_study(tmp_path / "study", 2)
    receiver.redirects = True  # a message goes nowhere but to its address
    with served(study, "--webhook", receiver.address) as desk:
        desk["ANNA"].rate("sub-001", "accept")
    assert not receiver.taken
    receiver.redirects = False
    with served(study, "--webhook", receiver.address):
        assert receiver.came.wait(20)
    assert len(receiver.taken) == 1


@pytest.mark.parametrize("address", ["ftp://x/y", "http://", "file:///etc/passwd", "javascript:alert(1)", "x"])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(InputError, match="no http"):
        checked_address(address)


def test_a_receiver_that_speaks_another_language_does_not_end_the_telling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET, KEY)
    study = write_study(tmp_path / "study", 2)
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        address = f"http://127.0.0.1:{stranger.getsockname()[1]}/"
        calls = []

        def answer() -> None:
            for _ in range(2):
                connection, _ = stranger.accept()
                connection.recv(4096)
                connection.sendall(b"\x00 what?\r\n\r\n")
                connection.close()
                calls.append(1)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with served(study, "--webhook", address) as desk:
            desk["ANNA"].rate("sub-001", "accept")
            thread.join(20)
    assert len(calls) == 2


def test_an_odd_error_does_not_end_the_work_beside_the_desk(monkeypatch: pytest.MonkeyPatch) -> None:
    class Work(BackgroundWork):
        turns = 0

        def _turn(self) -> None:
            self.turns += 1
            if self.turns == 1:
                raise KeyError("odd")
            self._rest()

    monkeypatch.setattr("veridice.review.background.PAUSE_S", 0)
    work = Work("odd")
    work.start()
    for _ in range(100):
        if work.turns > 1:
            break
        time.sleep(0.05)
    work.close()
    assert work.turns > 1
