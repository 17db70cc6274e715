"""The command line: the only place for argv, printing and exit codes."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import sys
import warnings
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from veridice._version import __version__
from veridice.case import Assessment, plain_name
from veridice.checking import Request
from veridice.checking import check as check_files
from veridice.config import LARGEST_SEED, InferenceSettings, load_training_settings, on_whole_cubes, with_steps, without_group
from veridice.errors import InputError, VeridiceError
from veridice.io.bids import REPORT_SUFFIX, case_name, file_stem, held
from veridice.io.datasets import read_manifest
from veridice.io.nifti import read_image, read_mask
from veridice.networks.weights import NAMES, WeightKind, bundled_weights, read_card, verify
from veridice.overlap import dice

EXIT_INTERNAL, EXIT_INPUT, EXIT_INTERRUPTED = 1, 3, 130
DISCLAIMER = "Research use only; not a medical device."

app = typer.Typer(
    help=f"Can this lesion mask be trusted? {DISCLAIMER}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)

Output = Annotated[Path, typer.Option("-o", "--output", help="Folder for maps, result and report; made when absent.")]
Weights = Annotated[Path | None, typer.Option(help="Folder of weights and cards; the ones that ship when absent.")]
Passes = Annotated[int, typer.Option(min=2, max=1000, help="Stochastic passes.")]
Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="The same scan and seed give the same answer.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Engine = Annotated[str, typer.Option(help="auto, openvino or torch: what runs the stochastic passes.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else.")]


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if show:
        typer.echo(f"veridice {__version__}")
        raise typer.Exit


@app.command()
def check(
    flair: Annotated[Path, typer.Option(help="FLAIR: .nii, .nii.gz, .mgz, or a folder with one DICOM series.")],
    output: Output,
    t1: Annotated[Path | None, typer.Option(help="T1w, on any grid; better with it.")] = None,
    mask: Annotated[
        list[Path] | None,
        typer.Option(
            help="Lesion mask or probabilities on the FLAIR's or T1w's grid, judged in place of ours; repeat to rank."
        ),
    ] = None,
    mask_threshold: Annotated[
        float | None, typer.Option(help="Voxels from this value on are the mask; else probabilities from 0.5.")
    ] = None,
    brain_mask: Annotated[Path | None, typer.Option(help="Brain mask on the FLAIR's or T1w's grid.")] = None,
    registration: Annotated[bool, typer.Option(help="Register a T1w that does not lie on the FLAIR.")] = True,
    case: Annotated[str | None, typer.Option(help="Name of the case; taken from the FLAIR's file name when absent.")] = None,
    weights: Weights = None,
    passes: Passes = 20,
    seed: Seed = 0,
    min_dice: Annotated[float, typer.Option(min=0, max=1, help="Dice that a mask needs to be of use.")] = 0.75,
    coverage: Annotated[float, typer.Option(min=0.5, max=0.99, help="Of the interval of the true Dice.")] = 0.9,
    calibration: Annotated[
        Path | None, typer.Option(help="calibration.json of your own (veridice calibrate); else the one that ships.")
    ] = None,
    device: Device = "auto",
    engine: Engine = "auto",
    as_json: AsJson = False,
) -> None:
    """Judge the lesion segmentation of one scan: predicted Dice, verdict, maps of doubt, HTML report."""
    settings = InferenceSettings(
        passes=passes,
        seed=seed,
        min_dice=min_dice,
        coverage=coverage,
        device=_one_of(("auto", "cpu", "cuda"), device, "--device"),
        engine=_one_of(("auto", "openvino", "torch"), engine, "--engine"),
    )
    if mask_threshold is not None and not math.isfinite(mask_threshold):
        raise typer.BadParameter(f"{mask_threshold} is no number to cut at", param_hint="--mask-threshold")
    request = Request(
        plain_name(case or case_name(flair)), flair, t1, brain_mask, mask or (), mask_threshold, registration, calibration
    )
    assessment = _check(request, output, weights, settings)
    if as_json:
        sys.stdout.write(json.dumps(_with_absolute_paths(assessment, output)) + "\n")
    else:
        _print_assessment(assessment, output)


@app.command()
def demo(
    output: Output = Path("veridice-demo"),
    weights: Weights = None,
    passes: Passes = 20,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Judge the real scan that ships with veridice and, as its truth is known, show the true Dice beside."""
    scan = Path(str(resources.files("veridice") / "demo"))
    flair, truth_file = scan / "sub-lesjak19_FLAIR.nii.gz", scan / "sub-lesjak19_label-lesion_mask.nii.gz"
    settings = InferenceSettings(passes=passes, seed=seed)
    request = Request(case_name(flair), flair, scan / "sub-lesjak19_T1w.nii.gz")
    assessment = _check(request, output, weights, settings)
    grid = read_image(flair).geometry
    truth = read_mask(truth_file, grid).voxels
    own = read_mask(output / assessment.maps["lesion_mask"], grid).voxels
    true_dice = dice(own, truth).dice
    if as_json:
        sys.stdout.write(json.dumps({**_with_absolute_paths(assessment, output), "true_dice": true_dice}) + "\n")
        return
    _print_assessment(assessment, output, true_dice)
    out.print(
        "Scan: Lesjak et al. 2017 (doi:10.1007/s12021-017-9348-7), patient 19, CC-BY; no weights were trained on it.",
        style="dim",
    )


