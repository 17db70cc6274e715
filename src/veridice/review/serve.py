"""Opens a desk, serves it until it is told to end, and leaves nothing open. Needs the extra ``review``."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import uvicorn

from veridice.errors import InputError, OutputError
from veridice.io.weight_cards import bundled_weights
from veridice.quality.calibration import read_calibration
from veridice.quality.model import CALIBRATION
from veridice.review.desk import Desk
from veridice.review.drawing import sweep
from veridice.review.options import DeskOptions
from veridice.review.rejudge import Rejudging
from veridice.review.server import VIEWER, Wake, create_app
from veridice.review.store import kept_alone
from veridice.review.studied import dataset_of, open_study
from veridice.review.webhook import Webhook, checked_address

LOOPBACK = "127.0.0.1"
SECRET = "VERIDICE_WEBHOOK_SECRET"  # noqa: S105 (its name)


class _Wake(Wake):
    def __init__(self, rejudging: Rejudging, webhook: Webhook | None) -> None:
        self._rejudging, self._webhook = rejudging, webhook

    def drawing(self) -> None:
        self._rejudging.wake()

    def message(self) -> None:
        if self._webhook is not None:
            self._webhook.wake()


def serve(
    output: Path,
    dataset: Path | None,
    options: DeskOptions,
    host: str = LOOPBACK,
    port: int = 8765,
    names: Sequence[str] = (),
    webhook: str | None = None,
    renew: bool = False,
    tell: Callable[[dict[str, str], int], None] = lambda _links, _scans: None,
) -> None:
    """Serve a study until the process is told to end.

    Args:
        output: the study's folder.
        dataset: root of the BIDS data set; None: looked for above ``output``.
        options: how it is rated.
        host, port: to listen at; port 0 takes a free one.
        names: further names that this machine is reached by, with the port where it is another.
        webhook: address that every rating is sent to.
        renew: make new links; the old ones no longer work.
        tell: called with the link of each rater and the number of scans, once the desk answers.

    Raises:
        InputError: it is no judged study, or the viewer is not there.
        OutputError: another desk has it open, nothing can be written there, or the port is taken.
    """
    if not VIEWER.is_file():
        raise InputError(f"{VIEWER.name}: the viewer is not packed; run scripts/pack_viewer, or install veridice from a wheel")
    if webhook:
        checked_address(webhook)
    scans = open_study(output, dataset)
    secret = os.environ.get(SECRET, "")
    if webhook and len(secret) < 16:
        raise InputError(f"--webhook: ratings are signed with a secret; set {SECRET} to at least 16 characters")
    known = read_calibration(options.calibration or (options.weights or bundled_weights()) / CALIBRATION)
    with kept_alone(output) as store, _listening(host, port) as listener:
        port = listener.getsockname()[1]
        place = dataset or dataset_of(output)
        desk = Desk(output, place, scans, store, options, known, tells=webhook is not None)
        sweep(output)
        desk.corrections.publish_all()
        tokens = store.tokens(options.raters, options.adjudicator, renew)
        sender = Webhook(store, webhook, secret.encode()) if webhook else None
        rejudging = Rejudging(store, desk.corrections.job)
        # A proxy before the desk answers at a port of its own, which a browser leaves out where it is the usual one.
        own = dict.fromkeys([_shown(host), LOOPBACK, "localhost", "[::1]", *names])
        hosts = [*(f"{name}:{port}" for name in own), *names]
        app = create_app(desk, tokens, hosts, place.resolve().name, _Wake(rejudging, sender))
        config = uvicorn.Config(app, access_log=False, log_level="warning", server_header=False, timeout_graceful_shutdown=2)
        with suppress(KeyboardInterrupt), _beside(rejudging, sender):  # that is how a desk ends
            tell({code: f"http://{hosts[0]}/?token={token}" for code, token in tokens.items()}, len(desk.list.names))
            uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def _beside(rejudging: Rejudging, sender: Webhook | None) -> Iterator[None]:
    """What works beside the desk."""
    workers = [worker for worker in (rejudging, sender) if worker is not None]
    for worker in workers:
        worker.start()
    try:
        yield
    finally:
        for worker in workers:
            worker.close()


def _shown(host: str) -> str:
    """A host as a browser writes it; one that stands for all of a machine's is reached at home."""
    return LOOPBACK if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host  # noqa: S104 (compared)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(128)
        except OSError as error:
            raise OutputError(
                f"port {port} of {host} cannot be used ({error.strerror or error}); give another --port or --host"
            ) from error
        yield listener
