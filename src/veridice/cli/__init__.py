"""The command line: the only place for argv, printing and exit codes."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Annotated

import typer

from veridice._version import __version__
from veridice.case import plain_name
from veridice.cli.common import DISCLAIMER
from veridice.cli.compare_commands import compare
from veridice.cli.dicom_commands import dicom, gateway, opening_gateway
from veridice.cli.federate_commands import federate
from veridice.cli.learn_commands import experiment, models, simulate, train
from veridice.cli.review_commands import opening, review
from veridice.cli.scan_commands import calibrate, check, demo
from veridice.cli.study_commands import run as run_study
from veridice.cli.study_commands import spread_labels
from veridice.errors import VeridiceError
from veridice.io.memory import memory_ran_out
from veridice.io.weight_cards import bundled_weights, read_card

EXIT_INTERNAL, EXIT_INPUT, EXIT_INTERRUPTED = 1, 3, 130

app = typer.Typer(
    help=f"Can this lesion mask be trusted? {DISCLAIMER}",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for command in (check, demo, calibrate, simulate, train, experiment, models):
    app.command()(command)
app.command("run")(run_study)
app.command("compare")(compare)
app.add_typer(review, name="review")
app.command("dicom")(dicom)
app.add_typer(gateway, name="gateway")
app.add_typer(federate, name="federate")


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version, and that of the weights.")] = False,
) -> None:
    if show:
        typer.echo(f"veridice {__version__} ({_weights_version()})")
        raise typer.Exit


def _weights_version() -> str:
    """Which weights ship, from their cards alone."""
    try:
        card = read_card(bundled_weights(), "segmenter")
    except VeridiceError:
        return "no weights"
    return f"weights: {card.configuration} of {card.created}, {card.sha256[:8]}"


def main() -> int:
    """Run the command line and return its exit code; every ending has one and no traceback."""
    # What libraries deprecate is our business, not the user's.
    warnings.simplefilter("ignore")
    # Libraries log what they think of a header; what matters of it is said by our own messages.
    for name in ("nibabel.global", "pydicom", "highdicom"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return run(sys.argv[1:])


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; ``VERIDICE_DEBUG=1`` shows the traceback of an internal error."""
    try:
        app(opening_gateway(opening(spread_labels(arguments))), prog_name="veridice")
        return 0
    except SystemExit as ending:  # typer ends every command so: 0, 2 for wrong usage, 130 for Ctrl-C
        if ending.code == EXIT_INTERRUPTED:
            return _fail("interrupted; nothing half-written was left", EXIT_INTERRUPTED)
        return ending.code if isinstance(ending.code, int) else 0
    except VeridiceError as error:
        return _fail(str(error), EXIT_INPUT)
    except Exception as error:  # the last line of defence: one line instead of a traceback
        if ran_out := memory_ran_out(error):
            return _fail(ran_out, EXIT_INPUT)
        if os.environ.get("VERIDICE_DEBUG"):
            raise
        return _fail(
            f"internal error, please report it ({type(error).__name__}: {error}); VERIDICE_DEBUG=1 shows where", EXIT_INTERNAL
        )


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"veridice: {plain_name(' '.join(message.split()))}\n")
    return code
