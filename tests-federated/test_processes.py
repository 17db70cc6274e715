"""Real servers and sites over TLS on this computer: killed, come back, poisoned, gone on with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from veridice.federated.common_state import CommonState
from veridice.federated.federation import load_federation
from veridice.federated.members import write_members

FEDERATION = """
[federation]
name = "three"
training = "tiny.toml"
networks = ["segmenter", "critic"]
rounds = 3
steps = 2
minimum_sites = 2
wait_minutes = 0.4
min_dice = []

[simulation]
output = "members"
[simulation.sites.a]
manifest = "manifest.csv"
data = "."
[simulation.sites.b]
manifest = "manifest.csv"
data = "."
[simulation.sites.c]
manifest = "manifest.csv"
data = "."
"""
POISON = """
import numpy as np
from veridice.federated.site import Site

learnt = Site.train

def poisoned(self, *arguments):
    found = learnt(self, *arguments)
    found.arrays.update({name: value * np.float32("nan") for name, value in found.arrays.items()})
    return found

Site.train = poisoned
"""
Begin = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def begin(study: Path) -> Iterator[Begin]:
    """Starts a member; all end with the test."""
    with ExitStack() as stack:

        def begun(role: str, file: Path, **variables: str) -> subprocess.Popen[bytes]:
            log = stack.enter_context((study / f"{file.stem}.out").open("ab"))
            command = [sys.executable, "-m", "veridice", "federate", role, "--config", str(file)]
            process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **variables})
            stack.callback(process.wait, 60)
            stack.callback(process.terminate)
            return process

        yield begun


def wait_for(what: Callable[[], bool], seconds: float, described: Callable[[], str]) -> None:
    last = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < last, described()
        time.sleep(0.3)


def processes_of(folder: Path) -> list[str]:
    """Command lines of processes that work in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


def test_sites_and_server_are_killed_and_go_on(study: Path, begin: Begin) -> None:
    (study / "three.toml").write_text(FEDERATION)
    federation = load_federation(study / "three.toml", "simulation")
    assert federation.simulation
    server, *sites = write_members(federation, federation.simulation)
    members = federation.simulation.output
    poison = study / "poison"
    poison.mkdir()
    (poison / "sitecustomize.py").write_text(POISON)
    state = CommonState(members / "server")

    def told() -> str:
        logs = [*study.glob("*.out"), *members.rglob("*.log"), *members.rglob("events.txt")]
        return "\n".join(f"{log}:\n{log.read_text()[-2000:]}" for log in logs)

    leading = begin("server", server)
    # First in, so that it is asked in every round.
    begin("client", sites[2], PYTHONPATH=str(poison))
    log = members / "c" / "site.log"
    wait_for(lambda: log.exists() and "SuperNode ID" in log.read_text(), 90, told)
    working = {file.stem: begin("client", file) for file in sites[:2]}
    wait_for(lambda: state.rounds_done("segmenter") >= 1, 180, told)

    # A site dies, with everything that it started; it comes back.
    working["a"].send_signal(signal.SIGKILL)
    working["a"].wait(10)
    wait_for(lambda: not processes_of(members / "a"), 20, lambda: "\n".join(processes_of(members / "a")))
    begin("client", sites[0])
    wait_for(lambda: state.rounds_done("segmenter") >= 2, 180, told)

    # So does the server; the sites wait for it.
    leading.send_signal(signal.SIGKILL)
    leading.wait(10)
    wait_for(lambda: not processes_of(members / "server"), 20, lambda: "\n".join(processes_of(members / "server")))
    done = state.rounds_done("segmenter")
    again = begin("server", server)
    wait_for(lambda: again.poll() is not None, 400, told)
    assert again.returncode == 0, told()

    events = (members / "server" / "events.txt").read_text()
    assert "segmenter: c: refused: weights that are not finite" in events
    assert events.splitlines()[-1] == "finished"
    # A server that is killed between a round and what sites say of it goes on with the next.
    assert {1, 3} <= set(state.metrics("segmenter")["round"]) <= {0, 1, 2, 3}
    assert {1, 2, 3} <= set(state.metrics("critic")["round"])
    assert state.rounds_done("segmenter") == state.rounds_done("critic") == 3
    assert done >= 2
    wait_for(lambda: all((members / name / "finished.txt").exists() for name in "abc"), 30, told)
    for network in ("segmenter", "critic"):
        final = (members / "server" / "weights" / f"{network}.safetensors").read_bytes()
        assert all((members / name / "weights" / f"{network}.safetensors").read_bytes() == final for name in "abc")


def test_a_stranger_is_not_let_in(study: Path, begin: Begin) -> None:
    (study / "three.toml").write_text(FEDERATION)
    federation = load_federation(study / "three.toml", "simulation")
    assert federation.simulation
    server, first, *_ = write_members(federation, federation.simulation)
    keys = federation.simulation.output / "keys"
    begin("server", server)
    log = federation.simulation.output / "server" / "server.log"
    wait_for(lambda: log.exists() and "start-run" in log.read_text(), 90, lambda: (study / "server.out").read_text())
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-b", "384", "-N", "", "-f", keys / "stranger"], check=True, timeout=20)
    first.write_text(first.read_text().replace(f'{keys / "a"}"', f'{keys / "stranger"}"'))
    stranger = begin("client", first)
    wait_for(lambda: stranger.poll() is not None, 120, lambda: (study / "a.out").read_text())
    assert stranger.returncode == 3
    assert "does not let this site in" in (study / "a.out").read_text()
    assert "Traceback" not in (study / "a.out").read_text()
