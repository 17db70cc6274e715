"""``check``, ``demo``, ``calibrate``: one scan in, a verdict out."""

from __future__ import annotations

import json
import math
import sys
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from veridice.case import Assessment, plain_name
from veridice.cli.common import (
    DISCLAIMER,
    AsJson,
    Coverage,
    Device,
    Engine,
    MaskThreshold,
    MaxMissed,
    MaxWasted,
    MinDice,
    Output,
    Passes,
    Registration,
    Seed,
    TaskName,
    Weights,
    inference_settings,
    out,
    passes_bar,
    read_mask_label,
)
from veridice.config import LESION, InferenceSettings, load_task
from veridice.errors import InputError


def check(
    output: Output,
    flair: Annotated[
        Path | None, typer.Option(help="FLAIR, needed for lesions: .nii, .nii.gz, .mgz, or a folder with one DICOM series.")
    ] = None,
    t1: Annotated[Path | None, typer.Option(help="T1w, on any grid; better with it.")] = None,
    mask: Annotated[
        list[Path] | None,
        typer.Option(
            help="Lesion mask or probabilities in the FLAIR's or T1w's space, judged in place of ours; repeat to rank."
        ),
    ] = None,
    mask_threshold: MaskThreshold = None,
    mask_label: Annotated[
        str | None, typer.Option(help="Label of the lesions in a mask that has many (SAMSEG: 99), or all of them: all.")
    ] = None,
    brain_mask: Annotated[Path | None, typer.Option(help="Brain mask, in the FLAIR's or T1w's space.")] = None,
    registration: Registration = True,
    case: Annotated[str | None, typer.Option(help="Name of the case; taken from the FLAIR's file name when absent.")] = None,
    task: TaskName = LESION.name,
    weights: Weights = None,
    passes: Passes = 20,
    seed: Seed = 0,
    min_dice: MinDice = None,
    max_missed: MaxMissed = 0.05,
    max_wasted: MaxWasted = 0.05,
    coverage: Coverage = 0.9,
    calibration: Annotated[
        Path | None, typer.Option(help="calibration.json of your own (veridice calibrate); else the one that ships.")
    ] = None,
    device: Device = "auto",
    engine: Engine = "auto",
    shadow: Annotated[bool, typer.Option("--shadow", help="Also a map of what is surely in, surely out, and between.")] = False,
    as_json: AsJson = False,
) -> None:
    """Judge the segmentation of one scan: predicted Dice, verdict, maps of doubt, HTML report."""
    settings = inference_settings(passes, seed, min_dice, max_missed, max_wasted, coverage, device, engine)
    settings = settings.model_copy(update={"shadow": shadow})
    try:
        load_task(task).take(flair=flair, t1=t1)
    except InputError as error:
        raise typer.BadParameter(str(error)) from error
    files = {"flair": flair, "t1": t1, "mask": mask, "brain_mask": brain_mask}
    reading = {"mask_threshold": mask_threshold, "mask_label": read_mask_label(mask_label), "registration": registration}
    assessment = _check(output, weights, settings, **files, **reading, case=case, calibration=calibration, task=task)
    if as_json:
        sys.stdout.write(json.dumps(with_absolute_paths(assessment, output)) + "\n")
    else:
        print_assessment(assessment, output)


