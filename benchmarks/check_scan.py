"""Seconds by stage and peak memory of `veridice check` on the scan that ships, N = 20, three runs after one that warms up.

python benchmarks/check_scan.py [--mask]: our own mask, or the given true one.
"""

from __future__ import annotations

import argparse
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


def run_once(folder: Path, given: bool) -> dict[str, float]:
    """Wall seconds of one process from start to end, and of each stage inside it."""
    command = [sys.executable, "-m", "veridice", "check", "--json", "-o", str(folder)]
    command += [f"--flair={DEMO / 'sub-lesjak19_FLAIR.nii.gz'}", f"--t1={DEMO / 'sub-lesjak19_T1w.nii.gz'}"]
    command += [f"--mask={DEMO / 'sub-lesjak19_label-lesion_mask.nii.gz'}"] if given else []
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    wall = time.perf_counter() - start
    return {**json.loads(done.stdout)["seconds"], "whole_process": wall}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mask", action="store_true")
    given = parser.parse_args().mask
    with tempfile.TemporaryDirectory() as folder:
        table = pd.DataFrame([run_once(Path(folder), given) for _ in range(1 + RUNS)][1:]).T
    table["median"] = table.median(axis=1)
    print(table.round(2).to_string())  # noqa: T201
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"peak memory: {peak:.2f} GiB")  # noqa: T201


if __name__ == "__main__":
    main()
