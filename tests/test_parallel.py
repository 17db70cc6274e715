"""Tasks in processes; this file imports little, as every process imports it again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from veridice.parallel import ProcessDiedError, in_processes


def die_of_three(number: int) -> int:
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.mark.parametrize(("items", "jobs"), [((1, 3), 1), pytest.param(range(6), 2, marks=pytest.mark.slow)])
def test_a_process_that_dies_takes_its_own_task_alone(items: tuple[int, ...], jobs: int) -> None:
    results = dict(in_processes(items, die_of_three, jobs))
    assert isinstance(results.pop(3), ProcessDiedError)
    assert results == {number: number for number in items if number != 3}


ALGEBRA = """
import numpy
from threadpoolctl import threadpool_info
from veridice.parallel import in_processes
def threads(number):
    return [library["num_threads"] for library in threadpool_info()]
if __name__ == "__main__":
    print(next(iter(in_processes([0], threads, 1)))[1])
"""


def test_algebra_takes_no_more_threads_than_its_process_may(tmp_path) -> None:
    (tmp_path / "script.py").write_text(ALGEBRA)
    without = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    found = subprocess.run([sys.executable, str(tmp_path / "script.py")], env=without, capture_output=True, text=True)
    assert found.stdout.strip() == "[1]", found.stderr


PARENT = """
import sys, time
from veridice.parallel import in_processes
if __name__ == "__main__":
    for _ in in_processes([60, 60], time.sleep, 1):
        pass
"""


@pytest.mark.slow
def test_processes_end_with_a_parent_that_was_killed(tmp_path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(tmp_path / "parent.py")])
    child = None
    while child is None and parent.poll() is None:
        time.sleep(0.05)
        found = subprocess.run(["pgrep", "-P", str(parent.pid), "-f", "spawn_main"], capture_output=True, text=True)
        child = next(iter(found.stdout.split()), None)
    time.sleep(2)  # until it watches
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 20
    while os.path.exists(f"/proc/{child}") and time.monotonic() < deadline:  # noqa: PTH110
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{child}")  # noqa: PTH110
