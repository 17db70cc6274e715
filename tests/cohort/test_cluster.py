"""Dask: a real scheduler and workers on this machine, one of which is killed; queues by a stand-in for sbatch."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from test_study import bids as bids
from test_study import contents

from veridice.cohort.cluster import _read_resources
from veridice.cohort.records import HIDDEN, RECORDS
from veridice.errors import ConfigError

SCHEDULER = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]


@contextmanager
def dask(folder: Path, workers: int) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """Address of a scheduler on loopback, and the processes: its own, then the workers'."""
    file = folder / "scheduler.json"
    processes = [subprocess.Popen([*SCHEDULER, "--scheduler-file", str(file)], stderr=subprocess.DEVNULL)]
    # No nanny: a worker that was killed stays dead.
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(file), "--host", "127.0.0.1"]
    worker += ["--no-nanny", "--nthreads", "1", "--no-dashboard", "--local-directory", str(folder)]
    try:
        while not file.exists():
            time.sleep(0.1)
        processes += [subprocess.Popen(worker, stderr=subprocess.DEVNULL, start_new_session=True) for _ in range(workers)]
        yield pd.read_json(file, typ="series")["address"], processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def more_subjects(bids: Path, last: int) -> None:
    for number in range(4, last + 1):
        shutil.copytree(bids / "sub-01", bids / f"sub-{number:02d}")
        for file in (bids / f"sub-{number:02d}/anat").iterdir():
            file.rename(file.with_name(file.name.replace("sub-01", f"sub-{number:02d}")))


def run(bids: Path, output: Path, weights: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "veridice", "run", str(bids), str(output), "participant", f"--weights={weights}"]
    return subprocess.run([*command, "--passes=2", *more], capture_output=True, text=True, timeout=400)


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing_and_nothing_is_done_twice(
    bids: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    more_subjects(bids, 12)
    output = tmp_path / "out"
    with dask(tmp_path, workers=3) as (address, processes):
        # The workers' working folder is another one.
        command = [sys.executable, "-m", "veridice", "run", bids.name, output.name, "participant", "--weights=weights"]
        process = subprocess.Popen(
            [*command, "--passes=2", f"--scheduler={address}"], stderr=subprocess.PIPE, text=True, cwd=tmp_path
        )
        while len(list((output / RECORDS).glob("*.json") if (output / RECORDS).exists() else [])) < 3:
            assert process.poll() is None
            time.sleep(0.05)
        os.kill(processes[1].pid, signal.SIGKILL)
        written = {path: path.stat().st_mtime_ns for path in (output / RECORDS).glob("*.json")}
        said = process.communicate(timeout=400)[1]
    assert process.returncode == 1, said
    assert "1 failed of 12 scans" in said.splitlines()[-1]
    assert len(list((output / RECORDS).glob("*.json"))) == 12
    # What was finished when the worker died was not touched again.
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert not [path for path in (output / HIDDEN).iterdir() if path.is_dir()]
    run(bids, tmp_path / "processes", tiny_weights, "--n-jobs=2")
    assert contents(tmp_path / "processes") == contents(output)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_a_scheduler_that_is_lost_is_told_and_the_same_command_goes_on(
    kind: signal.Signals, bids: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    more_subjects(bids, 12)
    output, records = tmp_path / "out", tmp_path / "out" / RECORDS
    command = [sys.executable, "-m", "veridice", "run", str(bids), str(output), "participant", f"--weights={tiny_weights}"]
    with dask(tmp_path, workers=2) as (address, processes):
        process = subprocess.Popen([*command, "--passes=2", f"--scheduler={address}"], stderr=subprocess.PIPE, text=True)
        while len(list(records.glob("*.json") if records.exists() else [])) < 3:
            assert process.poll() is None
            time.sleep(0.05)
        processes[0].send_signal(kind)
        said = process.communicate(timeout=120)[1]
    lines = [line for line in said.splitlines() if line.strip() and "failed: sub-03" not in line]
    assert process.returncode == 3, said
    assert len(lines) == 1, said
    assert "the Dask scheduler was lost" in lines[0] and "of 12 scans are done" in lines[0]
    assert "give the same command again" in lines[0]
    assert ", 0 finished before" not in run(bids, output, tiny_weights, "--n-jobs=2").stderr
    assert len(list(records.glob("*.json"))) == 12


SBATCH = """#!/bin/sh
# Starts the job on this machine, as a queue would elsewhere.
for last; do :; done
setsid sh "$last" > "$last.log" 2>&1 &
echo "Submitted batch job $!"
"""


@pytest.mark.slow
def test_a_queue_by_its_commands(bids: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for name, text in (("sbatch", SBATCH), ("scancel", '#!/bin/sh\nfor id; do kill -- -"$id"; done\n')):
        (binaries / name).write_text(text)
        (binaries / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{binaries}:{os.environ['PATH']}")
    (tmp_path / "slurm.toml").write_text(
        f'[cluster]\ncores = 1\nmemory = "2GB"\nwalltime = "00:10:00"\nlocal_directory = "{tmp_path}"\n'
        '[cluster.scheduler_options]\nhost = "127.0.0.1"\ndashboard_address = "127.0.0.1:0"\n[scale]\njobs = 2\n'
    )
    done = run(bids, tmp_path / "out", tiny_weights, f"--slurm={tmp_path / 'slurm.toml'}")
    assert "2 judged, 0 finished before, 1 failed of 3 scans" in done.stderr.splitlines()[-1], done.stderr


@pytest.mark.parametrize("text", ["[cluster", "[cluster]\ncores = 1\n"])
def test_resources_that_cannot_be_used(tmp_path: Path, text: str) -> None:
    (tmp_path / "queue.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"queue\.toml.*interface"):
        _read_resources(tmp_path / "queue.toml")
