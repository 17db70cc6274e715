"""Seconds by stage and peak memory of `veridice check` on the scan that ships, N = 20, three runs.

python benchmarks/check_scan.py
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path

import pandas as pd

RUNS = 3
DEMO = Path(str(resources.files("veridice") / "demo"))


def run_once(folder: Path) -> dict[str, float]:
    """Wall seconds of one process from start to end, and of each stage inside it."""
    command = [sys.executable, "-m", "veridice", "check", "--json", "-o", str(folder)]
    command += [f"--flair={DEMO / 'sub-lesjak19_FLAIR.nii.gz'}", f"--t1={DEMO / 'sub-lesjak19_T1w.nii.gz'}"]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    wall = time.perf_counter() - start
    return {**json.loads(done.stdout)["seconds"], "whole_process": wall}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        table = pd.DataFrame([run_once(Path(folder)) for _ in range(RUNS)]).T
    table["median"] = table.median(axis=1)
    print(table.round(2).to_string())  # noqa: T201
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"peak memory: {peak:.2f} GiB")  # noqa: T201


if __name__ == "__main__":
    main()
