"""A real archive (Orthanc) and a real gateway, each a process on loopback, for tests."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from veridice.gateway.queue import Queue

ROOT = Path(__file__).resolve().parents[2]
HAS_ORTHANC = shutil.which("Orthanc") is not None and Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so").exists()
WHY = "apt-get install orthanc orthanc-dicomweb"


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as taken:
        sockets = [taken.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_for(holds: Callable[[], Any], seconds: float = 60, pause: float = 0.1) -> Any:
    """What ``holds`` says once that is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(requests.ConnectionError):
            if said := holds():
                return said
        time.sleep(pause)
    raise AssertionError(f"did not come true in {seconds} s: {holds()}")


@dataclass
class Hospital:
    """An archive and a gateway that know each other.

    Args:
        folder: of both.
        weights: of the gateway.
    """

    folder: Path
    weights: Path
    ports: list[int] = field(default_factory=lambda: free_ports(3))
    archive: subprocess.Popen[bytes] | None = None
    gateway: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    @property
    def inbox(self) -> Path:
        return self.folder / "inbox"

    def start_archive(self) -> None:
        command = [str(ROOT / "scripts" / "start_orthanc"), str(self.folder / "archive"), *map(str, self.ports)]
        log = (self.folder / "archive.log").open("ab")
        self.archive = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_for(lambda: requests.get(f"{self.url}/system", timeout=5).ok, 30)

    def start_gateway(self, *options: str, quiet: float = 0.3) -> None:
        send = () if "--send" in options else ("--send", f"127.0.0.1:{self.ports[1]}/ARCHIVE")
        callers = () if "--poll" in options else ("--from", "ARCHIVE", "--from", "SCANNER", "--port", str(self.ports[2]))
        command = [sys.executable, "-m", "veridice", "gateway", "--inbox", str(self.inbox), "--quiet", str(quiet)]
        command += ["--weights", str(self.weights), "--min-free-gb", "0", *send, *callers, *options]
        log = (self.folder / "gateway.log").open("ab")
        self.gateway = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        if callers:
            wait_for(lambda: _listens(self.ports[2]), 30)

    def kill(self, name: str) -> None:
        """End a process at once, as a power cut does."""
        process: subprocess.Popen[bytes] | None = getattr(self, name)
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        setattr(self, name, None)

    def close(self) -> None:
        for name in ("gateway", "archive"):
            self.kill(name)

    def log(self) -> str:
        return (self.folder / "gateway.log").read_text()

    def states(self) -> dict[str, str]:
        """States of studies by key."""
        file = self.inbox / "queue.sqlite"
        return {row.key: row.state for row in Queue(file).studies()} if file.is_file() else {}

    def key(self, study: str) -> str:
        """What the gateway calls a study."""
        return Queue(self.inbox / "queue.sqlite").hashed(study)

    def is_now(self, study: str, state: str, seconds: float = 60) -> None:
        """Wait until a study is in a state."""
        wait_for(lambda: self.states().get(self.key(study)) == state, seconds)

    def put(self, files: Sequence[Path]) -> None:
        """Files into the archive."""
        for file in files:
            requests.post(f"{self.url}/instances", data=file.read_bytes(), timeout=30).raise_for_status()

    def send_to_gateway(self, study: str) -> None:
        """Let the archive send a study to the gateway."""
        found = self.find("Study", {"StudyInstanceUID": study})
        answer = requests.post(
            f"{self.url}/modalities/veridice/store", json={"Resources": found, "Synchronous": True}, timeout=120
        )
        answer.raise_for_status()

    def find(self, level: str, query: dict[str, str]) -> list[str]:
        answer = requests.post(f"{self.url}/tools/find", json={"Level": level, "Query": query}, timeout=30)
        return list(answer.json())

    def results(self, study: str | None = None) -> list[dict[str, Any]]:
        """Tags of our objects in the archive."""
        query = {"StudyInstanceUID": study} if study else {}
        series = {"Manufacturer": "veridice", **query}
        answer = requests.post(
            f"{self.url}/tools/find", json={"Level": "Instance", "Query": series, "Expand": True}, timeout=60
        )
        return list(answer.json())

    def fetch(self, instance: str) -> bytes:
        return requests.get(f"{self.url}/instances/{instance}/file", timeout=60).content


@contextlib.contextmanager
def hospital(folder: Path, weights: Path) -> Iterator[Hospital]:
    made = Hospital(folder, weights)
    try:
        yield made
    finally:
        made.close()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key
