"""Which scans of a study are to be judged how, and by how many processes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from veridice.assessment.check import Request
from veridice.cohort.task import ScanTask, settings_checksum
from veridice.config import InferenceSettings
from veridice.errors import InputError
from veridice.io.bids_dataset import BidsScan
from veridice.io.mask_values import MaskLabel
from veridice.io.memory import available_memory
from veridice.io.other_tools import MaskFolder

WORKER_GB = 2.5
"""Memory of one worker on an ordinary scan, with room; see docs/study.md."""


def say_absent(absent: list[str]) -> list[str]:
    """A sentence that names the subjects without a FLAIR, if there are any."""
    if not absent:
        return []
    return [f"no FLAIR was found of {len(absent)} subjects: {', '.join(absent[:5])}{' ...' if absent[5:] else ''}"]


def refuse_same(bids_dir: Path, output_dir: Path) -> None:
    """Make sure that results do not go into the data set's own root.

    Raises:
        InputError: they would.
    """
    if bids_dir.resolve() == output_dir.resolve():
        raise InputError(f"{output_dir}: is the data set itself; give for example {bids_dir / 'derivatives' / 'veridice'}")


def plan_tasks(
    scans: Sequence[BidsScan],
    reading: Callable[..., Request],
    folder: MaskFolder | None,
    mask_label: MaskLabel | None,
    output: Path,
    weights: Path,
    settings: InferenceSettings,
) -> list[ScanTask]:
    """A task for each scan, with the mask that is to be judged.

    Args:
        scans: of the data set.
        reading: makes a request of name, FLAIR, T1w, ``masks`` and ``mask_label``.
        folder: of another tool's masks; None: our own are judged.
        mask_label: of the lesions; None: the tool's own.
        output: folder of derivatives.
        weights: folder of the networks.
        settings: passes, seed, device, threshold.
    """
    tasks, checksums = [], dict[Any, str]()
    for scan in scans:
        problem, given, label = "", [], mask_label
        if folder is not None:
            try:
                found = folder.of(scan)
                given, label = [found.path], found.label if mask_label is None else mask_label
            except InputError as error:
                # It goes into tables and reports, which name no folders of this machine.
                problem = str(error).replace(str(folder.folder), folder.folder.name)
        request = reading(scan.name, scan.flair, scan.t1, masks=given, mask_label=label)
        if label not in checksums:
            checksums[label] = settings_checksum(request, weights, settings)
        tasks.append(ScanTask(request, scan.folder, output, weights, settings, checksums[label], problem))
    return tasks


def choose_processes(n_jobs: int | None, mem_gb: float | None) -> tuple[int, int]:
    """Processes, and threads of each: one a processor, as far as memory goes; docs/study.md has what was measured."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    room = available_memory() / 2**30 if mem_gb is None and n_jobs is None else mem_gb
    jobs = n_jobs or cores
    if room is not None:
        jobs = max(1, min(jobs, int(room / WORKER_GB)))
    return jobs, max(1, cores // jobs)
