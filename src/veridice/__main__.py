"""``veridice`` and ``python -m veridice``: signals, then the command line. Ctrl-C is one line at any moment."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)
"""A job that is terminated cleans up as one that is interrupted does."""
A_MOMENT = 0.01


def main() -> None:
    """Run the command line; every ending has its exit code and no traceback."""
    _answer_signals(_leave)
    # It complains of a cache folder that it cannot make, as where HOME is read-only, and then makes do without.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    # Takes seconds, in which there is nothing to clean up yet.
    from veridice.cli import main as run

    _answer_signals(_interrupt)
    signal.signal(signal.SIGALRM, _interrupt)
    sys.unraisablehook = _unraisable
    code = 1
    try:
        code = run()
    finally:  # Python itself goes now, which nothing should disturb
        for kind in (*ENDING_SIGNALS, signal.SIGALRM):
            signal.signal(kind, signal.SIG_IGN)
    _leave_at_once(code)


def _answer_signals(answer: Callable[[int, Any], None]) -> None:
    for kind in ENDING_SIGNALS:
        if signal.getsignal(kind) is not signal.SIG_IGN:  # as in a background job
            signal.signal(kind, answer)


def _leave_at_once(code: int) -> None:
    """Taking torch apart, library by library, takes a second; the system frees all of it at once."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # nobody reads it any more
            stream.flush()
    atexit._run_exitfuncs()
    os._exit(code)


def _leave(_signal: int, _frame: Any) -> None:
    os.write(2, b"veridice: interrupted; nothing half-written was left\n")
    os._exit(130)


def _interrupt(_signal: int, _frame: Any) -> None:
    """Begin to clean up; further signals would only disturb that."""
    for kind in ENDING_SIGNALS:
        signal.signal(kind, signal.SIG_IGN)
    raise KeyboardInterrupt


def _unraisable(lost: Any) -> None:
    """An interruption that came while Python threw an object away is lost there, and comes again a moment later."""
    if issubclass(lost.exc_type, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, A_MOMENT)
    elif os.environ.get("VERIDICE_DEBUG"):
        sys.__unraisablehook__(lost)


if __name__ == "__main__":
    main()
