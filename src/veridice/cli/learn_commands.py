"""``simulate``, ``train``, ``experiment``, ``models``: what makes the weights and tests the methods."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.markup import escape

from veridice.cli.common import TaskName, Weights, err, interrupted_after, out, progress_bar
from veridice.config import LARGEST_SEED, LESION, load_task
from veridice.errors import InputError
from veridice.io.weight_cards import bundled_weights, names_in, read_card, verify

TrainedKind = Literal["brain", "segmenter", "reconstructor", "regressor", "predictor"]
"""What ``veridice train`` makes; other networks learn in experiments, or in the background."""


def simulate(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the BIDS data set; new, or resumed.")],
    patients: Annotated[int | None, typer.Option("-n", min=1, max=100_000, help="How many; else the cohort's.")] = None,
    cohort: Annotated[str, typer.Option(help="test, test-ordinary, paper-sim, training, validation or many-brains.")] = "test",
    seed: Annotated[int | None, typer.Option(min=0, max=LARGEST_SEED, help="Another seed than the cohort's.")] = None,
    severity: Annotated[str | None, typer.Option(help="Only easy, ordinary, hard or broken ones.")] = None,
    scanner: Annotated[str | None, typer.Option(help="Only this row of the paper's Table 3, or any.")] = None,
    donors: Annotated[
        str | None, typer.Option(help="Whose brains and lesions: reserved, training, validation, or people with commas.")
    ] = None,
    visits: Annotated[
        int, typer.Option(min=1, max=20, help="Of each patient; the lesions of every second patient change between them.")
    ] = 1,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Processes.")] = 2,
) -> None:
    """Simulate a BIDS data set of FLAIR and T1w scans with true lesion masks; interrupt and resume at will."""
    from veridice.simulate.cohorts import custom_cohort, write_cohort

    chosen = custom_cohort(cohort, seed, donors, severity, scanner)
    count = patients or chosen.patients
    with progress_bar() as bar:
        task = bar.add_task("simulated scans", total=count * visits)
        write_cohort(output, chosen, count, jobs, lambda: bar.advance(task), visits)
    err.print(escape(f"{count} simulated patients of cohort '{chosen.name}', seed {chosen.seed} -> {output}"))


def train(
    network: Annotated[
        TrainedKind, typer.Argument(help="brain, segmenter, reconstructor, regressor, predictor, in this order.")
    ],
    config: Annotated[
        str | None, typer.Option(help="TOML file, or a shipped one by name, as default or paper; else the task's.")
    ] = None,
    task: TaskName = LESION.name,
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
    from veridice.io.atomic import held
    from veridice.io.datasets import read_manifest
    from veridice.training import quality_model, regressors, unets
    from veridice.training.settings import load_training_settings, on_whole_cubes, with_steps, without_group

    config = config or load_task(task).training
    settings = load_training_settings(config)
    if task != LESION.name and load_task(task) != settings.data.task:
        raise InputError(f"configuration '{config}' is for task '{settings.data.target}', not for '{task}'; name one of them")
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
            cards = quality_model.train_predictor(settings, cases, output, weights)
        elif network == "regressor":
            cards = regressors.train_regressors(settings, cases, run, weights)
        else:
            recipe = unets.train_reconstructor if network == "reconstructor" else unets.train_segmenter
            cards = recipe(settings, cases, run, weights, start)
    for card in cards:
        metrics = ", ".join(f"{name} {value:.3f}" for name, value in card.metrics.items())
        err.print(escape(f"{card.name}: {metrics} on the validation split -> {output / 'weights'}"))


def experiment(
    output: Annotated[Path, typer.Option("-o", "--output", help="Everything goes here; given again, it goes on.")],
    config: Annotated[
        str | None, typer.Argument(help="TOML file, or a shipped one: laptop, paper, real-10; else the task's.")
    ] = None,
    task: TaskName = LESION.name,
    data: Annotated[Path | None, typer.Option(help="What the folders of the sources are relative to.")] = None,
    jobs: Annotated[int, typer.Option(min=1, max=256, help="Processes that simulate.")] = 2,
    methods: Annotated[
        str, typer.Option(help="Some methods of the ladder, with commas between; volume and training_mean are always there.")
    ] = "",
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Stop after so many and say how far it came, as Ctrl-C does.")
    ] = None,
) -> None:
    """The paper's experiment: which quality score finds the failed segmentations? Five folds, resumable."""
    from veridice.experiment.protocol import load_experiment
    from veridice.experiment.reached import how_far
    from veridice.experiment.run import run_experiment

    asked = [name.strip() for name in methods.split(",") if name.strip()]
    if methods and not asked:
        raise typer.BadParameter("name at least one method", param_hint="--methods")
    settings = load_experiment(config or load_task(task).experiment, data, asked)
    try:
        with interrupted_after(minutes):
            results = run_experiment(settings, output, jobs, lambda line: err.print(escape(line)))
    except KeyboardInterrupt:
        err.print(escape(how_far(output, settings.folds)))
        raise
    err.print(escape(f"tables and figures -> {results}"))


def models(
    check_sums: Annotated[bool, typer.Option("--verify", help="Check every file against its card.")] = False,
    weights: Weights = None,
    task: TaskName = LESION.name,
) -> None:
    """Which weights are there, what they were trained on, and whether they are intact."""
    folder = weights or bundled_weights(task)
    for name in (*names_in(folder, task), "predictor"):
        card = verify(folder, name) if check_sums else read_card(folder, name)
        metrics = ", ".join(f"{key} {value:.3f}" for key, value in card.metrics.items())
        made = f"configuration {card.configuration}, cube {card.grid}, {card.best_step} steps, {card.created}"
        out.print(f"[bold]{escape(name)}[/bold]  {escape(made)}")
        out.print(escape(f"  validation: {metrics}"))
        out.print(escape(f"  sha256 {card.sha256}{' (intact)' if check_sums else ''}"))
    if check_sums:
        from veridice.quality.model import verified_calibration

        verified_calibration(folder, card)
    out.print(escape(f"Trained on: {card.data}"), style="dim")