def demo(
    output: Output = Path("veridice-demo"),
    weights: Weights = None,
    passes: Passes = 20,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Judge the real scan that ships with veridice and, as its truth is known, show the true Dice beside."""
    from veridice.io.nifti import read_image, read_mask
    from veridice.metrics.overlap import dice

    scan = Path(str(resources.files("veridice") / "demo"))
    flair, truth_file = scan / "sub-lesjak19_FLAIR.nii.gz", scan / "sub-lesjak19_label-lesion_mask.nii.gz"
    settings = InferenceSettings(passes=passes, seed=seed)
    assessment = _check(output, weights, settings, flair=flair, t1=scan / "sub-lesjak19_T1w.nii.gz")
    grid = read_image(flair).geometry
    truth = read_mask(truth_file, grid).voxels
    own = read_mask(output / assessment.maps["lesion_mask"], grid).voxels
    true_dice = dice(own, truth).dice
    if as_json:
        sys.stdout.write(json.dumps({**with_absolute_paths(assessment, output), "true_dice": true_dice}) + "\n")
        return
    print_assessment(assessment, output, true_dice)
    out.print(
        "Scan: Lesjak et al. 2017 (doi:10.1007/s12021-017-9348-7), patient 19, CC-BY; no weights were trained on it.",
        style="dim",
    )


def calibrate(
    output: Annotated[Path, typer.Option("-o", "--output", help="The calibration, a JSON file for check --calibration.")],
    table: Annotated[
        Path | None, typer.Argument(help="CSV or TSV: assessment (*_veridice.json), truth (mask) or dice, patient.")
    ] = None,
    from_review: Annotated[
        Path | None, typer.Option(help="In place of a table: a study whose masks were corrected in veridice review.")
    ] = None,
    bids_dir: Annotated[Path | None, typer.Option(help="With --from-review: root of the BIDS data set.")] = None,
    source: Annotated[str, typer.Option(help="What the cases are, in words; every result will name it.")] = "own cases",
    min_dice: Annotated[float, typer.Option(min=0, max=1, help="Dice that a mask needs to be of use.")] = 0.75,
    max_missed: Annotated[
        float | None,
        typer.Option(min=0.001, max=0.5, help="Of the masks below it, share that may be accepted: refuse if too few."),
    ] = None,
    add_to_shipped: Annotated[
        float | None,
        typer.Option(min=0.1, max=1000, help="Add the cases to those that ship; each patient counts so many times."),
    ] = None,
) -> None:
    """Recalibrate interval and verdict on scans of your own whose truth you know."""
    from veridice.quality.decision import people_with_bad_masks
    from veridice.quality.recalibrate import recalibrate, recalibrate_rows

    if (table is None) == (from_review is None):
        raise typer.BadParameter("give either a table or --from-review", param_hint="TABLE, --from-review")
    if table:
        made, empty = recalibrate(table, output, source, min_dice, max_missed, add_to_shipped)
    else:
        place, rows = _reviewed(from_review or Path(), bids_dir)
        made, empty = recalibrate_rows(place, rows, output, source, min_dice, max_missed, add_to_shipped)
    out.print(escape(f"{made.n} cases of {made.patients} patients -> {output}"))
    bad = people_with_bad_masks(made, min_dice)
    least = math.ceil(100 / (bad + 1)) / 100
    out.print(f"{bad:g} patients have a mask below a Dice of {min_dice:g}; with them --max-missed may be {least:.2f} or more")
    if empty:
        out.print(f"{empty} empty masks left out: an empty mask gets no interval")
    if made.patients < made.n:
        out.print("[yellow]warning:[/yellow] several cases of one patient count as if they were of several")
    if from_review:
        text = "the promise holds for scans that are chosen as these were: correct, or confirm, a random part of the study too"
        out.print(f"[yellow]warning:[/yellow] {text}")


def _reviewed(study: Path, dataset: Path | None) -> tuple[Path, list[Any]]:
    """Corrected masks of a study as known cases, and a name beside which their files lie."""
    from veridice.review import FOLDER, calibration_rows, dataset_of, kept_open, open_study

    scans = open_study(study, dataset)
    with kept_open(study) as store:
        return study / FOLDER, calibration_rows(study, dataset or dataset_of(study), scans, store)


def _check(output: Path, weights: Path | None, settings: InferenceSettings, **scan: Any) -> Assessment:
    """``veridice.check`` with a bar; ``scan`` are its further arguments."""
    from veridice.assessment.check import check as check_scan

    with passes_bar(settings.passes) as on_step:
        return check_scan(**scan, output=output, models=weights, settings=settings, on_step=on_step).assessment


def with_absolute_paths(assessment: Assessment, output: Path) -> dict[str, Any]:
    row = assessment.model_dump(mode="json")
    for kind in ("maps", "tables"):
        row[kind] = {name: str((output / file).resolve()) for name, file in row[kind].items()}
    return row


VERDICT_STYLES = {"accept": "bold green", "review": "bold yellow", "reject": "bold red"}


def print_assessment(assessment: Assessment, output: Path, true_dice: float | None = None) -> None:
    table = Table(title=escape(assessment.case), title_justify="left", show_header=False, min_width=60)
    style = VERDICT_STYLES[assessment.verdict]
    table.add_row("verdict", f"[{style}]{assessment.verdict}[/{style}]")
    table.add_row("predicted Dice", f"{assessment.predicted_dice:.3f}  {_interval(assessment)}")
    if assessment.quality_class:
        chances = ", ".join(f"{name} {chance:.0%}" for name, chance in reversed(assessment.quality_chances.items()))
        table.add_row("quality", f"{assessment.quality_class}  ({chances})")
    if true_dice is not None:
        table.add_row("true Dice", f"{true_dice:.3f}  (known here; FLAIR's own grid)")
    table.add_row("agreement among passes", f"{assessment.scores['pairwise_dice']:.3f}")
    table.add_row(f"{assessment.task.target} volume", _volume(assessment))
    table.add_row("entropy, voxel-wise sum", f"{assessment.scores['entropy_sum']:.0f} bit")
    table.add_row("seconds", f"{assessment.seconds['total']:.1f}")
    out.print(table)
    for warning in assessment.warnings:
        out.print(f"[yellow]warning:[/yellow] {escape(warning)}")
    if assessment.ranking:
        _print_ranking(assessment)
    from veridice.io.bids import REPORT_SUFFIX, file_stem

    report = output / f"{file_stem(assessment.case)}{REPORT_SUFFIX}"
    out.print(f"report: {escape(plain_name(str(report)))}\nmaps:   {escape(plain_name(str(output)))}\n{DISCLAIMER}")


def _volume(assessment: Assessment) -> str:
    task, volumes = assessment.task, assessment.volumes_ml
    if task.scattered:
        return f"{volumes['judged_mask']:.1f} ml in {assessment.scores['lesion_count']:.0f} {task.target}s"
    parts = ", ".join(f"{name} {volumes[f'judged_{name}']:.2f}" for name in task.parts)
    return f"{volumes['judged_mask']:.2f} ml{f' ({parts})' if parts else ''}"


def _interval(assessment: Assessment) -> str:
    if assessment.interval is None or assessment.coverage is None:
        return ""
    low, high = assessment.interval
    return f"({low:.2f} to {high:.2f}, coverage {assessment.coverage:.0%})"


def _print_ranking(assessment: Assessment) -> None:
    table = Table("mask", "predicted Dice", "verdict", "ml", "with passes", "with others", title="Masks, the best first")
    for row in assessment.ranking:
        low, high = row.interval
        numbers = [f"{row.volume_ml:.1f}", f"{row.agreement_with_passes:.3f}", f"{row.agreement_with_others:.3f}"]
        table.add_row(escape(row.mask), f"{row.predicted_dice:.3f} ({low:.2f} to {high:.2f})", row.verdict, *numbers)
    out.print(table)
