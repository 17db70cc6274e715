"""``veridice`` and ``python -m veridice``."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any


def _leave(_signal: int, _frame: Any) -> None:
    sys.stderr.write("veridice: interrupted; nothing half-written was left\n")
    sys.stderr.flush()
    os._exit(130)


def main() -> None:
    """Run the command line; Ctrl-C while its libraries are loaded, which takes seconds, is no traceback either."""
    for kind in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(kind) is not signal.SIG_IGN:
            signal.signal(kind, _leave)
    from veridice.cli import main as run

    run()


if __name__ == "__main__":
    main()
