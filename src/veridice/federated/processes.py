"""The processes of a member: Flower's SuperLink at the server, its SuperNode at a site, and Flower's commands to both."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import tomli_w

from veridice.errors import ConfigError, VeridiceError
from veridice.federated.federation import ServerSettings, SiteSettings
from veridice.federated.messages import CONFIG
from veridice.federated.own_programs import PARENT, app_folder, write_commands

HIDDEN = ".flower"
"""Folder of what Flower keeps, within a member's own."""
CONNECTION = "here"
COMMAND_S, END_S, READY_S = 60.0, 20.0, 60.0


def environment(file: Path, output: Path) -> dict[str, str]:
    """Environment of the processes of a member: our commands first, nothing sent to Flower's makers.

    Args:
        file: the member's TOML file.
        output: the member's folder.
    """
    home = output / HIDDEN
    write_commands(home / "commands")
    return {
        **os.environ,
        CONFIG: str(file.absolute()),
        PARENT: str(os.getpid()),
        "PATH": os.pathsep.join([str(home / "commands"), str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "FLWR_HOME": str(home),
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.2",
        "PYTHONUNBUFFERED": "1",
    }


class EarlyEndError(VeridiceError):
    """A federation's program that ended before its time."""


@contextmanager
def superlink(own: ServerSettings, variables: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """The server's process, which lets in the sites that were named; TLS, and each site proves that it holds its key."""
    home = own.output / HIDDEN
    address = {"address": f"127.0.0.1:{own.port}", "root-certificates": str(own.authority), "insecure": False}
    (home / "config.toml").write_text(
        tomli_w.dumps({"superlink": {"default": CONNECTION, CONNECTION: address}}), encoding="utf-8"
    )
    command = [
        "flower-superlink",
        *("--host", own.host, "--port", str(own.port)),
        *("--ssl-certfile", str(own.certificate), "--ssl-keyfile", str(own.key), "--ssl-ca-certfile", str(own.authority)),
        *("--database", str(home / "state.sqlite")),
        "--enable-supernode-auth",
        "--disable-runtime-dependency-installation",
    ]
    with running(command, variables, own.output / "server.log") as process:
        yield process


@contextmanager
def supernode(own: SiteSettings, variables: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A site's process, which asks the server for work."""
    command = [
        "flower-supernode",
        *("--superlink", own.server, "--root-certificates", str(own.authority)),
        *("--auth-supernode-private-key", str(own.key)),
        *("--host", "127.0.0.1", "--port", str(own.port)),
    ]
    with running(command, variables, own.output / "site.log") as process:
        yield process


@contextmanager
def running(command: Sequence[str], variables: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, which ends with all that it started when the block does."""
    program = next(
        (file for folder in variables["PATH"].split(os.pathsep) if (file := Path(folder) / command[0]).is_file()), None
    )
    if program is None:
        raise ConfigError(f"{command[0]} is not installed; run make setup-federated, see docs/federated.md")
    with log.open("ab") as stream:
        process = subprocess.Popen(
            [str(program), *command[1:]], env=dict(variables), stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and its group; by force when it does not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            continue
    process.wait(END_S)


def flower(arguments: Sequence[str], variables: Mapping[str, str]) -> dict[str, Any]:
    """Run one of Flower's commands and return what it says as JSON.

    Raises:
        ConfigError: it failed.
    """
    program = Path(sys.executable).parent / "flwr"
    try:
        done = subprocess.run(
            [str(program), *arguments, CONNECTION, "--format", "json"],
            env=dict(variables),
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"flwr {arguments[0]}: no answer from the server's process") from error
    try:
        said: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    except ValueError as error:
        raise ConfigError(f"flwr {arguments[0]}: {' '.join((done.stderr or done.stdout).split())[:200]}") from error
    return said


def register(own: ServerSettings, known: dict[int, dict[str, str]], variables: Mapping[str, str]) -> dict[int, dict[str, str]]:
    """Let in the sites whose public keys are named, and nobody else.

    Args:
        own: names the keys.
        known: name and checksum of the key of each site that was let in before, by its number at the server.
        variables: of the processes.

    Returns:
        The same of all that are let in now.

    Raises:
        ConfigError: a key is none.
    """
    wanted = {hashlib.sha256(key.read_bytes()).hexdigest(): key for key in own.sites}
    kept = {}
    for node in flower(["supernode", "list"], variables).get("nodes", []):
        number = int(node["node-id"])
        if number in known and known[number]["key"] in wanted:
            checksum = known[number]["key"]
            kept[number] = {"name": wanted.pop(checksum).stem, "key": checksum}
        elif node["status"] != "unregistered":
            flower(["supernode", "unregister", str(number)], variables)
    for checksum, key in wanted.items():
        said = flower(["supernode", "register", str(key)], variables)
        if not said.get("success"):
            raise ConfigError(f"{key.name}: cannot be let in ({' '.join(said.get('error-message', '').split())[-200:]})")
        kept[int(said["node-id"])] = {"name": key.stem, "key": checksum}
    return kept


def begin(variables: Mapping[str, str]) -> str:
    """Start the federation's program; returns its number."""
    said = flower(["run", str(app_folder())], variables)
    if not said.get("success"):
        raise ConfigError(f"Flower did not start the federation: {said}")
    return str(said["run-id"])


def ended(program: str, variables: Mapping[str, str]) -> bool:
    """Whether a program is through; a moment in which the server does not answer is no end.

    Raises:
        EarlyEndError: it ended before.
    """
    with suppress(ConfigError):
        for run in flower(["list"], variables).get("runs", []):
            if run["run-id"] == program and run["status"].startswith("finished"):
                if run["status"].endswith("completed"):
                    return True
                raise EarlyEndError(f"the federation ended early: {run['status-details']}")
    return False


def traffic(variables: Mapping[str, str]) -> dict[str, int]:
    """Bytes that crossed in all programs of this server, those before an interruption too: ``inbound`` and ``outbound``."""
    runs = flower(["list"], variables).get("runs", [])
    return {side: sum(int(run["network-traffic"][f"{side}-bytes"]) for run in runs) for side in ("inbound", "outbound")}


def stop_runs(variables: Mapping[str, str]) -> None:
    """Stop programs that a server left that was killed; the next one goes on from the stored rounds."""
    for run in flower(["list"], variables).get("runs", []):
        if not run["status"].startswith("finished"):
            flower(["stop", run["run-id"]], variables)


def wait_until_ready(process: subprocess.Popen[bytes], variables: Mapping[str, str], log: Path) -> None:
    """Wait until the server answers.

    Raises:
        ConfigError: it ended, or does not answer.
    """
    last = time.monotonic() + READY_S
    while time.monotonic() < last:
        if process.poll() is not None:
            raise ConfigError(f"the server did not start; its log is {log.name} in the output folder")
        with suppress(ConfigError):
            if flower(["supernode", "list"], variables).get("success"):
                return
        time.sleep(1)
    raise ConfigError(f"the server does not answer; its log is {log.name} in the output folder")
