"""Work beside the desk: a thread that takes turns at what waits in the store, until the desk is closed."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod

LOG = logging.getLogger("veridice.review")
PAUSE_S = 5
"""After something went wrong, such as a store that could not be written."""


class BackgroundWork(ABC):
    """Takes turns in a thread; what is left when it is closed waits for the next desk.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._work, self._closed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; what an earlier desk left waiting comes first."""
        self._thread.start()

    def wake(self) -> None:
        """Say that there is something new."""
        self._work.set()

    def close(self) -> None:
        """End after this turn."""
        self._closed.set()
        self._work.set()
        self._thread.join(timeout=1)

    def _rest(self, seconds: float | None = None) -> None:
        """Until there is something new, or for so long."""
        self._work.wait(seconds)
        self._work.clear()

    @abstractmethod
    def _turn(self) -> None:
        """Do one thing that waits, or rest where nothing does."""

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._turn()
            except Exception as error:  # a busy file, say: what waits is found again
                LOG.warning("%s: %s; once more in %d s", self._thread.name, type(error).__name__, PAUSE_S)
                self._closed.wait(PAUSE_S)
