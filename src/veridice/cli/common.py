"""What the commands share: options, printing, the progress bar."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from veridice import progress
from veridice.config import LARGEST_SEED, InferenceSettings
from veridice.errors import InputError

if TYPE_CHECKING:
    from veridice.io.mask_values import MaskLabel

DISCLAIMER = "Research use only; not a medical device."

out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)


def _finite(value: float | None) -> float | None:
    if value is not None and not math.isfinite(value):
        raise typer.BadParameter(f"{value} is no number to cut at")
    return value


Output = Annotated[Path, typer.Option("-o", "--output", help="Folder for maps, result and report; made when absent.")]
Weights = Annotated[Path | None, typer.Option(help="Folder of weights and cards; the ones that ship when absent.")]
Passes = Annotated[int, typer.Option(min=2, max=1000, help="Stochastic passes.")]
Seed = Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="The same scan and seed give the same answer.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
Engine = Annotated[str, typer.Option(help="auto, openvino or torch: what runs the stochastic passes.")]
MinDice = Annotated[
    str | None,
    typer.Option(
        metavar="DICE",
        help="Dice that a mask needs to be of use, else 0.75; 'second-expert': as much as a second expert would reach.",
    ),
]
MaxMissed = Annotated[float, typer.Option(min=0.001, max=0.5, help="Of the masks below it, share that may be accepted.")]
MaxWasted = Annotated[float, typer.Option(min=0.001, max=0.5, help="Of the masks at or above it, share that may be rejected.")]
Coverage = Annotated[float, typer.Option(min=0.5, max=0.99, help="Of the interval of the true Dice.")]
Calibration = Annotated[Path | None, typer.Option(help="calibration.json of your own; else the one that ships.")]
MaskThreshold = Annotated[
    float | None,
    typer.Option(callback=_finite, help="Voxels of a mask from this value on belong to it; else probabilities from 0.5."),
]
TaskName = Annotated[str, typer.Option("--task", help="What is segmented: lesion, hippocampus, or the TOML file of a task.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, nothing else.")]

# Of the commands that take a whole study.
LABELS = (("--participant-label", "--participant_label"), ("--session-label", "--session_label"))
Dataset = Annotated[Path, typer.Argument(help="Root of the BIDS data set.")]
Derivatives = Annotated[Path, typer.Argument(help="Folder of derivatives; made when absent, gone on with when not.")]
Participants = Annotated[list[str] | None, typer.Option(*LABELS[0], help="Only these, with or without sub-.")]
Sessions = Annotated[list[str] | None, typer.Option(*LABELS[1], help="Only these, with or without ses-.")]
FilterFile = Annotated[Path | None, typer.Option(help="JSON that chooses files: flair, t1w.")]
SkipValidation = Annotated[bool, typer.Option("--skip-bids-validation", help="Take the folder as it is.")]
Registration = Annotated[bool, typer.Option(help="Register a T1w that does not lie on the FLAIR.")]
Processes = Annotated[int | None, typer.Option(min=1, max=512, help="Processes; else one a processor, as memory allows.")]
Memory = Annotated[float | None, typer.Option(min=1, help="Memory to stay below; fewer processes if need be.")]


@contextmanager
def interrupted_after(minutes: float | None) -> Iterator[None]:
    """What is done inside is interrupted after so many minutes, as by Ctrl-C; None: never."""
    if minutes is None:
        yield
        return
    before = signal.getsignal(signal.SIGALRM)
    if before is signal.SIG_DFL:  # inside another program; the command line has an answer of its own
        signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 60 * minutes)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def one_of(known: tuple[str, ...], value: str, option: str) -> Any:
    """``value``, which is one of ``known``.

    Raises:
        typer.BadParameter: it is none.
    """
    if value not in known:
        raise typer.BadParameter(f"'{value}' is none of {', '.join(known)}", param_hint=option)
    return value


def from_extra(module: str, command: str, mend: str) -> ModuleType:
    """A module that needs libraries of an extra.

    Args:
        module: its name.
        command: that needs it, for the message.
        mend: how the libraries come.

    Raises:
        InputError: one of them is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("veridice"):
            raise
        raise InputError(f"{command} needs {error.name}: {mend}") from error


def read_mask_label(text: str | None) -> MaskLabel | None:
    """The option ``--mask-label``: a whole number, or ``all``.

    Raises:
        typer.BadParameter: it is neither.
    """
    if text is None or text == "all":
        return "all" if text else None
    try:
        return int(text)
    except ValueError as error:
        raise typer.BadParameter(f"'{text}' is neither a whole number nor 'all'", param_hint="--mask-label") from error


def inference_settings(
    passes: int,
    seed: int,
    min_dice: str | None,
    max_missed: float,
    max_wasted: float,
    coverage: float,
    device: str,
    engine: str,
) -> InferenceSettings:
    """Settings of a judgement from options.

    Raises:
        typer.BadParameter: device or engine is none that there is, or the needed Dice is no number from 0 to 1.
    """
    return InferenceSettings(
        passes=passes,
        seed=seed,
        min_dice=_needed_dice(min_dice),
        max_missed=max_missed,
        max_wasted=max_wasted,
        coverage=coverage,
        device=one_of(("auto", "cpu", "cuda"), device, "--device"),
        engine=one_of(("auto", "openvino", "torch"), engine, "--engine"),
    )


def _needed_dice(text: str | None) -> Any:
    if text in (None, "second-expert"):
        return text
    with suppress(ValueError):
        if 0 <= (value := float(text or "")) <= 1:
            return value
    raise typer.BadParameter(f"'{text}' is neither a number from 0 to 1 nor 'second-expert'", param_hint="--min-dice")


def progress_bar() -> Progress:
    """On stderr; gone when done."""
    return progress.progress_bar(noted=False, console=err)


@contextmanager
def passes_bar(passes: int) -> Iterator[Callable[[], None]]:
    """A bar for the stochastic passes of one scan; yields what is called after each of them."""
    bar = progress_bar()
    task = bar.add_task("stochastic passes", total=passes)

    def on_step() -> None:
        bar.start()  # not before: what is wrong with a file is said on a line of its own
        bar.advance(task)

    try:
        yield on_step
    finally:
        if bar.live.is_started:  # else it would print an empty line
            bar.stop()
