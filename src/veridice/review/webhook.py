"""Each rating is told to another program, signed, until that program says that it has it."""

from __future__ import annotations

import hashlib
import hmac
import time
import urllib.error
import urllib.request
from http.client import HTTPException
from urllib.parse import urlsplit

from veridice.errors import InputError
from veridice.review.background import BackgroundWork
from veridice.review.store import Store, now

TIMEOUT_S = 10
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 3600.0
MOST_TRIES = 40
"""The waits between them grow to an hour: more than a day in all."""
SIGNATURE = "X-Veridice-Signature"


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A message goes where it was sent and nowhere else."""

    def redirect_request(self, *_arguments: object) -> None:
        return None


def checked_address(address: str) -> str:
    """An address that messages may be sent to.

    Raises:
        InputError: it is no http or https address.
    """
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"--webhook: '{address}' is no http or https address; write for example https://example.org/ratings")
    return address


def signature(secret: bytes, moment: str, body: bytes) -> str:
    """HMAC-SHA256 of the moment and the body, as the header carries it: ``t=MOMENT,v1=HEX``."""
    return f"t={moment},v1={hmac.new(secret, moment.encode() + b'.' + body, hashlib.sha256).hexdigest()}"


class Webhook(BackgroundWork):
    """Sends the messages that wait in a store; one that is not taken is tried again later and later.

    Args:
        store: where they wait, also over a restart.
        address: of the receiver.
        secret: shared with it.
    """

    def __init__(self, store: Store, address: str, secret: bytes) -> None:
        super().__init__("webhook")
        self._store, self._address, self._secret = store, checked_address(address), secret
        self._opener = urllib.request.build_opener(_NoRedirects)

    def _turn(self) -> None:
        """Send the message that is due, or wait for one."""
        rows = self._store.rows(
            "SELECT * FROM messages WHERE delivered IS NULL AND tries < ? ORDER BY due, id LIMIT 1", MOST_TRIES
        )
        wait = max(0.0, rows[0]["due"] - time.time()) if rows else LONGEST_WAIT_S
        if wait:
            self._rest(wait)
            return
        trouble = self._send(rows[0]["body"].encode())
        with self._store.writing() as connection:
            if trouble:
                due = time.time() + min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** rows[0]["tries"])
                values = (due, trouble, rows[0]["id"])
                connection.execute("UPDATE messages SET tries = tries + 1, due = ?, trouble = ? WHERE id = ?", values)
            else:
                connection.execute("UPDATE messages SET delivered = ?, trouble = '' WHERE id = ?", (now(), rows[0]["id"]))

    def _send(self, body: bytes) -> str:
        """What went wrong; empty where nothing did."""
        moment = str(int(time.time()))
        headers = {"Content-Type": "application/json", SIGNATURE: signature(self._secret, moment, body)}
        request = urllib.request.Request(self._address, body, headers, method="POST")  # noqa: S310 (its scheme was checked)
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as answer:
                return "" if 200 <= answer.status < 300 else f"answered {answer.status}"
        except urllib.error.HTTPError as error:
            with error:
                return f"answered {error.code}"
        except (OSError, ValueError, HTTPException) as error:
            return type(error).__name__
