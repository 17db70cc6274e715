"""``run``: a whole BIDS data set, as BIDS-Apps are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from veridice.cli.common import (
    LABELS,
    Calibration,
    Coverage,
    Dataset,
    Derivatives,
    Device,
    Engine,
    FilterFile,
    MaskThreshold,
    MaxMissed,
    MaxWasted,
    Memory,
    MinDice,
    Participants,
    Passes,
    Processes,
    Registration,
    Seed,
    Sessions,
    SkipValidation,
    TaskName,
    Weights,
    err,
    inference_settings,
    one_of,
    out,
    progress_bar,
    read_mask_label,
)
from veridice.config import LESION, load_task

if TYPE_CHECKING:
    import pandas as pd

    from veridice.cohort.executor import Run, Tally
    from veridice.cohort.task import Outcome, ScanTask
    from veridice.io.bids_dataset import BidsScan

LEVELS = ("participant", "group")


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
    bids_dir: Dataset,
    output_dir: Derivatives,
    level: Annotated[str, typer.Argument(help="participant: judge every scan; group: table and report of all.")],
    participant_label: Participants = None,
    session_label: Sessions = None,
    bids_filter_file: FilterFile = None,
    skip_bids_validation: SkipValidation = False,
    masks: Annotated[
        str | None, typer.Option(help="DIR[:desc]: judge masks of another tool: BIDS derivatives, LST-AI, SAMSEG, nnU-Net.")
    ] = None,
    mask_threshold: MaskThreshold = None,
    mask_label: Annotated[str | None, typer.Option(help="As in check; SAMSEG's is known.")] = None,
    registration: Registration = True,
    n_jobs: Processes = None,
    mem_gb: Memory = None,
    scheduler: Annotated[str | None, typer.Option(help="Address of a running Dask scheduler (tcp://...).")] = None,
    slurm: Annotated[Path | None, typer.Option(help="TOML: start workers as Slurm jobs with these resources.")] = None,
    pbs: Annotated[Path | None, typer.Option(help="The same for PBS.")] = None,
    sge: Annotated[Path | None, typer.Option(help="The same for SGE.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
    task: TaskName = LESION.name,
    weights: Weights = None,
    passes: Passes = 20,
    seed: Seed = 0,
    min_dice: MinDice = None,
    max_missed: MaxMissed = 0.05,
    max_wasted: MaxWasted = 0.05,
    max_bad: Annotated[
        float, typer.Option(min=0.001, max=0.5, help="Group: of the masks accepted together, share that may be bad.")
    ] = 0.05,
    coverage: Coverage = 0.9,
    calibration: Calibration = None,
    device: Device = "auto",
    engine: Engine = "auto",
) -> None:
    """Judge every scan of a BIDS data set (participant), then rank them in one table and report (group)."""
    from veridice.assessment.check import Request
    from veridice.cohort.group import write_group
    from veridice.cohort.schedule import choose_processes, plan_tasks, refuse_same, say_absent
    from veridice.cohort.worklist import rating_doubts
    from veridice.io.bids_dataset import check_dataset, find_scans, read_filter, validate_dataset, without_scans
    from veridice.io.other_tools import find_masks
    from veridice.io.weight_cards import bundled_weights
    from veridice.quality.calibration import read_calibration
    from veridice.quality.model import CALIBRATION

    one_of(LEVELS, level, "level")
    # Workers elsewhere have working folders of their own.
    bids_dir, output_dir = bids_dir.absolute(), output_dir.absolute()
    weights, calibration = (path and path.absolute() for path in (weights, calibration))
    name = bids_dir.name if skip_bids_validation else check_dataset(bids_dir)
    chosen = read_filter(bids_filter_file) if bids_filter_file else None
    asked = load_task(task)
    scans = find_scans(bids_dir, participant_label or (), session_label or (), chosen, asked)
    refuse_same(bids_dir, output_dir)
    everything = not (participant_label or session_label or chosen)
    notes = say_absent(without_scans(bids_dir, scans) if everything else [])
    if level == "group":
        notes += rating_doubts(output_dir, scans)
    for note in notes:
        err.print(f"[yellow]warning:[/yellow] {escape(note)}")
    if level == "group":
        known = read_calibration(calibration or (weights or bundled_weights(asked.name)) / CALIBRATION)
        table = write_group(bids_dir, name, output_dir, scans, known, notes, max_bad)
        _print_group(table, output_dir)
        if asked.name == LESION.name:
            _between_visits(bids_dir, name, output_dir, scans, choose_processes(n_jobs, mem_gb))
        return
    settings = inference_settings(passes, seed, min_dice, max_missed, max_wasted, coverage, device, engine)
    reading = partial(Request, mask_threshold=mask_threshold, registration=registration, calibration=calibration, task=asked)
    folder = find_masks(masks, bids_dir, asked.target) if masks else None
    label = read_mask_label(mask_label)
    tasks = plan_tasks(scans, reading, folder, label, output_dir, weights or bundled_weights(asked.name), settings)
    if dry_run:
        _print_plan(tasks)
        return
    if not skip_bids_validation and (note := validate_dataset(bids_dir)):
        err.print(escape(note))
    queues = {"slurm": slurm, "pbs": pbs, "sge": sge}
    with _somewhere(scheduler, queues, choose_processes(n_jobs, mem_gb)) as runner:
        tally = judge_participants(tasks, runner, output_dir)
    raise typer.Exit(1 if tally.failed else 0)


def _print_plan(tasks: Sequence[ScanTask]) -> None:
    table = Table("scan", "T1w", "mask", "what")
    for task in tasks:
        request = task.request
        mask = ", ".join(path.name for path in request.masks) or ("own" if not task.problem else "none")
        what = task.problem or ("finished before" if task.is_finished() else "to be judged")
        table.add_row(escape(task.name), "yes" if request.t1 else "no", escape(mask), escape(what))
    out.print(table)


@contextmanager
def _somewhere(scheduler: str | None, queues: dict[str, Path | None], processes: tuple[int, int]) -> Iterator[Run]:
    """What runs the tasks: processes of this machine unless a cluster is named."""
    from veridice.cohort.task import judge_scan

    asked = {name: file for name, file in queues.items() if file is not None}
    if len(asked) + (scheduler is not None) > 1:
        raise typer.BadParameter("only one of them", param_hint="--scheduler, --slurm, --pbs, --sge")
    if scheduler is None and not asked:
        yield in_local_processes(*processes)
        return
    from veridice.cohort import cluster

    clients = [cluster.queued(one_of(tuple(cluster.QUEUES), name, "--slurm"), file) for name, file in asked.items()]
    with clients[0] if clients else cluster.connected(scheduler or "") as client:
        yield lambda tasks, patient: cluster.on_cluster(
            tasks, partial(judge_scan, patient=patient), client, lambda task: task.name
        )


def in_local_processes(jobs: int, threads: int) -> Run:
    """Runs tasks in processes of this machine."""
    from veridice.cohort.task import judge_scan
    from veridice.parallel import in_processes

    return lambda tasks, patient: in_processes(tasks, partial(judge_scan, patient=patient), jobs, threads)


def judge_participants(tasks: Sequence[ScanTask], runner: Run, output: Path) -> Tally:
    """Run the tasks of a study with a bar, and say what came of them."""
    from veridice.cohort.executor import run_cohort
    from veridice.io.atomic import make_folder
    from veridice.io.bids import write_dataset_files

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


def _between_visits(dataset: Path, name: str, output: Path, scans: Sequence[BidsScan], processes: tuple[int, int]) -> None:
    """What changed between the visits of each person; measured once, and stored."""
    from veridice.cohort.visits import measured_pair, order_of, visits_of, write_visits
    from veridice.parallel import ProcessDiedError, in_processes

    waiting = list(visits_of(output, scans, order_of(dataset, scans)))
    if not waiting:
        return
    pairs = []
    with progress_bar() as bar:
        task = bar.add_task("visits", total=len(waiting))
        for (first, second), result in in_processes(waiting, partial(measured_pair, output), *processes):
            bar.advance(task)
            if isinstance(result, ProcessDiedError):
                said = f"{first.scan.name} to {second.scan.name}: not compared, {result}"
                err.print(f"[yellow]warning:[/yellow] {escape(said)}")
            else:
                pairs.append(result)
    write_visits(output, name, sorted(pairs, key=lambda pair: (pair.participant, pair.first)))
    changed = sum(pair.more_than_noise for pair in pairs)
    err.print(escape(f"{len(pairs)} pairs of visits, {changed} with a change beyond noise -> {output / 'visits.html'}"))


def _print_group(table: pd.DataFrame, output: Path) -> None:
    from veridice.cohort.group import PAGE

    counts = Counter(table["verdict"].dropna())
    verdicts = ", ".join(f"{counts[verdict]} {verdict}" for verdict in ("accept", "review", "reject"))
    absent = int((table["status"] != "done").sum())
    together = int((table["study_verdict"] == "accept").sum())
    said = f"{len(table)} scans: {verdicts}, {absent} without a judgement; {together} accepted together -> {output / PAGE}"
    err.print(escape(said))
