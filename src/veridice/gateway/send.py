"""Results to the archive: by C-STORE, or by STOW over HTTP. Needs the extra ``dicom``."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt

from veridice.errors import InputError, VeridiceError

SILENCE_S = 60


class NotSentError(VeridiceError):
    """The archive did not take an object.

    Args:
        text: why, without any name.
        final: whether trying again would not help.
    """

    def __init__(self, text: str, final: bool = False) -> None:
        super().__init__(text)
        self.final = final


class Archive(Protocol):
    """Where results go."""

    def send(self, files: Sequence[Path]) -> None:
        """Send whole files, in order.

        Raises:
            NotSentError: one was not taken; those before it were.
        """


@dataclass(frozen=True)
class StoreArchive:
    """An archive that is a DICOM node.

    Args:
        host, port, title: where it listens and what it is called.
        own_title: what we call ourselves.
        tls: of the connection; None: it is not encrypted.
    """

    host: str
    port: int
    title: str
    own_title: str
    tls: ssl.SSLContext | None = None

    def send(self, files: Sequence[Path]) -> None:
        datasets = [dcmread(file) for file in files]
        node = AE(self.own_title)
        node.network_timeout = node.acse_timeout = node.dimse_timeout = node.connection_timeout = SILENCE_S
        for kind in dict.fromkeys(dataset.SOPClassUID for dataset in datasets):
            node.add_requested_context(kind, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        secure = {"tls_args": (self.tls, self.host)} if self.tls else {}
        handlers: list[Any] = [(evt.EVT_CONN_OPEN, _send_at_once)]
        association = node.associate(self.host, self.port, ae_title=self.title, evt_handlers=handlers, **secure)
        if not association.is_established:
            said = "refuses us: is our AE title known there?" if association.is_rejected else "does not answer"
            raise NotSentError(f"the archive {said}")
        try:
            for dataset in datasets:
                _store(association, dataset)
        finally:
            association.release()


def _send_at_once(event: evt.Event) -> None:
    """No part of an object waits until the archive has acknowledged the one before."""
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _store(association: Any, dataset: Dataset) -> None:
    kind = dataset.SOPClassUID.name
    try:
        status = association.send_c_store(dataset)
    except ValueError as error:  # no context was accepted for it
        raise NotSentError(f"the archive takes no {kind}", final=True) from error
    except RuntimeError as error:
        raise NotSentError("the connection to the archive broke") from error
    if "Status" not in status:
        raise NotSentError("the archive hung up, or did not answer in time")
    code = int(status.Status)
    if code == 0 or code & 0xF000 == 0xB000:  # a warning is a success
        return
    out_of_room = code & 0xFF00 == 0xA700
    raise NotSentError(f"the archive refused a {kind} with status {code:04X}", final=not out_of_room)


@dataclass(frozen=True)
class WebArchive:
    """An archive that speaks DICOMweb.

    Args:
        url: of its service, the part before ``/studies``.
    """

    url: str

    def send(self, files: Sequence[Path]) -> None:
        import requests

        client = web_client(self.url)
        for file in files:
            dataset = dcmread(file)
            dataset.preamble = b"\0" * 128  # without it, some archives keep what they can never give back
            try:
                client.store_instances([dataset])
            except requests.HTTPError as error:
                code = error.response.status_code if error.response is not None else 0
                raise NotSentError(
                    f"the archive refused a {dataset.SOPClassUID.name} with HTTP {code}", final=code in (400, 409, 413, 415)
                ) from error
            except requests.RequestException as error:
                raise NotSentError(f"the archive does not answer ({type(error).__name__})") from error


def web_client(url: str) -> Any:
    """A client of an archive that speaks DICOMweb; a name and a password in the address are used, and not kept in it.

    Raises:
        InputError: the address is none.
    """
    from urllib.parse import unquote, urlsplit

    import requests
    from dicomweb_client import DICOMwebClient

    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InputError(f"{url}: is no address of DICOMweb, such as https://pacs/dicom-web") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"{url}: is no address of DICOMweb, such as https://pacs/dicom-web")
    session = requests.Session()
    if parts.username:
        session.auth = (unquote(parts.username), unquote(parts.password or ""))
    place = f"{parts.hostname}:{port}" if port else parts.hostname
    client = DICOMwebClient(f"{parts.scheme}://{place}{parts.path.rstrip('/')}", session=session, timeout=SILENCE_S)
    client.set_http_retry_params(retry=False)  # we try again ourselves, and remember it
    return client


def archive_of(address: str, own_title: str, tls: ssl.SSLContext | None) -> Archive:
    """The archive of an option ``HOST:PORT/AET`` or ``https://...``.

    Raises:
        InputError: it is neither.
    """
    if address.startswith(("http://", "https://")):
        web_client(address)
        return WebArchive(address)
    place, _, title = address.rpartition("/")
    host, _, port = place.rpartition(":")
    if not (host and port.isdigit() and 0 < int(port) < 65536 and 0 < len(title) <= 16):
        raise InputError(f"--send {address}: give HOST:PORT/AET, such as pacs.local:104/ARCHIVE, or an address of DICOMweb")
    return StoreArchive(host.strip("[]"), int(port), title, own_title, tls)
