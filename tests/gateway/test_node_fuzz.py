"""Changed bytes at the network door: no crash, no memory without end, and honest partners are still answered."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from dicom_cases import make_study
from hospital import Hospital, hospital
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage
from pynetdicom import AE

from veridice.imaging.volume import Volume

MOST_MEMORY_KB = 6 * 2**20


@pytest.fixture
def place(tiny_weights: Path, tmp_path: Path) -> Iterator[Hospital]:
    with hospital(tmp_path, tiny_weights) as made:
        yield made


def conversation(port: int, image: Dataset) -> bytes:
    """What an honest partner says from the first byte to the last, recorded by someone in between."""
    said = bytearray()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def pass_on() -> None:
            partner, _ = listening.accept()
            with partner, socket.create_connection(("127.0.0.1", port)) as node:

                def copy(source: socket.socket, target: socket.socket, keep: Callable[[bytes], object]) -> None:
                    try:
                        while part := source.recv(65536):
                            keep(part)
                            target.sendall(part)
                        target.shutdown(socket.SHUT_WR)
                    except OSError:
                        pass

                back = threading.Thread(target=copy, args=(node, partner, lambda _: None), daemon=True)
                back.start()
                copy(partner, node, said.extend)
                back.join(5)

        between = threading.Thread(target=pass_on, daemon=True)
        between.start()
        assert honest(listening.getsockname()[1], image) == 0
        between.join(10)
    return bytes(said)


def honest(port: int, image: Dataset) -> int | None:
    partner = AE("SCANNER")
    partner.add_requested_context(MRImageStorage, [ExplicitVRLittleEndian])
    association = partner.associate("127.0.0.1", port, ae_title="VERIDICE")
    if not association.is_established:
        return None
    status = association.send_c_store(image).get("Status")
    association.release()
    return status


def changed(message: bytes, rng: np.random.Generator) -> bytes:
    """A few bytes are others, most of them where lengths and kinds stand; a part may be missing, or there twice."""
    made = bytearray(message)
    reach = int(rng.choice([8, 100, 600, len(made)]))
    for place in rng.integers(0, min(reach, len(made)), rng.integers(1, 8)):
        made[place] = rng.choice([0, 255, made[place] ^ (1 << int(rng.integers(8))), int(rng.integers(256))])
    if rng.random() < 0.3:
        first, last = sorted(int(n) for n in rng.integers(0, len(made), 2))
        made = made[:first] + (made[last:] if rng.random() < 0.5 else made[first:last] * 3 + made[last:])
    return bytes(made)


def attack(port: int, message: bytes, seed: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=0.3) as connection:
        try:
            connection.sendall(changed(message, np.random.default_rng(seed)))
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        except OSError:
            pass


def memory_kb(pid: int) -> int:
    """The most that a process has had."""
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found else 0


def fuzz(place: Hospital, images: list[Dataset], seconds: float) -> int:
    """How many attacks there were; an honest partner is answered after each hundred."""
    assert place.gateway is not None
    port, message, count = place.ports[2], conversation(place.ports[2], images[0]), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(100):
            attack(port, message, count)
            count += 1
        assert honest(port, images[count // 100 % len(images)]) == 0, f"after attack {count}"
        assert place.gateway.poll() is None, f"the node died before attack {count}"
        assert memory_kb(place.gateway.pid) < MOST_MEMORY_KB
    assert "Traceback" not in place.log()
    assert len(list((place.inbox / "incoming").iterdir())) < 70, "what was cut off is swept away"
    return count


@pytest.fixture
def images(tiny_scan: dict[str, Volume], tmp_path: Path) -> list[Dataset]:
    return [dcmread(path) for path in make_study(tmp_path / "study", tiny_scan)["flair"]]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_changed_bytes_harm_nobody(place: Hospital, images: list[Dataset]) -> None:
    place.start_gateway(quiet=1000)
    assert fuzz(place, images, 1) >= 100


@pytest.mark.slow
def test_changed_bytes_harm_nobody_for_ten_minutes(place: Hospital, images: list[Dataset]) -> None:
    place.start_gateway(quiet=1000)
    count = fuzz(place, images, 600)
    print(f"{count} attacks; the node had {memory_kb(place.gateway.pid) // 1024 if place.gateway else 0} MB at most")  # noqa: T201
