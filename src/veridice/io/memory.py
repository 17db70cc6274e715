"""Memory that is free, and memory that ran out, in words."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import sys
from pathlib import Path

OUT_OF_MEMORY = re.compile(
    r"(can't|cannot|could not|failed to|unable to) alloc|not enough memory|out of memory|bad[_ ]alloc|"
    r"could not create a primitive|failed to map segment|can't start new thread",
    re.I,
)
"""As torch, oneDNN, OpenVINO, ITK and the system's loader say it, in errors of no kind of their own."""
ASKED_BYTES = re.compile(r"(?:allocate|buy) (\d+) bytes")
ASKED_UNITS = re.compile(r"allocate ([\d.]+ [KMGT]iB)", re.I)


def available_memory() -> int:
    """Bytes that this process may still take: of the machine, and of the limits that it, its container or its job has."""
    return max(0, min(_free_of_machine(), _free_of_group(), _free_of_process()))


def _free_of_machine() -> int:
    """With what the system only keeps to read files faster, where it says so."""
    with contextlib.suppress(OSError, StopIteration), Path("/proc/meminfo").open() as lines:
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _free_of_group(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """Of the control group (version 2) and those above it: containers and Slurm jobs have one."""
    free = sys.maxsize
    with contextlib.suppress(OSError, StopIteration):
        name = next(line[3:].strip() for line in own.read_text().splitlines() if line.startswith("0::"))
        group = root / name.lstrip("/")
        for place in (group, *group.parents[: len(group.relative_to(root).parts)]):
            with contextlib.suppress(OSError, ValueError):  # "max", or the root, which has no limit
                most, used = (int((place / f"memory.{kind}").read_text()) for kind in ("max", "current"))
                kept = re.search(r"^inactive_file (\d+)", (place / "memory.stat").read_text(), re.M)
                free = min(free, most - used + (int(kept.group(1)) if kept else 0))
    return free


def _free_of_process() -> int:
    """Of its address space, where it is limited (``ulimit -v``)."""
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most == resource.RLIM_INFINITY:
        return sys.maxsize
    with contextlib.suppress(OSError):
        return most - int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    return most


def memory_ran_out(error: BaseException) -> str:
    """What was needed and what is free, where an error is of memory that ran out; else empty."""
    text = " ".join(str(error).split())
    if not isinstance(error, MemoryError) and not (
        isinstance(error, RuntimeError | OSError | ImportError) and OUT_OF_MEMORY.search(text)
    ):
        return ""
    in_bytes, in_units = ASKED_BYTES.search(text), ASKED_UNITS.search(text)
    asked = _size(int(in_bytes.group(1))) if in_bytes else in_units.group(1) if in_units else ""
    where = " of the graphics card" if "CUDA" in text else ""
    needed = f"{asked} more were needed" if asked else "more was needed"
    return (
        f"the memory{where} ran out: {needed}, {_size(available_memory())} are free; "
        "close other programs, use a larger machine, or give a coarser or smaller scan"
    )


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:.1f} MiB"
