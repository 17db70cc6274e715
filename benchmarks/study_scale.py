"""What a large study costs beside the judging: the group level on N scans, finding what is finished, handing out tasks.

The scans are those of a study that was run, linked again and again under new names:

    make demo-study
    python benchmarks/study_scale.py veridice-demo-study -n 1000
"""

from __future__ import annotations

import argparse
import operator
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from veridice.cohort import cluster
from veridice.cohort.records import RECORDS
from veridice.parallel import in_processes


def copy_many(study: Path, root: Path, count: int) -> tuple[Path, Path]:
    """A data set of ``count`` subjects and its results, all of them links to those of ``study``."""
    results = study / "derivatives" / "veridice"
    subjects = sorted(file.stem for file in (results / RECORDS).glob("sub-*.json") if '"done"' in file.read_text())
    bids, output = root / "bids", root / "out"
    (output / RECORDS).mkdir(parents=True)
    bids.mkdir()
    os.link(study / "dataset_description.json", bids / "dataset_description.json")
    for number in range(count):
        old, new = subjects[number % len(subjects)], f"sub-n{number:06d}"
        for source, target in ((study / old / "anat", bids / new / "anat"), (results / old / "anat", output / new / "anat")):
            target.mkdir(parents=True)
            for file in source.iterdir():
                copy = target / file.name.replace(old, new)
                if file.suffix == ".json":  # An assessment names the maps beside it.
                    copy.write_text(file.read_text().replace(old, new))
                else:
                    os.link(file, copy)
        record = (results / RECORDS / f"{old}.json").read_text()
        (output / RECORDS / f"{new}.json").write_text(record.replace(old, new))
    return bids, output


def timed(*command: str) -> tuple[float, float]:
    """Seconds and largest memory in GiB of a command so far."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "veridice", *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20


def handing_out(count: int) -> None:
    """Seconds a task that does nothing, by processes and by Dask on this machine."""
    begin = time.perf_counter()
    done = [time.perf_counter() for _ in in_processes(range(count), operator.neg, 2)]
    sys.stdout.write(f"processes: {1000 * (done[-1] - done[0]) / count:.2f} ms a task, {done[0] - begin:.1f} s to begin\n")
    import distributed

    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as workers,
        distributed.Client(workers) as client,
    ):
        begin = time.perf_counter()
        for _ in cluster.on_cluster(range(count), divmod_one, client, str):
            pass
        sys.stdout.write(f"Dask: {1000 * (time.perf_counter() - begin) / count:.2f} ms a task\n")


def divmod_one(number: int, threads: int) -> int:
    return number // threads


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("study", type=Path)
    parser.add_argument("-n", type=int, default=1000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.study) as folder:
        bids, output = copy_many(options.study, Path(folder), options.n)
        seconds, _ = timed("run", str(bids), str(output), "participant", "--dry-run", "--skip-bids-validation")
        sys.stdout.write(f"{options.n} scans: {seconds:.1f} s to find them and see that they are finished\n")
        seconds, memory = timed("run", str(bids), str(output), "group")
        size = (output / "report.html").stat().st_size / 1e6
        sys.stdout.write(f"{options.n} scans: group {seconds:.1f} s, {memory:.2f} GiB, report {size:.1f} MB\n")
    handing_out(options.n)


if __name__ == "__main__":
    main()
