"""A member from its beginning to its end: what ``veridice federate`` does."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import tomli_w

from veridice.errors import ConfigError, InputError
from veridice.federated.common_state import EVENTS, CommonState, claim
from veridice.federated.credentials import make_certificate, make_key
from veridice.federated.federation import WEIGHTS, Federation, Simulation, load_federation
from veridice.federated.own_programs import PARENT, end_with_parent
from veridice.federated.processes import (
    begin,
    ended,
    environment,
    register,
    running,
    stop_runs,
    superlink,
    supernode,
    traffic,
    wait_until_ready,
)
from veridice.federated.site import FINISHED, refuse_shipped_people
from veridice.io.atomic import held, make_folder, write_json
from veridice.io.datasets import read_manifest

Tell = Callable[[str], None]
CREDENTIALS = {"certificate": "server.pem", "key": "server.key", "authority": "authority.pem"}
TRAFFIC, MB = "traffic.json", 1e6
POLL_S = 1.0
ASKED_EVERY = 5
"""Polls between two questions to the server what became of its program."""
LAST_WAIT_S = 120.0
TRIES, BETWEEN_TRIES_S, LIVED_S = 5, 5.0, 60.0
"""A site asks so often to be let in, with pauses, each time anew after it was in for a while."""
LAST_ANSWER_S = 4.0
"""A site's process goes on so long after its last work, for the answer to leave."""


def run_server(config: Path, tell: Tell) -> Path:
    """Collect weights until all networks are learnt; goes on where an earlier run ended, however it did.

    Returns the folder of the final weights.

    Raises:
        ConfigError: the file cannot be used, or the server does not start.
        EarlyEndError: too few sites answered.
    """
    federation = load_federation(config, "server")
    own = federation.server
    assert own is not None  # noqa: S101
    state = CommonState(own.output)
    state.claim(federation.fingerprint())
    variables = environment(config, own.output)
    with held(own.output), ending_on_signals(), superlink(own, variables) as process:
        wait_until_ready(process, variables, own.output / "server.log")
        stop_runs(variables)
        state.name_sites(register(own, state.sites(), variables))
        shown = Follower(own.output / EVENTS)
        program = begin(variables)
        tell(f"{federation.federation.name}: waiting for {federation.federation.minimum_sites} sites on port {own.port}")
        while not ended(program, variables):
            for _ in range(ASKED_EVERY):
                shown.tell_new(tell)
                if process.poll() is not None:
                    raise ConfigError("the server's process ended; its log is server.log in the output folder")
                time.sleep(POLL_S)
        shown.tell_new(tell)
        crossed = traffic(variables)
    write_json(own.output / TRAFFIC, crossed)
    tell(f"{crossed['inbound'] / MB:.1f} MB came from the sites, {crossed['outbound'] / MB:.1f} MB went to them")
    return own.output / WEIGHTS


def run_client(config: Path, tell: Tell) -> Path:
    """Work for the server until it has nothing more to ask; returns the folder of the final weights.

    Raises:
        ConfigError: the file cannot be used, or the server lets this site not in.
        InputError: the manifest cannot be read.
    """
    federation = load_federation(config, "site")
    own = federation.site
    assert own is not None  # noqa: S101
    cases = read_manifest(own.manifest, own.data)
    if not {"train", "validation"} <= {case.split for case in cases}:
        raise InputError(f"{own.manifest}: needs people of the splits 'train' and 'validation'")
    refuse_shipped_people(cases, federation.training.data.task.name)
    claim(own.output, federation.fingerprint())
    (own.output / FINISHED).unlink(missing_ok=True)
    variables = environment(config, own.output)
    shown, refused = Follower(own.output / EVENTS), 0
    with held(own.output / "node"), ending_on_signals():
        tell(f"{federation.federation.name}: {len(cases)} scans here, asking {own.server} for work")
        while refused < TRIES:
            begun = time.monotonic()
            with supernode(own, variables) as process:
                while process.poll() is None:
                    shown.tell_new(tell)
                    if (own.output / FINISHED).exists():
                        time.sleep(LAST_ANSWER_S)
                        return own.output / WEIGHTS
                    time.sleep(POLL_S)
            # A server that has just begun knows its sites a little later; one that is away lets the process wait by itself.
            refused = refused + 1 if time.monotonic() - begun < LIVED_S else 1
            time.sleep(BETWEEN_TRIES_S)
    raise ConfigError(
        f"the server at {own.server} cannot be reached, or does not let this site in; the log is site.log in the output folder"
    )


