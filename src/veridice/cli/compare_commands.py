"""``compare``: which of several tools a study should use."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from veridice.cli.common import (
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
    Weights,
    inference_settings,
    one_of,
    out,
    read_mask_label,
)
from veridice.cli.study_commands import in_local_processes, judge_participants

if TYPE_CHECKING:
    from veridice.quality.tool_order import Pair

SELECTIONS = ("best", "consensus")


def compare(
    bids_dir: Dataset,
    output_dir: Derivatives,
    masks: Annotated[list[str], typer.Option(help="[NAME=]DIR[:desc]: masks of a tool, as in run; once for each tool.")],
    own: Annotated[bool, typer.Option(help="Compare our own masks too.")] = True,
    select: Annotated[
        list[str] | None, typer.Option(help="Write a mask of each scan: best, consensus; may be given twice.")
    ] = None,
    error_rate: Annotated[
        float, typer.Option(min=0.001, max=0.5, help="Of all statements together: chance that one is wrong.")
    ] = 0.05,
    participant_label: Participants = None,
    session_label: Sessions = None,
    bids_filter_file: FilterFile = None,
    skip_bids_validation: SkipValidation = False,
    mask_threshold: MaskThreshold = None,
    mask_label: Annotated[str | None, typer.Option(help="As in check, for all tools; SAMSEG's is known.")] = None,
    registration: Registration = True,
    n_jobs: Processes = None,
    mem_gb: Memory = None,
    weights: Weights = None,
    passes: Passes = 20,
    seed: Seed = 0,
    min_dice: MinDice = None,
    max_missed: MaxMissed = 0.05,
    max_wasted: MaxWasted = 0.05,
    coverage: Coverage = 0.9,
    calibration: Calibration = None,
    device: Device = "auto",
    engine: Engine = "auto",
) -> None:
    """Judge the masks of several tools on every scan of a BIDS data set, and say which are better."""
    from veridice.assessment.check import Request
    from veridice.assessment.compare import OWN_TOOL
    from veridice.cohort.schedule import choose_processes, name_tools, plan_comparison, refuse_same
    from veridice.cohort.tool_table import PAGE, write_comparison
    from veridice.io.bids_dataset import check_dataset, find_scans, read_filter
    from veridice.io.other_tools import find_masks
    from veridice.io.weight_cards import bundled_weights

    chosen = [one_of(SELECTIONS, text, "--select") for text in select or ()]
    bids_dir, output_dir = bids_dir.absolute(), output_dir.absolute()
    weights, calibration = (path and path.absolute() for path in (weights, calibration))
    name = bids_dir.name if skip_bids_validation else check_dataset(bids_dir)
    filters = read_filter(bids_filter_file) if bids_filter_file else None
    scans = find_scans(bids_dir, participant_label or (), session_label or (), filters)
    refuse_same(bids_dir, output_dir)
    folders = {tool: find_masks(text, bids_dir) for tool, text in name_tools(masks).items()}
    settings = inference_settings(passes, seed, min_dice, max_missed, max_wasted, coverage, device, engine)
    reading = partial(Request, registration=registration, calibration=calibration, mask_threshold=mask_threshold)
    label = read_mask_label(mask_label)
    tasks = plan_comparison(scans, reading, folders, label, own, chosen, output_dir, weights or bundled_weights(), settings)
    tally = judge_participants(tasks, in_local_processes(*choose_processes(n_jobs, mem_gb)), output_dir)
    tools = [*folders, *([OWN_TOOL] if own else [])]
    checksums = {task.request.case: task.checksum for task in tasks}
    _print(*write_comparison(bids_dir, name, output_dir, scans, tools, checksums, error_rate), output_dir / PAGE)
    raise typer.Exit(1 if tally.failed else 0)


def _print(summary: Sequence[dict[str, Any]], pairs: Sequence[Pair], page: Path) -> None:
    table = Table("tool", "predicted Dice", "masks", "accepted", "empty", "absent", title="Tools, the best first")
    for row in summary:
        mean = f"{row['mean']:.3f}" if row["people"] else "none"
        mean += f" ({row['low']:.3f} to {row['high']:.3f})" if row["low"] == row["low"] else ""
        accepted = f"{row['accepted']:.0%}" if row["people"] else ""
        table.add_row(escape(row["tool"]), mean, str(row["scans"]), accepted, str(row["empty"]), str(row["absent"]))
    out.print(table)
    for pair in pairs:
        if pair.statement != "undecided":
            better, worse = (pair.first, pair.second) if pair.statement == "better" else (pair.second, pair.first)
            out.print(escape(f"{better} is better than {worse} (by {abs(pair.difference):.3f}, p {pair.p_value:.3f})"))
    undecided = sum(pair.statement == "undecided" for pair in pairs)
    out.print(escape(f"{undecided} of {len(pairs)} pairs are undecided. Page: {page}"))
