"""``federate``: many hospitals train one model, and no scan leaves its house."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer
from rich.markup import escape

from veridice.cli.common import err
from veridice.errors import InputError

federate = typer.Typer(help="Train with other hospitals; scans and masks stay at home.", no_args_is_help=True)
Config = Annotated[Path, typer.Option(help="The federation's TOML file with the section of this member.")]


@federate.command("server")
def server(config: Config) -> None:
    """Collect the weights of all sites, round by round; after an interruption give it again to go on."""
    _run(config, lambda members: members.run_server)


@federate.command("client")
def client(config: Config) -> None:
    """Take part with the scans of this site; after an interruption give it again to go on."""
    _run(config, lambda members: members.run_client)


@federate.command("simulate")
def simulate(config: Config) -> None:
    """A server and all sites on this computer, as real processes; after an interruption give it again to go on."""
    _run(config, lambda members: members.run_simulation)


def _run(config: Path, member: Callable[[ModuleType], Callable[[Path, Callable[[str], None]], Path]]) -> None:
    try:
        from veridice.federated import members
    except ModuleNotFoundError as error:
        raise InputError(
            f"'{error.name}' is not installed here; federations have an environment of their own: make setup-federated"
        ) from error
    folder = member(members)(config, lambda line: err.print(escape(line)))
    err.print(escape(f"finished -> {folder}"))
