"""How long a large data set takes to be found: bids2table beside pybids, where that is installed.

python benchmarks/layouts.py -n 10000
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from pathlib import Path

from veridice.io.bids_dataset import find_scans


def make_dataset(root: Path, subjects: int) -> None:
    """Empty images with sidecars: a FLAIR and a T1w in one session each."""
    (root / "dataset_description.json").write_text(json.dumps({"Name": "empty", "BIDSVersion": "1.10.0"}))
    for number in range(subjects):
        folder = root / f"sub-{number:06d}" / "ses-1" / "anat"
        folder.mkdir(parents=True)
        for suffix in ("FLAIR", "T1w"):
            (folder / f"sub-{number:06d}_ses-1_{suffix}.nii.gz").touch()
            (folder / f"sub-{number:06d}_ses-1_{suffix}.json").write_text("{}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-n", type=int, default=10_000, help="subjects")
    subjects = parser.parse_args().n
    with tempfile.TemporaryDirectory() as folder:
        make_dataset(Path(folder), subjects)
        begin = time.perf_counter()
        found = len(find_scans(Path(folder)))
        sys.stdout.write(f"{found} scans by bids2table: {time.perf_counter() - begin:.1f} s, T1w paired\n")
        if importlib.util.find_spec("bids"):
            from bids import BIDSLayout

            begin = time.perf_counter()
            found = len(BIDSLayout(folder, validate=False).get(suffix="FLAIR", extension=".nii.gz"))
            sys.stdout.write(f"{found} scans by pybids: {time.perf_counter() - begin:.1f} s\n")


if __name__ == "__main__":
    main()
