"""Results to the archive: by C-STORE, or by STOW over HTTP. Needs the extra ``dicom``."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt

from veridice.errors import InputError, VeridiceError
from veridice.gateway.tls import TlsFiles

SILENCE_S = 60
ALREADY_THERE, HTTP_CONFLICT, HTTP_UNKNOWN_KIND = 0x0111, 409, 415
TITLE = re.compile(r"[!-\[\]-~]{1,16}")
"""An AE title: letters without blanks and backslashes."""


class NotSentError(VeridiceError):
    """The archive did not take an object, and may take it later.

    Args:
        text: why, without any name.
        final: whether it refused it, rather than being away or full.
    """

    def __init__(self, text: str, final: bool = False) -> None:
        super().__init__(text)
        self.final = final


OnSent = Callable[[Path, str], None]
"""Called with each object that the archive has, or takes none of; in that case with the reason."""


class Archive(Protocol):
    """Where results go."""

    def send(self, files: Sequence[Path], on_sent: OnSent) -> None:
        """Send whole files, in order. Kinds that the archive takes none of are passed over, which is said.

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

    def send(self, files: Sequence[Path], on_sent: OnSent) -> None:
        datasets = {file: dcmread(file) for file in files}
        node = AE(self.own_title)
        node.network_timeout = node.acse_timeout = node.dimse_timeout = node.connection_timeout = SILENCE_S
        for kind in dict.fromkeys(dataset.SOPClassUID for dataset in datasets.values()):
            node.add_requested_context(kind, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        secure = {"tls_args": (self.tls, self.host)} if self.tls else {}
        handlers: list[Any] = [(evt.EVT_CONN_OPEN, _send_at_once)]
        association = node.associate(self.host, self.port, ae_title=self.title, evt_handlers=handlers, **secure)
        if not association.is_established:
            said = "refuses us: is our AE title known there?" if association.is_rejected else "does not answer"
            raise NotSentError(f"the archive {said}")
        taken = {context.abstract_syntax for context in association.accepted_contexts}
        try:
            for file, dataset in datasets.items():
                if dataset.SOPClassUID in taken:
                    _store(association, dataset)
                    on_sent(file, "")
                else:
                    on_sent(file, f"the archive takes no {dataset.SOPClassUID.name}")
        finally:
            association.release()


def _send_at_once(event: evt.Event) -> None:
    """No part of an object waits until the archive has acknowledged the one before."""
    event.assoc.dul.socket.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _store(association: Any, dataset: Dataset) -> None:
    kind = dataset.SOPClassUID.name
    try:
        status = association.send_c_store(dataset)
    except (RuntimeError, ValueError) as error:
        raise NotSentError("the connection to the archive broke") from error
    if "Status" not in status:
        raise NotSentError("the archive hung up, or did not answer in time")
    code = int(status.Status)
    if code in (0, ALREADY_THERE) or code & 0xF000 == 0xB000:  # a warning is a success
        return
    raise NotSentError(f"the archive refused a {kind} with status {code:04X}", final=code & 0xFF00 != 0xA700)


@dataclass(frozen=True)
class WebArchive:
    """An archive that speaks DICOMweb.

    Args:
        url: of its service, the part before ``/studies``.
        tls: what is shown to it, and what it has to show; None: what the system trusts.
    """

    url: str
    tls: TlsFiles | None = None

    def send(self, files: Sequence[Path], on_sent: OnSent) -> None:
        import requests

        client = web_client(self.url, self.tls)
        for file in files:
            dataset = dcmread(file)
            dataset.preamble = b"\0" * 128  # without it, some archives keep what they can never give back
            kind = dataset.SOPClassUID.name
            try:
                answer = client.store_instances([dataset])
            except requests.HTTPError as error:
                code = error.response.status_code if error.response is not None else 0
                if code == HTTP_UNKNOWN_KIND:
                    on_sent(file, f"the archive takes no {kind}")
                    continue
                if code != HTTP_CONFLICT or not _is_there(client, dataset):
                    final = code in (400, HTTP_CONFLICT, 413)
                    raise NotSentError(f"the archive refused a {kind} with HTTP {code}", final) from error
            except requests.RequestException as error:
                raise NotSentError(f"the archive does not answer ({type(error).__name__})") from error
            else:
                _look_for_failures(answer, kind)
            on_sent(file, "")


def _look_for_failures(answer: Dataset, kind: str) -> None:
    """An answer that is a success as a whole may still refuse an object (PS3.18, 10.5.3)."""
    for failure in answer.get("FailedSOPSequence") or ():
        code = int(failure.get("FailureReason", 0))
        if code != ALREADY_THERE:
            raise NotSentError(f"the archive refused a {kind} with reason {code:04X}", final=code & 0xFF00 != 0xA700)


def _is_there(client: Any, dataset: Dataset) -> bool:
    """Whether an archive that speaks of a conflict has the object already."""
    wanted = {"SOPInstanceUID": str(dataset.SOPInstanceUID)}
    study, series = str(dataset.StudyInstanceUID), str(dataset.SeriesInstanceUID)
    return bool(client.search_for_instances(study, series, search_filters=wanted))


def web_client(url: str, tls: TlsFiles | None = None) -> Any:
    """A client of an archive that speaks DICOMweb; a name and a password in the address are used, and not kept in it.

    Raises:
        InputError: the address is none, or is not encrypted where that is asked for.
    """
    from urllib.parse import unquote, urlsplit

    import requests
    from dicomweb_client import DICOMwebClient

    shown = re.sub("//.*@", "//", url)  # without a password
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InputError(f"{shown}: is no address of DICOMweb, such as https://pacs/dicom-web") from error
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"{shown}: is no address of DICOMweb, such as https://pacs/dicom-web")
    if tls and parts.scheme != "https":
        raise InputError(
            f"{parts.scheme}://{parts.hostname}: is not encrypted; with --tls-certificate give an https:// address"
        )
    session = requests.Session()
    if tls:
        session.cert, session.verify = (str(tls.certificate), str(tls.key)), str(tls.partners)
    if parts.username:
        session.auth = (unquote(parts.username), unquote(parts.password or ""))
    place = f"{parts.hostname}:{port}" if port else parts.hostname
    client = DICOMwebClient(f"{parts.scheme}://{place}{parts.path.rstrip('/')}", session=session, timeout=SILENCE_S)
    client.set_http_retry_params(retry=False)  # we try again ourselves, and remember it
    return client


def archive_of(address: str, own_title: str, tls: TlsFiles | None) -> Archive:
    """The archive of an option ``HOST:PORT/AET`` or ``https://...``.

    Raises:
        InputError: it is neither.
    """
    if address.startswith(("http://", "https://")):
        web_client(address, tls)
        return WebArchive(address, tls)
    place, _, title = address.rpartition("/")
    host, _, port = place.rpartition(":")
    if not (host and port.isdigit() and 0 < int(port) < 65536 and TITLE.fullmatch(title)):
        raise InputError(f"--send {address}: give HOST:PORT/AET, such as pacs.local:104/ARCHIVE, or an address of DICOMweb")
    return StoreArchive(host.strip("[]"), int(port), title, own_title, tls.going() if tls else None)
