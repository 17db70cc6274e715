"""``run``: a whole BIDS data set, as BIDS-Apps are called."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from veridice.assessment.check import Request
from veridice.cli.common import (
    Device,
    Engine,
    MinDice,
    Passes,
    Seed,
    Weights,
    err,
    inference_settings,
    one_of,
    out,
    progress_bar,
)
from veridice.cohort import Run, Tally, run_cohort
from veridice.config import InferenceSettings
from veridice.errors import InputError, OutputError
from veridice.io.atomic import make_folder
from veridice.io.bids import write_dataset_files
from veridice.io.bids_dataset import BidsScan, check_dataset, find_scans, read_filter, validate_dataset, without_scans
from veridice.io.nifti import available_memory
from veridice.io.other_tools import MaskFolder, split_place
from veridice.io.weight_cards import bundled_weights
from veridice.parallel import in_processes
from veridice.participant import Outcome, ScanTask, judge_scan, settings_checksum
from veridice.quality.calibration import CalibrationSet, read_calibration
from veridice.quality.model import CALIBRATION

LABELS = (("--participant-label", "--participant_label"), ("--session-label", "--session_label"))
LEVELS = ("participant", "group")
WORKER_GB = 2.5
"""Memory of one worker on an ordinary scan, with room; see docs/study.md."""


def spread_labels(arguments: list[str]) -> list[str]:
    """``--participant-label 01 02``, as BIDS-Apps have it, to an option for each label.

    Only after the three arguments: before them a label and a folder could not be told apart.
    """
    if arguments[:1] != ["run"] or any(text.startswith("-") for text in arguments[1:4]):
        return arguments
    spread, option = list(arguments[:4]), ""
    for text in arguments[4:]:
        if text.startswith("-"):
            option = text if any(text in names for names in LABELS) else ""
        elif option and spread[-1] != option:
            spread.append(option)
        spread.append(text)
    return spread


def run(
    bids_dir: Annotated[Path, typer.Argument(help="Root of the BIDS data set.")],
    output_dir: Annotated[Path, typer.Argument(help="Folder of derivatives; made when absent, gone on with when not.")],
    level: Annotated[str, typer.Argument(help="participant: judge every scan; group: table and report of all.")],
    participant_label: Annotated[list[str] | None, typer.Option(*LABELS[0], help="Only these, with or without sub-.")] = None,
    session_label: Annotated[list[str] | None, typer.Option(*LABELS[1], help="Only these, with or without ses-.")] = None,
    bids_filter_file: Annotated[Path | None, typer.Option(help="JSON that chooses files: flair, t1w.")] = None,
    skip_bids_validation: Annotated[bool, typer.Option("--skip-bids-validation", help="Take the folder as it is.")] = False,
    masks: Annotated[
        str | None, typer.Option(help="DIR[:desc]: judge masks of another tool: BIDS derivatives, LST-AI, SAMSEG, nnU-Net.")
    ] = None,
    mask_threshold: Annotated[float | None, typer.Option(help="As in check.")] = None,
    mask_label: Annotated[int | None, typer.Option(help="As in check; SAMSEG's is known.")] = None,
    registration: Annotated[bool, typer.Option(help="Register a T1w that does not lie on the FLAIR.")] = True,
    n_jobs: Annotated[
        int | None, typer.Option(min=1, max=512, help="Processes; else one a processor, as memory allows.")
    ] = None,
    mem_gb: Annotated[float | None, typer.Option(min=1, help="Memory to stay below; fewer processes if need be.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Address of a running Dask scheduler (tcp://...).")] = None,
    slurm: Annotated[Path | None, typer.Option(help="TOML: start workers as Slurm jobs with these resources.")] = None,
    pbs: Annotated[Path | None, typer.Option(help="The same for PBS.")] = None,
    sge: Annotated[Path | None, typer.Option(help="The same for SGE.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    weights: Weights = None,
    passes: Passes = 20,
    seed: Seed = 0,
    min_dice: MinDice = None,
    coverage: Annotated[float, typer.Option(min=0.5, max=0.99, help="Of the interval of the true Dice.")] = 0.9,
    calibration: Annotated[Path | None, typer.Option(help="calibration.json of your own; else the one that ships.")] = None,
    device: Device = "auto",
    engine: Engine = "auto",
) -> None:
    """Judge every scan of a BIDS data set (participant), then rank them in one table and report (group)."""
    one_of(LEVELS, level, "level")
    # Workers elsewhere have working folders of their own.
    bids_dir, output_dir = bids_dir.absolute(), output_dir.absolute()
    weights, calibration = (path and path.absolute() for path in (weights, calibration))
    name = bids_dir.name if skip_bids_validation else check_dataset(bids_dir)
    chosen = read_filter(bids_filter_file) if bids_filter_file else None
    scans = find_scans(bids_dir, participant_label or (), session_label or (), chosen)
    _refuse_same(bids_dir, output_dir)
    everything = not (participant_label or session_label or chosen)
    notes = _notes(without_scans(bids_dir, scans) if everything else [])
    for note in notes:
        err.print(f"[yellow]warning:[/yellow] {escape(note)}")
    if level == "group":
        known = read_calibration(calibration or (weights or bundled_weights()) / CALIBRATION)
        _group({"name": name, "notes": notes}, bids_dir, output_dir, scans, known)
        return
    settings = inference_settings(passes, seed, min_dice, coverage, device, engine)
    reading = partial(Request, mask_threshold=mask_threshold, registration=registration, calibration=calibration)
    tasks = _tasks(scans, reading, masks, mask_label, output_dir, weights or bundled_weights(), settings)
    if dry_run:
        _print_plan(tasks)
        return
    if not skip_bids_validation and (note := validate_dataset(bids_dir)):
        err.print(escape(note))
    queues = {"slurm": slurm, "pbs": pbs, "sge": sge}
    with _somewhere(scheduler, queues, _processes(n_jobs, mem_gb)) as runner:
        tally = _participants(tasks, runner, output_dir)
    raise typer.Exit(1 if tally.failed else 0)


def _notes(absent: list[str]) -> list[str]:
    if not absent:
        return []
    return [f"no FLAIR was found of {len(absent)} subjects: {', '.join(absent[:5])}{' ...' if absent[5:] else ''}"]


def _refuse_same(bids_dir: Path, output_dir: Path) -> None:
    if bids_dir.resolve() == output_dir.resolve():
        raise InputError(f"{output_dir}: is the data set itself; give for example {bids_dir / 'derivatives' / 'veridice'}")


def _tasks(
    scans: Sequence[BidsScan],
    reading: Callable[..., Request],
    masks: str | None,
    mask_label: int | None,
    output: Path,
    weights: Path,
    settings: InferenceSettings,
) -> list[ScanTask]:
    folder = MaskFolder(*split_place(masks)) if masks else None
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


def _print_plan(tasks: Sequence[ScanTask]) -> None:
    table = Table("scan", "T1w", "mask", "what")
    for task in tasks:
        request = task.request
        mask = ", ".join(path.name for path in request.masks) or ("own" if not task.problem else "none")
        what = task.problem or ("finished before" if task.is_finished() else "to be judged")
        table.add_row(escape(task.name), "yes" if request.t1 else "no", escape(mask), escape(what))
    out.print(table)


def _processes(n_jobs: int | None, mem_gb: float | None) -> tuple[int, int]:
    """Processes, and threads of each: one a processor, as far as memory goes; docs/study.md has what was measured."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    room = available_memory() / 2**30 if mem_gb is None and n_jobs is None else mem_gb
    jobs = n_jobs or cores
    if room is not None:
        jobs = max(1, min(jobs, int(room / WORKER_GB)))
    return jobs, max(1, cores // jobs)


@contextmanager
def _somewhere(scheduler: str | None, queues: dict[str, Path | None], processes: tuple[int, int]) -> Iterator[Run]:
    """What runs the tasks: processes of this machine unless a cluster is named."""
    asked = {name: file for name, file in queues.items() if file is not None}
    if len(asked) + (scheduler is not None) > 1:
        raise typer.BadParameter("only one of them", param_hint="--scheduler, --slurm, --pbs, --sge")
    if scheduler is None and not asked:
        jobs, threads = processes
        yield lambda tasks, patient: in_processes(tasks, partial(judge_scan, patient=patient), jobs, threads)
        return
    from veridice import cluster

    clients = [cluster.queued(one_of(tuple(cluster.QUEUES), name, "--slurm"), file) for name, file in asked.items()]
    with clients[0] if clients else cluster.connected(scheduler or "") as client:
        yield lambda tasks, patient: cluster.on_cluster(
            tasks, partial(judge_scan, patient=patient), client, lambda task: task.name
        )


def _participants(tasks: Sequence[ScanTask], runner: Run, output: Path) -> Tally:
    make_folder(output)
    write_dataset_files(output)
    with progress_bar() as bar:
        progress = bar.add_task("scans", total=len(tasks))

        def tell(outcome: Outcome) -> None:
            bar.advance(progress)
            if outcome.status == "failed":
                bar.console.print(f"[red]failed:[/red] {escape(outcome.scan)}: {escape(outcome.reason)}")

        tally = run_cohort(tasks, runner, tell)
    err.print(escape(f"{tally} of {len(tasks)} scans -> {output}"))
    return tally


def _group(said: dict[str, Any], bids_dir: Path, output: Path, scans: Sequence[BidsScan], calibration: CalibrationSet) -> None:
    from veridice.group import describe_study, expected_failures, known_values, tabulate, without_shared_warnings, write_tables
    from veridice.report.cohort_page import write_group_report

    if not output.is_dir():
        raise InputError(f"{output}: no such folder; run the participant level first")
    table = tabulate(output, bids_dir, scans)
    write_tables(output, table)
    facts = {**describe_study(output, table), **said}
    # Another calibration than that of the judgements would speak of other predictions.
    if facts.get("calibration", {}).get("source") == calibration.source:
        facts["known_values"] = known_values(calibration, table, facts["min_dice"])
    shown, shared = without_shared_warnings(table.assign(status=table["status"].replace("missing", "failed")))
    # The page says by itself what the intervals rest on.
    shared = [text for text in shared if "rests on simulated" not in text]
    facts["notes"] = [*said["notes"], *(f"Of every scan: {text}." for text in shared)]
    try:
        write_group_report(shown, expected_failures(table), facts, output, output / "report.html")
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({error.strerror or error}); give a folder of yours") from error
    counts = Counter(table["verdict"].dropna())
    verdicts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("accept", "review", "reject"))
    absent = int((table["status"] != "done").sum())
    err.print(escape(f"{len(table)} scans: {verdicts}, {absent} without a judgement -> {output / 'report.html'}"))
