"""The DICOM node: answers C-ECHO and takes images by C-STORE from known partners. Needs the extra ``dicom``.

What a partner sends is bounded before it is read: the length of a message part, the bytes of an object, connections at a time.
"""

from __future__ import annotations

import logging
import socket
import ssl
import tempfile
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pynetdicom import AE, _config, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from veridice.errors import InputError
from veridice.gateway.inbox import ACCEPTED_CLASSES, OUR_CLASSES, SYNTAXES, Inbox, Refusal
from veridice.io.dicom_headers import silence_libraries

LOG = logging.getLogger("veridice.gateway")
SUCCESS, NO_ROOM, NOT_USABLE, DUPLICATE, WRONG_KIND = 0x0000, 0xA700, 0xA900, 0x0111, 0x0122
STATUS: dict[Refusal, int] = {
    "no room": NO_ROOM,
    "not usable": NOT_USABLE,
    "wrong kind": WRONG_KIND,
    "other patient": NOT_USABLE,
    "duplicate": DUPLICATE,
}
"""PS3.4, annex B.2.3, and PS3.7, annex C."""
LARGEST_PART = 2**20
"""Bytes of a part of a message; ours are announced with 64 KiB, and a request for an association has far less."""
MOST_CONNECTIONS = 64
SILENCE_S = 30
"""A partner that says nothing for so long is hung up on."""


@dataclass(frozen=True)
class Partners:
    """Who may call.

    Args:
        title: our own AE title, which a partner has to call.
        callers: AE titles that are answered.
        host, port: where to listen; port 0 takes a free one.
        tls: of the connections; None: they are not encrypted.
    """

    title: str
    callers: Sequence[str]
    host: str = "127.0.0.1"
    port: int = 11112
    tls: ssl.SSLContext | None = None


def start_node(inbox: Inbox, partners: Partners) -> ThreadedAssociationServer:
    """Listen in threads; ``shutdown()`` of what is returned ends it, ``server_address`` says where.

    Raises:
        InputError: nobody can listen there.
    """
    _config.STORE_RECV_CHUNKED_DATASET = True
    silence_libraries()  # they name people
    # Objects come into a folder from which they can be moved to where they stay.
    tempfile.tempdir = str(inbox.incoming)
    node = AE(partners.title)
    node.require_calling_aet = list(partners.callers)
    node.require_called_aet = True
    node.maximum_associations = MOST_CONNECTIONS
    node.network_timeout = node.acse_timeout = node.dimse_timeout = SILENCE_S
    node.add_supported_context(Verification)
    for kind in (*ACCEPTED_CLASSES, *OUR_CLASSES):
        node.add_supported_context(kind, list(SYNTAXES))
    handlers: list[Any] = [
        (evt.EVT_C_STORE, _store, [inbox]),
        (evt.EVT_REJECTED, _tell, ["an association was refused: unknown AE title, or too many at a time"]),
    ]
    try:
        server = node.make_server(
            (partners.host, partners.port),
            evt_handlers=handlers,
            ssl_context=partners.tls,
            server_class=_Server,
            request_handler=_handler(inbox),
        )
    except OSError as error:
        text = f"--host, --port: {partners.host}:{partners.port} cannot be listened at ({error.strerror or error}); give others"
        raise InputError(text) from error
    threading.excepthook = lambda broken: LOG.warning("a connection broke (%s)", broken.exc_type.__name__)
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True, name="node").start()
    return server


def _store(event: evt.Event, inbox: Inbox) -> int:
    """One image came; what is answered with success is on the disk."""
    try:
        refusal, said = inbox.take(event.dataset_path, str(event.request.AffectedSOPInstanceUID))
    except Exception as error:  # a partner gets an answer whatever happens
        LOG.warning("an image could not be taken (%s)", type(error).__name__)
        return NO_ROOM
    if refusal:
        LOG.warning("%s; refused: %s", said, refusal)
        return STATUS[refusal]
    LOG.info("%s", said)
    return SUCCESS


def _tell(_event: evt.Event, said: str) -> None:
    LOG.warning("%s", said)


class _Server(ThreadedAssociationServer):
    """Bounds the connections, and leaves greetings of TLS to their threads: one that is slow holds up nobody."""

    daemon_threads = True

    def verify_request(self, _request: Any, _client: Any) -> bool:
        if len(self.active_associations) < MOST_CONNECTIONS:
            return True
        LOG.warning("a connection was closed: %d are open", MOST_CONNECTIONS)
        return False

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = self.socket.accept()
        connection.settimeout(SILENCE_S)
        if self.ssl_context:
            connection = self.ssl_context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        return connection, address

    def shutdown(self) -> None:
        with suppress(ValueError):  # the library looks for servers that it started itself
            super().shutdown()

    def handle_error(self, _request: Any, _client: Any) -> None:
        LOG.warning("a connection broke")


def _handler(inbox: Inbox) -> type[RequestHandler]:
    """A handler whose connections read no more than they should."""

    class Bounded(RequestHandler):
        def _create_association(self) -> Association:
            association = super()._create_association()
            counted = _Counted(association, inbox)
            association.dul.socket.recv = counted
            association.bind(evt.EVT_DIMSE_RECV, counted.message_is_complete)
            return association

    return Bounded


class _Counted:
    """Reads from a connection; lets it break when a part, or a whole object, is larger than any should be."""

    def __init__(self, association: Association, inbox: Inbox) -> None:
        assert association.dul.socket is not None  # noqa: S101 (made just now)
        self._association, self._receive = association, association.dul.socket.recv
        self._inbox, self._bytes = inbox, 0

    def __call__(self, wanted: int) -> bytearray:
        try:
            self._bytes += wanted
            self._refuse_what_is_too_large(wanted)
            self._acknowledge_at_once()
            read = self._receive(wanted)
        except OSError:
            self._nothing_more()
            raise
        if len(read) < wanted:
            self._nothing_more()
        return read

    def _refuse_what_is_too_large(self, wanted: int) -> None:
        if wanted > LARGEST_PART or self._bytes > self._inbox.limits.object_bytes:
            LOG.warning("a connection was closed: a part or an object is larger than any should be")
            raise OSError("more than is taken")
        if self._bytes > LARGEST_PART and not self._inbox.has_room():
            LOG.warning("a connection was closed: the disk is full")
            raise OSError("no room")

    def _acknowledge_at_once(self) -> None:
        """A partner that waits for it before it goes on (Nagle) would lose 40 ms an image; Linux forgets this each time."""
        connection = self._association.dul.socket.socket
        if connection is not None and hasattr(socket, "TCP_QUICKACK"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    def _nothing_more(self) -> None:
        """Whoever waits for a first request learns at once that none comes, and frees its place."""
        if self._association.requestor.primitive is None:
            self._association.dul.to_user_queue.put(None)

    def message_is_complete(self, _event: evt.Event) -> None:
        """The next message starts to count from nothing."""
        self._bytes = 0