@app.command()
def calibrate(
    table: Annotated[Path, typer.Argument(help="CSV or TSV: assessment (*_veridice.json), truth (mask) or dice, patient.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The calibration, a JSON file for check --calibration.")],
    source: Annotated[str, typer.Option(help="What the cases are, in words; every result will name it.")] = "own cases",
    min_dice: Annotated[float, typer.Option(min=0, max=1, help="Dice that a mask needs to be of use.")] = 0.75,
    accepted_share: Annotated[
        float | None, typer.Option(min=0.5, max=0.99, help="Of the accepted scans that shall have it, with 90 % confidence.")
    ] = None,
) -> None:
    """Recalibrate interval and verdict on scans of your own whose truth you know."""
    from veridice.recalibrate import recalibrate

    made = recalibrate(table, output, source, min_dice, accepted_share)
    rule = f"; accepted from a predicted Dice of {made.accept.threshold:.3f}" if made.accept else ""
    out.print(escape(f"{made.n} cases of {made.patients} patients{rule} -> {output}"))
    if made.patients < made.n:
        out.print("[yellow]warning:[/yellow] several cases of one patient count as if they were of several")


@app.command()
def simulate(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the BIDS data set; new, or resumed.")],
    patients: Annotated[int | None, typer.Option("-n", min=1, max=100_000, help="How many; else the cohort's.")] = None,
    cohort: Annotated[str, typer.Option(help="test, test-ordinary, paper-sim, training or validation.")] = "test",
    seed: Annotated[int | None, typer.Option(min=0, max=LARGEST_SEED, help="Another seed than the cohort's.")] = None,
    severity: Annotated[str | None, typer.Option(help="Only easy, ordinary, hard or broken ones.")] = None,
    scanner: Annotated[str | None, typer.Option(help="Only this row of the paper's Table 3, or any.")] = None,
    donors: Annotated[
        str | None, typer.Option(help="Whose brains and lesions: reserved, training, validation, or people with commas.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Processes.")] = 2,
) -> None:
    """Simulate a BIDS data set of FLAIR and T1w scans with true lesion masks; interrupt and resume at will."""
    from veridice.simulate.cohort import custom_cohort, write_cohort

    chosen = custom_cohort(cohort, seed, donors, severity, scanner)
    count = patients or chosen.patients
    with _pass_bar() as bar:
        task = bar.add_task("simulated patients", total=count)
        write_cohort(output, chosen, count, jobs, lambda: bar.advance(task))
    err.print(escape(f"{count} simulated patients of cohort '{chosen.name}', seed {chosen.seed} -> {output}"))


