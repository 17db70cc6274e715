"""Many independent tasks in processes of this machine; a process that dies takes nothing with it but its own task."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class ProcessDiedError(Exception):
    """The process that worked at a task was killed or crashed, also when it had nothing else to do."""


def in_processes(
    items: Iterable[Item], work: Callable[[Item], Result], jobs: int, threads: int = 1
) -> Iterator[tuple[Item, Result | ProcessDiedError]]:
    """Do ``work`` on every item; results come as they are ready.

    When a process dies, the tasks that were under way are done again, one by one, so that only the one that kills its
    process is lost. Ctrl-C lets the tasks under way end and hands out no more.

    Args:
        items: picklable.
        work: a function of a module; an exception of it is raised here.
        jobs: processes.
        threads: of each process.
    """
    waiting = deque(items)
    suspects: deque[Item] = deque()
    while waiting:
        yield from _until_one_dies(waiting, work, jobs, threads, suspects)
    for suspect in suspects:
        again: deque[Item] = deque()
        yield from _until_one_dies(deque([suspect]), work, 1, threads, again)
        if again:
            yield suspect, ProcessDiedError("its process died; out of memory?")


def do_missing(
    items: Iterable[Item],
    is_done: Callable[[Item], bool],
    work: Callable[[Item], object],
    jobs: int,
    on_step: Callable[[], None],
) -> None:
    """Do ``work`` on every item that is not done, here or in ``jobs`` processes; ``on_step`` is called for each, done or not.

    Raises:
        ProcessDiedError: the process of one died.
    """
    waiting = []
    for item in items:
        if is_done(item):
            on_step()
        else:
            waiting.append(item)
    for _, result in in_processes(waiting, work, jobs) if jobs > 1 else ((item, work(item)) for item in waiting):
        if isinstance(result, ProcessDiedError):
            raise result
        on_step()


def _until_one_dies(
    waiting: deque[Item], work: Callable[[Item], Result], jobs: int, threads: int, under_way: deque[Item]
) -> Iterator[tuple[Item, Result]]:
    """Take from ``waiting``; when a process dies, what was under way is appended to ``under_way``."""
    context = multiprocessing.get_context("spawn")
    running: dict[Future[Result], Item] = {}
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(threads,)) as pool:
        try:
            while waiting or running:
                # No more are handed out than are worked at: an interruption waits for those alone.
                with _interrupts_ignored():
                    while waiting and len(running) < jobs:
                        running[pool.submit(work, waiting[0])] = waiting[0]
                        waiting.popleft()
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    result = future.result()
                    yield running.pop(future), result
        except BrokenProcessPool:
            under_way.extend(running.values())


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Processes that begin here leave Ctrl-C to this one and end what they are at: an ignored signal stays so in them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _begin(threads: int) -> None:
    # Read by torch and numpy when they are imported, which a process that needs none is spared.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
    if "numpy" in sys.modules:
        from threadpoolctl import threadpool_limits

        # A script that imports it is imported anew here first; its algebra would wait for cores that others use.
        threadpool_limits(threads)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A parent that was killed leaves its children waiting for tasks for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait_for([parent.sentinel])
        os._exit(1)
