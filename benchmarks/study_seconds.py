"""Seconds a scan in a study whose models are loaded: what one scan more costs `veridice run`, with a mask for each.

python benchmarks/study_seconds.py [--before SOURCE] [--jobs 2] [--scans 12] [--rounds 3]

The scan that ships stands under ``--scans`` names. Each round runs a study of one scan a process and one of all, so the
difference is free of start-up and loading. Beside it the same for one caller of ``veridice.check`` with loaded models.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path

import numpy as np

DEMO = Path(str(resources.files("veridice") / "demo"))
DESCRIPTION = '{"Name": "one scan, many names", "BIDSVersion": "1.10.0"}'
CALLER = """
import sys, time, veridice
flair, t1, mask, out, count = sys.argv[1:]
models = veridice.load_models()
veridice.check(flair, t1, mask, models=models, output=f"{out}/first")
begin = time.perf_counter()
for number in range(int(count)):
    veridice.check(flair, t1, mask, models=models, output=f"{out}/{number}")
print((time.perf_counter() - begin) / int(count))
"""


def make_study(root: Path, scans: int) -> Path:
    """A BIDS data set of one scan under many names, with masks beside it."""
    bids = root / f"bids-{scans}"
    bids.mkdir()
    (bids / "dataset_description.json").write_text(DESCRIPTION)
    for number in range(scans):
        name = f"sub-{number:03d}"
        images, masks = bids / name / "anat", bids / "derivatives" / "masks" / name / "anat"
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for kind in ("FLAIR", "T1w"):
            shutil.copy(DEMO / f"sub-lesjak19_{kind}.nii.gz", images / f"{name}_{kind}.nii.gz")
        shutil.copy(DEMO / "sub-lesjak19_label-lesion_mask.nii.gz", masks / f"{name}_label-lesion_mask.nii.gz")
    return bids


def study_seconds(bids: Path, output: Path, jobs: int, environment: dict[str, str]) -> float:
    """Wall seconds of the participant level."""
    command = [sys.executable, "-m", "veridice", "run", str(bids), str(output), "participant", f"--n-jobs={jobs}"]
    begin = time.perf_counter()
    masks = str(bids / "derivatives" / "masks")
    subprocess.run([*command, f"--masks={masks}"], env=environment, check=True, capture_output=True, timeout=1200)
    seconds = time.perf_counter() - begin
    shutil.rmtree(output)
    return seconds


def caller_seconds(room: Path, environment: dict[str, str], count: int) -> float:
    """Of one ``veridice.check`` with loaded models."""
    files = [str(DEMO / f"sub-lesjak19_{kind}.nii.gz") for kind in ("FLAIR", "T1w", "label-lesion_mask")]
    command = [sys.executable, "-c", CALLER, *files, str(room), str(count)]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=1200).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="folder that holds the package of another version")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--scans", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    versions = {"now": dict(os.environ)}
    if options.before:
        versions["before"] = {**os.environ, "PYTHONPATH": str(options.before)}
    study: dict[str, list[float]] = {name: [] for name in versions}
    caller: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        few, many = make_study(root, options.jobs), make_study(root, options.scans)
        for _ in range(options.rounds):
            for name, environment in versions.items():
                short, long = (study_seconds(bids, root / "out", options.jobs, environment) for bids in (few, many))
                study[name].append((long - short) / (options.scans - options.jobs))
            caller.append(caller_seconds(root, versions["now"], max(1, options.scans // 3)))
    for name, seconds in study.items():
        sys.stdout.write(f"{name}, {options.jobs} processes: {np.median(seconds):.2f} s a scan\n")
    sys.stdout.write(f"now, one caller of veridice.check: {np.median(caller):.2f} s a scan\n")


if __name__ == "__main__":
    main()
