"""`veridice check` on the scan that ships, start to written report, against MONAI's 20 passes alone on the same machine.

python benchmarks/check_scan.py [--mask] [--before SOURCE] [--rounds 5]

Each round runs a whole process of ours, MONAI's UNet (16 features, 2 residual units) 20 times in bf16 in a warm process,
and, with ``--before``, a whole process of another version from its folder of sources. So a machine that is busy is busy for
all. Seconds by stage, medians; the ratios are those of each round, of which the median counts. ``--mask`` judges the true
mask in place of our own. Peak memory is that of the largest process of ours.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path

import pandas as pd
import torch
from passes import SHAPE, as_users_do, monai_unet

from veridice.inference.passes import bf16_pays

DEMO = Path(str(resources.files("veridice") / "demo"))
PASSES = 20


def run_once(folder: Path, given: bool, source: Path | None) -> dict[str, float]:
    """Wall seconds of one process from start to end, and of each stage inside it."""
    command = [sys.executable, "-m", "veridice", "check", "--json", "-o", str(folder)]
    command += [f"--flair={DEMO / 'sub-lesjak19_FLAIR.nii.gz'}", f"--t1={DEMO / 'sub-lesjak19_T1w.nii.gz'}"]
    command += [f"--mask={DEMO / 'sub-lesjak19_label-lesion_mask.nii.gz'}"] if given else []
    environment = {**os.environ, **({"PYTHONPATH": str(source)} if source else {})}
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600, env=environment)
    wall = time.perf_counter() - start
    return {**json.loads(done.stdout)["seconds"], "whole_process": wall}


def monai_seconds(images: torch.Tensor, network: torch.nn.Module) -> float:
    """Of 20 passes as MONAI's users run them."""
    start = time.perf_counter()
    as_users_do(network, images, PASSES, bf16_pays("cpu"))
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mask", action="store_true")
    parser.add_argument("--before", type=Path, help="folder that holds the package of another version")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    versions = {"now": None} | ({"before": options.before} if options.before else {})
    images, network = torch.rand(1, *SHAPE), monai_unet()
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in versions}
    monai = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1 + options.rounds):
            for name, source in versions.items():
                row = run_once(Path(folder) / name, options.mask, source)
                rows[name] += [row] if number else []
            seconds = monai_seconds(images, network)
            monai += [seconds] if number else []
    tables = {name: pd.DataFrame(each) for name, each in rows.items()}
    print(pd.DataFrame({name: table.median() for name, table in tables.items()}).round(2).to_string())  # noqa: T201
    print(f"MONAI, {PASSES} passes alone: {pd.Series(monai).median():.2f} s")  # noqa: T201
    for name, table in tables.items():
        ratio = (table["whole_process"] / pd.Series(monai)).median()
        print(f"whole process over MONAI's passes, {name}: {ratio:.2f}")  # noqa: T201
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"peak memory: {peak:.2f} GiB")  # noqa: T201


if __name__ == "__main__":
    main()
