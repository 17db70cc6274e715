"""How far long work is: a call after each step, seconds by stage, one bar."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

OnStep = Callable[[], None]


class Clock:
    """Wall time by stage; a stage that comes again is added up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the enclosed block under ``name``."""
        start = time.perf_counter()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 3)


@contextmanager
def counted(task: str, total: int, shown: bool = True) -> Iterator[OnStep]:
    """A bar on stderr for one task of ``total`` steps; yields what is called after each of them."""
    with progress_bar(shown) as progress:
        yield partial(progress.advance, progress.add_task(task, total=total, note=""))


def progress_bar(shown: bool = True, noted: bool = True, console: Console | None = None) -> Progress:
    """A progress bar on stderr.

    Args:
        shown: False draws nothing.
        noted: its tasks carry a ``note``, and it stays; without notes it is gone when done.
        console: to draw on; None: one of its own.
    """
    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    notes = [TextColumn("{task.fields[note]}")] if noted else []
    return Progress(*columns, *notes, console=console or Console(stderr=True), disable=not shown, transient=not noted)
