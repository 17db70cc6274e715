"""The network door: what it takes, what it refuses and with which status, and what it never does."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from dicom_cases import STUDY, make_study
from hospital import certificate
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)
from pynetdicom import AE

from veridice.errors import InputError
from veridice.gateway.inbox import Inbox, Limits
from veridice.gateway.node import DUPLICATE, LARGEST_PART, MOST_CONNECTIONS, NO_ROOM, NOT_USABLE, Partners, _Counted, start_node
from veridice.gateway.tls import TlsFiles, tls_files
from veridice.imaging.volume import Volume
from veridice.io.nifti import read_map

ECHO = "1.2.840.10008.1.1"


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    made = Inbox(tmp_path / "inbox", Limits(object_bytes=2**21, free_bytes=0))
    yield made
    made.queue.close()


@pytest.fixture
def node(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Starts a node; gives its port."""
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("threading.excepthook", threading.excepthook)
    running = []

    def start(tls: ssl.SSLContext | None = None) -> int:
        server = start_node(inbox, Partners("VERIDICE", ("PACS",), port=0, tls=tls))
        running.append(server)
        return int(server.server_address[1])

    yield start
    for server in running:
        server.shutdown()


@pytest.fixture
def images(tiny_scan: dict[str, Volume], tmp_path: Path) -> list[Dataset]:
    return [dcmread(path) for path in make_study(tmp_path / "study", tiny_scan)["flair"]]


def call(port: int, *contexts: Any, caller: str = "PACS", called: str = "VERIDICE", **options: Any) -> Any:
    partner = AE(caller)
    partner.acse_timeout = partner.dimse_timeout = partner.network_timeout = 20
    for context in contexts or [(MRImageStorage, [ExplicitVRLittleEndian])]:
        partner.add_requested_context(*context)
    return partner.associate("127.0.0.1", port, ae_title=called, **options)


def store(port: int, datasets: list[Dataset], *contexts: Any) -> list[int | None]:
    """Statuses of answers, None where there was none."""
    association = call(port, *contexts)
    assert association.is_established
    answers = [association.send_c_store(dataset).get("Status") for dataset in datasets]
    association.release()
    return answers


def stored(inbox: Inbox) -> int:
    return sum(row.images for row in inbox.queue.studies())


def test_images_of_a_study_are_taken_and_lie_on_the_disk_as_they_were_sent(
    inbox: Inbox, node: Callable[..., int], images: list[Dataset]
) -> None:
    assert store(node(), images) == [0] * len(images)
    key = inbox.queue.hashed(STUDY)
    assert [row.key for row in inbox.queue.studies()] == [key]
    sent = {str(image.SOPInstanceUID): image for image in images}
    for path in inbox.images(key):
        read = dcmread(path)
        assert read == sent.pop(str(read.SOPInstanceUID))
    assert not sent
    assert list(inbox.incoming.iterdir()) == []
    names = [path.name for path in inbox.root.rglob("*")]
    assert not [name for name in names if "SECRET" in name or STUDY in name], "nobody is named by a path"


def test_an_echo_is_answered(node: Callable[..., int]) -> None:
    association = call(node(), (ECHO,))
    assert association.send_c_echo().Status == 0
    association.release()


@pytest.mark.parametrize(("caller", "called"), [("STRANGER", "VERIDICE"), ("PACS", "SOMEBODY")])
def test_unknown_titles_are_refused(node: Callable[..., int], caller: str, called: str) -> None:
    association = call(node(), caller=caller, called=called)
    assert association.is_rejected


@pytest.mark.parametrize(
    "context", [(CTImageStorage, [ExplicitVRLittleEndian]), (MRImageStorage, [DeflatedExplicitVRLittleEndian])]
)
def test_other_kinds_and_deflated_images_find_no_context(node: Callable[..., int], context: Any) -> None:
    association = call(node(), context)
    assert not association.accepted_contexts
    assert association.is_aborted or association.is_released or not association.is_established


def test_the_same_image_twice_counts_once_and_with_other_content_is_refused(
    inbox: Inbox, node: Callable[..., int], images: list[Dataset]
) -> None:
    port = node()
    assert store(port, [images[0], images[0]]) == [0, 0]
    assert (stored(inbox), inbox.queue.studies()[0].generation) == (1, 1)
    images[0].EchoTime = 99
    assert store(port, [images[0]]) == [DUPLICATE]
    assert stored(inbox) == 1


def test_two_patients_in_one_association_are_kept_apart_and_under_one_study_refused(
    inbox: Inbox, node: Callable[..., int], images: list[Dataset]
) -> None:
    first, second, third = images[:3]
    second.PatientID, second.StudyInstanceUID = "ANOTHER", "1.2.3.4"
    third.PatientID = "ANOTHER"
    assert store(node(), [first, second, third]) == [0, 0, NOT_USABLE]
    assert sorted(row.images for row in inbox.queue.studies()) == [1, 1]


def spoilt(image: Dataset, how: str) -> Dataset:
    if how == "huge when decompressed":
        image.Rows = image.Columns = 65535
        image.NumberOfFrames = 100
    if how == "cut short":
        image.PixelData = image.PixelData[:100]
    if how == "no study":
        del image.StudyInstanceUID
    return image


@pytest.mark.parametrize("how", ["huge when decompressed", "no study", "cut short"])
def test_what_is_no_image_of_a_head_is_refused(inbox: Inbox, node: Callable[..., int], images: list[Dataset], how: str) -> None:
    assert store(node(), [spoilt(images[0], how), images[1]]) == [NOT_USABLE, 0]
    assert stored(inbox) == 1 and list(inbox.incoming.iterdir()) == []


