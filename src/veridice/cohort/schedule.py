"""Which scans of a study are to be judged how, and by how many processes."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from veridice.assessment.check import Request
from veridice.assessment.compare import OWN, OWN_TOOL, Comparing
from veridice.cohort.task import ScanTask, settings_checksum
from veridice.config import InferenceSettings
from veridice.errors import InputError
from veridice.io.bids_dataset import BidsScan
from veridice.io.image_header import require_content
from veridice.io.mask_values import MaskLabel
from veridice.io.memory import available_memory
from veridice.io.other_tools import FoundMask, MaskFolder

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

    Raises:
        OutputError: results would replace masks.
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
        tasks[-1].refuse_overwriting()
    return tasks


def plan_comparison(
    scans: Sequence[BidsScan],
    reading: Callable[..., Request],
    folders: Mapping[str, MaskFolder],
    mask_label: MaskLabel | None,
    own: bool,
    select: Collection[str],
    output: Path,
    weights: Path,
    settings: InferenceSettings,
) -> list[ScanTask]:
    """A task for each scan, with the masks that are to be compared; a tool may lack some scans.

    Args:
        scans, reading, output, weights, settings: as in :func:`plan_tasks`.
        folders: of masks, by the names of tools.
        mask_label: of the lesions in all of them; None: each tool's own.
        own: whether our own mask is compared too.
        select: ``best`` and ``consensus``, or one of them, or neither.

    Raises:
        OutputError: results would replace masks.
    """
    tasks, checksums = [], dict[Any, str]()
    for scan in scans:
        found, absent = {}, {}
        for tool, folder in sorted(folders.items()):
            try:
                found[tool] = _readable(folder.of(scan))
            except InputError as error:
                absent[tool] = str(error).replace(str(folder.folder), folder.folder.name)
        comparing = Comparing(
            tools=tuple(found),
            labels=tuple(mask.label if mask_label is None else mask_label for mask in found.values()),
            own=own,
            best="best" in select,
            consensus="consensus" in select,
            absent=tuple(absent.items()),
        )
        request = reading(scan.name, scan.flair, scan.t1, masks=[mask.path for mask in found.values()])
        problem = "" if found or own else "; ".join(absent.values())
        if comparing not in checksums:
            checksums[comparing] = settings_checksum(request, weights, settings, comparing)
        tasks.append(ScanTask(request, scan.folder, output, weights, settings, checksums[comparing], problem, comparing))
        tasks[-1].refuse_overwriting()
    return tasks


def _readable(mask: FoundMask) -> FoundMask:
    """A mask whose content is here: one that is not must not keep the other tools from going on.

    Raises:
        InputError: it is not.
    """
    require_content(mask.path)
    try:
        if mask.path.is_file():
            with mask.path.open("rb") as stream:
                stream.read(1)
    except OSError as error:
        raise InputError(f"{mask.path.name}: cannot be read ({error.strerror or error})") from error
    return mask


def name_tools(given: Sequence[str]) -> dict[str, str]:
    """Names of tools for what ``--masks`` was given: ``NAME=DIR``, else after the folder and its ``desc``.

    Raises:
        InputError: two would have one name.
    """
    named: dict[str, str] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not equals or "/" in name:
            place, _, desc = text.rpartition(":")
            last = Path(place or text).name
            name, folder = (f"{last}-{desc}" if place else last), text
        if not re.fullmatch(r"[\w .+-]{1,60}", name) or name in (OWN, OWN_TOOL):
            raise InputError(f"--masks {text}: '{name}' is no name of a tool; write NAME=DIR with letters and digits")
        if name in named:
            raise InputError(f"--masks {text}: a second tool named '{name}'; write NAME=DIR to tell them apart")
        named[name] = folder
    return named


def choose_processes(n_jobs: int | None, mem_gb: float | None) -> tuple[int, int]:
    """Processes, and threads of each: one a processor, as far as memory goes; docs/study.md has what was measured."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    room = available_memory() / 2**30 if mem_gb is None and n_jobs is None else mem_gb
    jobs = n_jobs or cores
    if room is not None:
        jobs = max(1, min(jobs, int(room / WORKER_GB)))
    return jobs, max(1, cores // jobs)
