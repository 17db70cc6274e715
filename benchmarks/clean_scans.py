"""Whether another version answers alike on real scans: predicted Dice, verdict and warnings of both, run by run.

python benchmarks/clean_scans.py FOLDER --before SOURCE [-o TABLE.csv]

FOLDER holds, at any depth, folders with flair.nii.gz and, where there are any, t1.nii.gz and a mask lesion*.nii.gz. Each scan
is judged with and without its T1w (our own mask), and its mask is judged too. Every run is a whole process of `check`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd


def runs_of(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Name and arguments of each run."""
    for flair in sorted(folder.rglob("flair.nii.gz")):
        name, t1, masks = flair.parent.name, flair.parent / "t1.nii.gz", sorted(flair.parent.glob("lesion*.nii.gz"))
        both = [f"--flair={flair}", *([f"--t1={t1}"] if t1.exists() else [])]
        yield name, both
        if t1.exists():
            yield f"{name}, no T1w", both[:1]
        if masks:
            yield f"{name}, its mask", [*both, f"--mask={masks[0]}"]


def answer(arguments: list[str], source: Path | None) -> dict[str, object]:
    """What one version says."""
    environment = {**os.environ, **({"PYTHONPATH": str(source)} if source else {})}
    with tempfile.TemporaryDirectory() as room:
        command = [sys.executable, "-m", "veridice", "check", "--json", "-o", room, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600, check=False)
    if done.returncode not in (0, 1, 2):
        return {"predicted": float("nan"), "verdict": "refused", "warnings": done.stderr.strip()}
    found = json.loads(done.stdout)
    return {"predicted": found["predicted_dice"], "verdict": found["verdict"], "warnings": " | ".join(found["warnings"])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--before", type=Path, required=True, help="folder that holds the package of another version")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    rows = []
    for name, arguments in runs_of(options.folder):
        now, before = answer(arguments, None), answer(arguments, options.before)
        rows.append({"run": name, **now, **{f"{key}_before": value for key, value in before.items()}})
    table = pd.DataFrame(rows)
    table["change"] = table["predicted"] - table["predicted_before"]
    if options.output:
        table.to_csv(options.output, index=False)
    moved, verdicts = table["change"].abs(), table["verdict"] != table["verdict_before"]
    print(table.drop(columns=["warnings", "warnings_before"]).round(4).to_string(index=False))  # noqa: T201
    changes = f"largest change {moved.max():.4f}, {(moved > 0.01).sum()} above 0.01, {verdicts.sum()} verdicts differ"
    print(f"{len(table)} runs: {changes}")  # noqa: T201


if __name__ == "__main__":
    main()
