"""The command line in the process of the tests: libraries that take seconds to load are there already."""

from __future__ import annotations

import contextlib
import io
import pickle
import subprocess
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from veridice import cli


def veridice(*arguments: object) -> subprocess.CompletedProcess[str]:
    """What a process ``veridice ...`` would say and how it would end."""
    said, complained = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(complained):
        code = cli.run([str(argument) for argument in arguments])
    return subprocess.CompletedProcess(list(arguments), code, said.getvalue(), complained.getvalue())


def one_after_the_other(tasks: Iterable[Any], work: Callable[[Any], Any], *_: object) -> Iterator[Any]:
    """In place of ``veridice.parallel.in_processes``, where a test is not about the processes; tasks travel as to those."""
    return ((task, pickle.loads(pickle.dumps(work))(pickle.loads(pickle.dumps(task)))) for task in tasks)  # noqa: S301
