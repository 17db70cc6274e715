"""What Flower may start at a member: our own programs, as they are installed there, and nothing that came over the network.

Flower sends the program of a federation from the server to the sites, and offers control to whoever reaches the server's port.
Neither is for hospitals. So its commands are started through this module, which stands before them on the ``PATH``.
"""

from __future__ import annotations

import ipaddress
import os
import sys
import threading
import time
import traceback
from contextlib import suppress
from importlib import import_module, resources
from pathlib import Path
from typing import Any

from flwr.cli.build import build_fab_from_disk
from flwr.supercore.app_utils import start_parent_process_monitor
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from veridice.errors import InputError

COMMANDS = ("flwr-clientapp", "flwr-serverapp", "flower-superlink", "flower-supernode")
INSTALLING = {
    "flwr-clientapp": "flwr.supernode.runtime.run_clientapp",
    "flwr-serverapp": "flwr.superlink.runtime.run_serverapp",
}
"""Which of Flower's modules takes what came over the network."""
REFUSED = ("flwr-agentapp", "flwr-connector", "flwr-model", "flwr-simulation")
"""Other programs that Flower can start when it is told to over the network; they stay shut."""
PARENT = "VERIDICE_PARENT"
"""Environment variable with the process without which nothing of a member goes on, however it ended."""
GRACE_S = 5.0
FROM_OUTSIDE = ("/v1/fleet", "/health")
"""What other computers may reach: the door for sites, and whether the server is there."""


def app_folder() -> Path:
    """Folder of the description of our programs."""
    return Path(str(resources.files("veridice") / "federated" / "app"))


def write_commands(folder: Path) -> None:
    """Write small programs with the names of Flower's commands, to stand first on the ``PATH``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*COMMANDS, *REFUSED):
        file = folder / name
        # Python runs the file again in processes that a training starts; they are no further command.
        run = f"from veridice.federated.own_programs import main\n\nif __name__ == '__main__':\n    main({name!r})\n"
        file.write_text(f"#!{sys.executable}\n{run}", encoding="utf-8")
        file.chmod(0o700)


def main(command: str) -> None:
    """Run one of Flower's commands, guarded."""
    end_with_parent(GRACE_S)
    if command in INSTALLING:
        module: Any = import_module(INSTALLING[command])
        # The package hands a function of the same name on, so the module is asked for by its own.
        module.install_from_fab = own_program_alone(module.install_from_fab)
    if command == "flwr-clientapp":
        from flwr.supernode.cli import flwr_clientapp

        flwr_clientapp()
    elif command == "flwr-serverapp":
        from flwr.superlink.cli import flwr_serverapp

        flwr_serverapp()
    elif command == "flower-superlink":
        from flwr.superlink import extensions
        from flwr.superlink.cli import flower_superlink

        extensions.get_middleware = lambda: (Middleware(ControlFromHere),)
        flower_superlink()
    elif command == "flower-supernode":
        from flwr.supernode.cli import flower_supernode

        flower_supernode()
    else:
        sys.stderr.write(f"veridice: {command} was asked for over the network; refused\n")
        raise SystemExit(3)


def end_with_parent(grace_s: float | None = None) -> None:
    """End, as Ctrl-C does, when the process that :data:`PARENT` names is gone, however it ended.

    Args:
        grace_s: after so many seconds by force, since Flower's programs tell a server of their end that may be gone too.
    """
    if not (parent := os.environ.get(PARENT)):
        return
    start_parent_process_monitor(int(parent))

    def force(seconds: float) -> None:
        with suppress(ProcessLookupError):
            while True:
                os.kill(int(parent), 0)
                time.sleep(0.5)
        time.sleep(seconds)
        os._exit(1)

    if grace_s is not None:
        threading.Thread(target=force, args=(grace_s,), daemon=True).start()


def own_program_alone(install: Any) -> Any:
    """Flower's installation of what came over the network, for the very description that is installed here."""

    def checked(content: Any, *arguments: Any, **options: Any) -> Any:
        if content != build_fab_from_disk(app_folder()):
            raise InputError("the server sent another program than the one that is installed here; install the same version")
        try:
            return install(content, *arguments, **options)
        except Exception as error:
            # Its text may name folders, and Flower would send it to the server.
            traceback.print_exc()
            raise RuntimeError(f"the program could not be set up ({type(error).__name__})") from None

    return checked


class ControlFromHere:
    """Lets other computers reach the door for sites alone; whoever starts runs or names sites sits at the server.

    Args:
        app: that answers.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http" and not (self._is_here(scope) or scope["path"].startswith(FROM_OUTSIDE)):
            await send({"type": "http.response.start", "status": 403, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await self.app(scope, receive, send)

    @staticmethod
    def _is_here(scope: Scope) -> bool:
        client, server = (scope.get(side) or ("",) for side in ("client", "server"))
        try:
            return ipaddress.ip_address(client[0]).is_loopback or client[0] == server[0]
        except ValueError:
            return False