def test_an_object_that_is_not_the_one_announced_is_refused(inbox: Inbox, images: list[Dataset]) -> None:
    refusal, said = inbox.take(_saved(images[0], inbox.incoming / "x.dcm"), "1.2.3")
    assert refusal == "not usable" and "another image" in said


def _saved(image: Dataset, path: Path) -> Path:
    image.save_as(path)
    return path


def test_a_full_disk_and_a_study_that_is_too_large_are_out_of_resources(
    inbox: Inbox, node: Callable[..., int], images: list[Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = node()
    inbox.limits = Limits(study_images=2, free_bytes=0)
    assert store(port, images[:3]) == [0, 0, NO_ROOM]
    inbox.limits = Limits(free_bytes=2**62)
    assert store(port, [images[4]]) == [NO_ROOM]
    inbox.limits = Limits(free_bytes=0)

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("veridice.gateway.inbox._onto_disk", no_space)
    assert store(port, [images[5]]) == [NO_ROOM]
    assert stored(inbox) == 2


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_compressed_images_are_taken_and_converted(
    inbox: Inbox, node: Callable[..., int], images: list[Dataset], syntax: Any
) -> None:
    plain = np.stack([image.pixel_array for image in images])
    for image in images:
        image.compress(syntax, generate_instance_uid=False)
    assert store(node(), images, (MRImageStorage, [syntax])) == [0] * len(images)
    volume = read_map(inbox.folder(inbox.queue.hashed(STUDY)) / "images")
    assert sorted(np.unique(volume.voxels)) == sorted(np.unique(plain))


def hostile(port: int, message: bytes) -> bytes:
    """What is answered to raw bytes until the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(message)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        try:
            while part := connection.recv(4096):
                answer += part
        except OSError:
            pass
        return answer


ANNOUNCED = {
    "a request of 4 GB": struct.pack(">BBL", 1, 0, 2**32 - 1),
    "data of 4 GB": struct.pack(">BBL", 4, 0, 2**32 - 1),
    "an unknown part": struct.pack(">BBL", 9, 0, 16) + b"x" * 16,
    "a request of nonsense": struct.pack(">BBL", 1, 0, 200) + bytes(range(200)),
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 3,
}


@pytest.mark.parametrize("what", ANNOUNCED)
def test_hostile_bytes_end_their_connection_alone(node: Callable[..., int], images: list[Dataset], what: str) -> None:
    port = node()
    hostile(port, ANNOUNCED[what] + b"\0" * 1000)
    assert store(port, images[:1]) == [0]


def test_an_object_larger_than_any_is_cut_off_while_it_comes(
    inbox: Inbox, node: Callable[..., int], images: list[Dataset]
) -> None:
    images[0].PixelData = b"\0" * (2 * inbox.limits.object_bytes)
    port = node()
    association = call(port)
    try:
        answer = association.send_c_store(images[0]).get("Status")
    except RuntimeError:
        answer = None
    assert answer is None
    assert stored(inbox) == 0
    assert store(port, images[1:2]) == [0]


def test_a_part_larger_than_announced_is_never_read(inbox: Inbox) -> None:
    asked: list[int] = []
    association = SimpleNamespace(
        dul=SimpleNamespace(socket=SimpleNamespace(recv=asked.append), to_user_queue=Queue()),
        requestor=SimpleNamespace(primitive=None),
    )
    counted = _Counted(association, inbox)  # type: ignore[arg-type]
    with pytest.raises(OSError):
        counted(LARGEST_PART + 1)
    assert asked == []


def test_connections_that_say_nothing_of_use_free_their_places_at_once(node: Callable[..., int], images: list[Dataset]) -> None:
    port = node()
    for _ in range(MOST_CONNECTIONS + 6):
        hostile(port, b"")
    assert store(port, images[:1]) == [0]


def test_an_encrypted_node_talks_to_those_it_knows_alone(
    node: Callable[..., int], images: list[Dataset], tmp_path: Path
) -> None:
    ours, theirs, strangers = (certificate(tmp_path, name) for name in ("ours", "theirs", "strangers"))
    port = node(TlsFiles(*ours, theirs[0]).coming())
    known = TlsFiles(*theirs, ours[0]).going()
    assert store_over(port, images[0], known) == 0
    stranger = TlsFiles(*strangers, ours[0]).going()
    assert store_over(port, images[0], stranger) is None
    assert not call(port).is_established, "not encrypted"
    with socket.create_connection(("127.0.0.1", port)):  # one that says nothing holds up nobody
        assert store_over(port, images[0], known) == 0


def store_over(port: int, image: Dataset, tls: ssl.SSLContext | None) -> int | None:
    association = call(port, tls_args=(tls, "127.0.0.1"))
    if not association.is_established:
        return None
    status = association.send_c_store(image).get("Status")
    association.release()
    return status


def test_tls_is_all_or_nothing(tmp_path: Path) -> None:
    ours = certificate(tmp_path, "ours")
    assert tls_files(None, None, None) is None
    with pytest.raises(InputError, match="all three"):
        tls_files(*ours, None)
    with pytest.raises(InputError, match="cannot be used"):
        tls_files(*ours, tmp_path / "nothing.pem")


def test_a_port_that_is_taken_is_said(inbox: Inbox, node: Callable[..., int]) -> None:
    with pytest.raises(InputError, match="cannot be listened at"):
        start_node(inbox, Partners("VERIDICE", ("PACS",), port=node()))