@app.command()
def train(
    network: Annotated[
        WeightKind, typer.Argument(help="brain, segmenter, reconstructor, regressor, predictor, in this order.")
    ],
    config: Annotated[str, typer.Option(help="TOML file, or a shipped one: default, paper.")] = "default",
    manifest: Annotated[
        str | None, typer.Option(help="CSV: id, patient, split, flair, t1, mask, ...; else the configuration's.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Folder the manifest's files are relative to; else the configuration's.")
    ] = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder of checkpoints and weights; resumed when there.")
    ] = Path("runs/default"),
    start: Annotated[Path | None, typer.Option(help="Folder of weights to start from; not for the regressor.")] = None,
    leave_out: Annotated[
        int | None, typer.Option(min=0, help="Donor group to leave out; goes to OUTPUT/fold-G, for the regressors.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimiser steps; else the configuration's.")] = None,
    whole_cubes: Annotated[
        bool, typer.Option("--whole-cubes", help="No patches: whole cubes, one a step, as the end of a training with --start.")
    ] = False,
) -> None:
    """Train one network; interrupt it with Ctrl-C and give the same command again to go on."""
    from veridice import judge_recipes, recipes

    settings = load_training_settings(config)
    if (network == "brain") != (settings.data.target == "brain"):
        raise InputError(
            f"configuration '{config}' teaches to mark the {settings.data.target}; use --config brain for the brain"
        )
    table, root = manifest or settings.data.manifest, data or settings.data.root
    if bool(table) != bool(root):
        raise InputError("real scans need both --manifest and --data (or manifest and root under [data] in the TOML)")
    if not table and not settings.data.simulated_patients:
        raise InputError("no training data: give --manifest and --data, or simulated_patients under [data] in the TOML")
    cases = read_manifest(Path(table), Path(root)) if table and root else []
    if network == "predictor" and (steps is not None or leave_out is not None):
        raise typer.BadParameter("the predictor has no steps and leaves nobody out", param_hint="--steps, --leave-out")
    if leave_out is not None:
        settings, output = without_group(settings, leave_out), output / f"fold-{leave_out}"
    if steps is not None:
        settings = with_steps(settings, "segmenter" if network == "brain" else network, steps)
    if whole_cubes and network in ("regressor", "predictor"):
        raise typer.BadParameter(f"the {network} sees no patches", param_hint="--whole-cubes")
    if start is not None and network in ("regressor", "predictor"):
        raise typer.BadParameter(f"the {network} always begins anew", param_hint="--start")
    if whole_cubes:
        settings = on_whole_cubes(settings, "segmenter" if network == "brain" else network)
    run, weights = output / network, output / "weights"
    # Further processes of the same training, one for each further GPU, run this command too.
    with held(run) if os.environ.get("LOCAL_RANK", "0") == "0" else contextlib.nullcontext():
        if network == "predictor":
            cards = judge_recipes.train_predictor(settings, cases, output, weights)
        elif network == "regressor":
            cards = recipes.train_regressors(settings, cases, run, weights)
        else:
            recipe = recipes.train_reconstructor if network == "reconstructor" else recipes.train_segmenter
            cards = recipe(settings, cases, run, weights, start)
    for card in cards:
        metrics = ", ".join(f"{name} {value:.3f}" for name, value in card.metrics.items())
        err.print(escape(f"{card.name}: {metrics} on the validation split -> {output / 'weights'}"))


@app.command()
def experiment(
    config: Annotated[str, typer.Argument(help="TOML file, or a shipped one: laptop, paper.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Everything goes here; given again, it goes on.")],
    data: Annotated[Path | None, typer.Option(help="What the folders of the sources are relative to.")] = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Processes that simulate.")] = 2,
) -> None:
    """The paper's experiment: which quality score finds the failed segmentations? Five folds, resumable."""
    from veridice.experiment.protocol import load_experiment
    from veridice.experiment.run import run_experiment

    results = run_experiment(load_experiment(config, data), output, jobs, lambda line: err.print(escape(line)))
    err.print(escape(f"tables and figures -> {results}"))


@app.command()
def models(
    check_sums: Annotated[bool, typer.Option("--verify", help="Check every file against its card.")] = False,
    weights: Weights = None,
) -> None:
    """Which weights are there, what they were trained on, and whether they are intact."""
    folder = weights or bundled_weights()
    for name in (*NAMES, "predictor"):
        card = verify(folder, name) if check_sums else read_card(folder, name)
        metrics = ", ".join(f"{key} {value:.3f}" for key, value in card.metrics.items())
        made = f"configuration {card.configuration}, cube {card.grid}, {card.best_step} steps, {card.created}"
        out.print(f"[bold]{escape(name)}[/bold]  {escape(made)}")
        out.print(escape(f"  validation: {metrics}"))
        out.print(escape(f"  sha256 {card.sha256}{' (intact)' if check_sums else ''}"))
    out.print(escape(f"Trained on: {card.data}"), style="dim")


