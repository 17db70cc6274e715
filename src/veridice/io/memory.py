"""Memory that is free, and memory that ran out, in words."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

OUT_OF_MEMORY = re.compile(
    r"can't allocate memory|cannot allocate memory|not enough memory|out of memory|bad[_ ]alloc|failed to allocate memory", re.I
)
"""As torch, OpenVINO and ITK say it, in errors of no kind of their own."""
ASKED_BYTES = re.compile(r"(?:allocate|buy) (\d+) bytes")
ASKED_UNITS = re.compile(r"allocate ([\d.]+ [KMGT]iB)", re.I)


def available_memory() -> int:
    """Bytes; with what the system only keeps to read files faster, where it says so."""
    with contextlib.suppress(OSError, StopIteration), Path("/proc/meminfo").open() as lines:
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def memory_ran_out(error: BaseException) -> str:
    """What was needed and what is free, where an error is of memory that ran out; else empty."""
    text = " ".join(str(error).split())
    if not isinstance(error, MemoryError) and not (isinstance(error, RuntimeError | OSError) and OUT_OF_MEMORY.search(text)):
        return ""
    in_bytes, in_units = ASKED_BYTES.search(text), ASKED_UNITS.search(text)
    asked = _size(int(in_bytes.group(1))) if in_bytes else in_units.group(1) if in_units else ""
    where = " of the graphics card" if "CUDA" in text else ""
    needed = f"{asked} more were needed" if asked else "more was needed"
    return (
        f"the memory{where} ran out: {needed}, {_size(available_memory())} of this machine are free; "
        "close other programs, use a larger machine, or give a coarser or smaller scan"
    )


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 / 10 else f"{count / 2**20:.1f} MiB"
