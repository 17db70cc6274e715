"""What comes before every request: only our own page may ask, and not for too much; and what every answer carries."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from veridice.review.drawing import LARGEST_UPLOAD

LARGEST_WORDS = 64 * 1024
"""Bytes of a request that is no drawing."""
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        # Shaders, fonts and pictures of the viewer stand in its own file as data.
        "img-src 'self' data: blob:",
        "connect-src 'self' data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
READING = ("GET", "HEAD")


class Guard:
    """Refuses requests for another host, from another site, or that are too large; adds :data:`HEADERS` to what is answered.

    A foreign Host is how DNS rebinding looks, a foreign Origin how a forged request does.

    Args:
        app: the ASGI application.
        hosts: values of the Host header that are ours, with the port.
    """

    def __init__(self, app: Callable[..., Any], hosts: frozenset[str]) -> None:
        self._app, self._hosts = app, hosts

    async def __call__(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        """One request, as ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                more = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *((name, value) for name, value in more if name not in given)]
            await send(message)

        refused = self._refused(scope)
        if refused:
            await _answer(with_headers, *refused)
            return
        await self._app(scope, receive, with_headers)

    def _refused(self, scope: dict[str, Any]) -> tuple[int, str] | None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if headers.get("host", "").lower() not in self._hosts:
            return 421, "this desk does not answer for that host; use the link that it printed"
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() not in self._hosts:
            return 403, "this request comes from another site"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and scope["path"] != "/":
            return 403, "this request comes from another site"
        if scope["method"] in READING:
            return None
        return self._refused_content(scope, headers)

    def _refused_content(self, scope: dict[str, Any], headers: dict[str, str]) -> tuple[int, str] | None:
        length = headers.get("content-length", "0" if scope["method"] == "DELETE" else "")
        if not length.isdigit() or "transfer-encoding" in headers:
            return 411, "say how long the content is"
        largest = LARGEST_UPLOAD if scope["path"].endswith("/drawing") else LARGEST_WORDS
        return (413, f"more than {largest} bytes") if int(length) > largest else None


async def _answer(send: Callable[..., Any], status: int, reason: str) -> None:
    body = json.dumps({"detail": reason}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