def _one_of(known: tuple[str, ...], value: str, option: str) -> Any:
    if value not in known:
        raise typer.BadParameter(f"'{value}' is none of {', '.join(known)}", param_hint=option)
    return value


def _check(request: Request, output: Path, weights: Path | None, settings: InferenceSettings) -> Assessment:
    bar = _pass_bar()
    task = bar.add_task("stochastic passes", total=settings.passes)

    def tick() -> None:
        bar.start()  # not before: what is wrong with a file is said on a line of its own
        bar.advance(task)

    try:
        return check_files(request, output, weights or bundled_weights(), settings, tick)
    finally:
        bar.stop()


def _with_absolute_paths(assessment: Assessment, output: Path) -> dict[str, Any]:
    row = assessment.model_dump(mode="json")
    for kind in ("maps", "tables"):
        row[kind] = {name: str((output / file).resolve()) for name, file in row[kind].items()}
    return row


VERDICT_STYLES = {"accept": "bold green", "review": "bold yellow", "reject": "bold red"}


def _print_assessment(assessment: Assessment, output: Path, true_dice: float | None = None) -> None:
    table = Table(title=escape(assessment.case), title_justify="left", show_header=False, min_width=60)
    style = VERDICT_STYLES[assessment.verdict]
    table.add_row("verdict", f"[{style}]{assessment.verdict}[/{style}]")
    table.add_row("predicted Dice", f"{assessment.predicted_dice:.3f}  {_interval(assessment)}")
    if true_dice is not None:
        table.add_row("true Dice", f"{true_dice:.3f}  (known here; FLAIR's own grid)")
    table.add_row("agreement among passes", f"{assessment.scores['pairwise_dice']:.3f}")
    table.add_row(
        "lesion volume", f"{assessment.volumes_ml['judged_mask']:.1f} ml in {assessment.scores['lesion_count']:.0f} lesions"
    )
    table.add_row("entropy, voxel-wise sum", f"{assessment.scores['entropy_sum']:.0f} bit")
    table.add_row("seconds", f"{assessment.seconds['total']:.1f}")
    out.print(table)
    for warning in assessment.warnings:
        out.print(f"[yellow]warning:[/yellow] {escape(warning)}")
    if assessment.ranking:
        _print_ranking(assessment)
    report = output / f"{file_stem(assessment.case)}{REPORT_SUFFIX}"
    out.print(f"report: {escape(plain_name(str(report)))}\nmaps:   {escape(plain_name(str(output)))}\n{DISCLAIMER}")


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


def _pass_bar() -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, transient=True)


def main() -> None:
    """Run the command line; every ending has its exit code and no traceback."""
    # What libraries deprecate is our business, not the user's.
    warnings.simplefilter("ignore")
    # nibabel logs what it thinks of a header; what matters of it is said by our own messages.
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; ``VERIDICE_DEBUG=1`` shows the traceback of an internal error."""
    try:
        app(arguments, prog_name="veridice")
        return 0
    except SystemExit as ending:  # typer ends every command so: 0, 2 for wrong usage, 130 for Ctrl-C
        if ending.code == EXIT_INTERRUPTED:
            return _fail("interrupted; nothing half-written was left", EXIT_INTERRUPTED)
        return ending.code if isinstance(ending.code, int) else 0
    except VeridiceError as error:
        return _fail(str(error), EXIT_INPUT)
    except Exception as error:  # the last line of defence: one line instead of a traceback
        if os.environ.get("VERIDICE_DEBUG"):
            raise
        return _fail(
            f"internal error, please report it ({type(error).__name__}: {error}); VERIDICE_DEBUG=1 shows where", EXIT_INTERNAL
        )


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"veridice: {plain_name(' '.join(message.split()))}\n")
    return code