def run_simulation(config: Path, tell: Tell) -> Path:
    """A server and all its sites on this computer, each by its own command; goes on where an earlier run ended.

    Returns the folder of the server.

    Raises:
        ConfigError: the file cannot be used, or a member failed.
    """
    federation = load_federation(config, "simulation")
    asked = federation.simulation
    assert asked is not None  # noqa: S101
    make_folder(asked.output)
    server, *sites = write_members(federation, asked)
    # Processes with several threads each that wait for each other by spinning slow all of them down.
    threads = str(max(1, (os.cpu_count() or 1) // len(sites)))
    variables = {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE", **os.environ, PARENT: str(os.getpid())}
    with held(asked.output), ending_on_signals(), ExitStack() as members:

        def begun(role: str, file: Path) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-m", "veridice", "federate", role, "--config", str(file)]
            return members.enter_context(running(command, variables, file.with_suffix(".log")))

        leading = begun("server", server)
        shown = Follower(server.with_suffix(".log"))
        while leading.poll() is None and not shown.tell_new(tell):
            time.sleep(POLL_S)
        working = {file.stem: begun("client", file) for file in sites}
        while leading.poll() is None:
            shown.tell_new(tell)
            for name, process in working.items():
                if process.poll() not in (None, 0):
                    raise ConfigError(f"site {name} ended early; see {name}.log in the output folder")
            time.sleep(POLL_S)
        shown.tell_new(tell)
        if leading.returncode:
            raise ConfigError("the server ended early; see server.log in the output folder")
        for process in working.values():
            # What does not end by itself is ended when the block is left.
            with suppress(subprocess.TimeoutExpired):
                process.wait(LAST_WAIT_S)
    return asked.output / "server"


def write_members(federation: Federation, asked: Simulation) -> list[Path]:
    """Write credentials and the TOML file of the server and of each site, in this order; sites keep their keys."""
    folder, keys = asked.output, asked.output / "keys"
    # Anew each time: they are valid for days, and a simulation may be gone on with later.
    make_certificate(keys)
    common = {"federation": federation.federation.model_dump(mode="json", exclude_none=True)}
    port, *site_ports = free_ports(1 + len(asked.sites))
    for name in asked.sites:
        if not (keys / name).exists():
            make_key(keys / name)
    certificate = {name: str(keys / f"{file}") for name, file in CREDENTIALS.items()}
    server = {
        **certificate,
        "host": "127.0.0.1",
        "port": port,
        "sites": [str(keys / f"{name}.pub") for name in asked.sites],
        "output": str(folder / "server"),
    }
    files = [_written(folder / "server.toml", {**common, "server": server})]
    for (name, site), own_port in zip(asked.sites.items(), site_ports, strict=True):
        member = {
            "server": f"127.0.0.1:{port}",
            "authority": certificate["authority"],
            "key": str(keys / name),
            "manifest": str(site.manifest),
            "data": str(site.data),
            "output": str(folder / name),
            "port": own_port,
        }
        files.append(_written(folder / f"{name}.toml", {**common, "site": member}))
    return files


def _written(file: Path, content: dict[str, Any]) -> Path:
    file.write_text(tomli_w.dumps(content), encoding="utf-8")
    return file


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody uses."""
    with ExitStack() as stack:
        taken = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in taken:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in taken]


class Follower:
    """Tells the lines that are added to a file.

    Args:
        file: that others write.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.seen = file.stat().st_size if file.exists() else 0

    def tell_new(self, tell: Tell) -> bool:
        """Tell what is new and whole; returns whether there was anything."""
        if not self.file.exists():
            return False
        with self.file.open("rb") as stream:
            stream.seek(self.seen)
            whole = stream.read().rpartition(b"\n")[0]
        self.seen += len(whole) + bool(whole)
        for line in whole.decode().splitlines():
            tell(line)
        return bool(whole)


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Let a request to end (SIGTERM), and the end of who started this, end as Ctrl-C does, so that nothing is left."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    end_with_parent()
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
