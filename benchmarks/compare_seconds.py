"""What each further tool costs, and a comparison of many scans: writing it, and the page in a browser.

python benchmarks/compare_tools.py runs/compare             # makes the study and the masks of six tools
python benchmarks/compare_seconds.py runs/compare -n 10

The first scans are compared with one tool and with all of them, each into a new folder. For the page the comparisons are linked
again and again under new names.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from veridice.cohort.records import COMPARISON, RECORDS, read_record
from veridice.cohort.tool_table import PAGE, write_comparison
from veridice.io.bids_dataset import find_scans


def judged(folder: Path, tools: list[Path], scans: list[str], output: Path) -> float:
    """Seconds of ``veridice compare`` without our own masks."""
    masks = [part for tool in tools for part in ("--masks", str(tool))]
    labels = [part for scan in scans for part in ("--participant-label", scan)]
    command = [sys.executable, "-m", "veridice", "compare", str(folder / "study"), str(output), *masks, *labels]
    begin = time.perf_counter()
    subprocess.run([*command, "--no-own", "--skip-bids-validation"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def each_further(folder: Path, count: int) -> Path:
    """Print what a further mask costs; returns the comparison of all tools."""
    tools = sorted(path for path in (folder / "masks").iterdir() if path.is_dir())
    scans = sorted(path.name for path in (folder / "study").glob("sub-*"))[:count]
    took, output = {}, folder / "seconds"
    for number in (1, len(tools)):
        shutil.rmtree(output, ignore_errors=True)
        took[number] = judged(folder, tools[:number], scans, output)
    further = (took[len(tools)] - took[1]) / (count * (len(tools) - 1))
    sys.stdout.write(
        f"{count} scans: {took[1]:.0f} s with one tool, {took[len(tools)]:.0f} s with {len(tools)}: "
        f"{took[1] / count:.1f} s a scan and {further:.2f} s a further mask\n"
    )
    return output


def many(folder: Path, output: Path, count: int) -> None:
    """Write the tables and the page of ``count`` scans, and open the page."""
    subjects = sorted(file.stem.removesuffix(COMPARISON) for file in (output / RECORDS).glob(f"*{COMPARISON}.json"))
    with tempfile.TemporaryDirectory(dir=folder) as name:
        bids, large = Path(name) / "bids", Path(name) / "out"
        checksums = {}
        for number in range(count):
            old, new = subjects[number % len(subjects)], f"sub-n{number:06d}"
            for source, target in ((folder / "study" / old, bids / new), (output / old, large / new)):
                (target / "anat").mkdir(parents=True)
                for file in (source / "anat").iterdir():
                    copy = target / "anat" / file.name.replace(old, new)
                    if file.suffix == ".json":
                        copy.write_text(file.read_text().replace(old, new))
                    else:
                        os.link(file, copy)
            record = read_record(output, f"{old}{COMPARISON}")
            assert record is not None  # noqa: S101
            (large / RECORDS).mkdir(exist_ok=True)
            (large / RECORDS / f"{new}{COMPARISON}.json").write_text(record.model_dump_json().replace(old, new))
            checksums[new] = record.settings
        shutil.copy(folder / "study" / "dataset_description.json", bids)
        tools = sorted(path.name for path in (folder / "masks").iterdir() if path.is_dir())
        begin = time.perf_counter()
        write_comparison(bids, "many", large, find_scans(bids), tools, checksums, 0.05)
        seconds = time.perf_counter() - begin
        size = (large / PAGE).stat().st_size / 1e6
        sys.stdout.write(f"{count} scans, {count * len(tools)} rows: written in {seconds:.1f} s, page of {size:.1f} MB, ")
        sys.stdout.write(f"{opened(large / PAGE):.2f} s until it is drawn in a browser that has just started\n")


def opened(page: Path) -> float:
    """Seconds until a page is drawn."""
    from review_desk import browser

    with browser() as chromium:
        tab = chromium.new_page(viewport={"width": 1400, "height": 860})
        begin = time.perf_counter()
        tab.goto(page.absolute().as_uri())
        tab.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of benchmarks/compare_tools.py")
    parser.add_argument("-n", type=int, default=10)
    parser.add_argument("--scans", type=int, default=1000, help="of the page")
    arguments = parser.parse_args()
    many(arguments.folder, each_further(arguments.folder, arguments.n), arguments.scans)


if __name__ == "__main__":
    main()
