"""``federate``: many hospitals train one model, and no scan leaves its house."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from veridice.cli.common import err, from_extra

federate = typer.Typer(help="Train with other hospitals; scans and masks stay at home.", no_args_is_help=True)
Config = Annotated[Path, typer.Option(help="The federation's TOML file with the section of this member.")]


EXTRA = "federations have an environment of their own, make setup-federated"


@federate.command("server")
def server(config: Config) -> None:
    """Collect the weights of all sites, round by round; after an interruption give it again to go on."""
    _run("server", config)


@federate.command("client")
def client(config: Config) -> None:
    """Take part with the scans of this site; after an interruption give it again to go on."""
    _run("client", config)


@federate.command("simulate")
def simulate(config: Config) -> None:
    """A server and all sites on this computer, as real processes; after an interruption give it again to go on."""
    _run("simulation", config)


def _run(member: str, config: Path) -> None:
    members = from_extra("veridice.federated.members", "veridice federate", EXTRA)
    folder = getattr(members, f"run_{member}")(config, lambda line: err.print(escape(line)))
    err.print(escape(f"finished -> {folder}"))
