"""What runs at the server, in a process that Flower starts."""

from __future__ import annotations

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from veridice.federated.common_state import CommonState
from veridice.federated.conductor import Conductor
from veridice.federated.federation import load_federation
from veridice.federated.messages import federation_file

app = ServerApp()


@app.main()
def main(grid: Grid, _context: Context) -> None:
    """Run, or go on with, the federation of this server's TOML file."""
    federation = load_federation(federation_file(), "server")
    assert federation.server is not None  # noqa: S101 (load_federation made sure)
    Conductor(grid, federation, CommonState(federation.server.output), len(federation.server.sites)).conduct()
