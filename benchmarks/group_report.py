"""The group report of a large made-up study: how long it takes to write, to open, to search, to sort and to hover.

python benchmarks/group_report.py [--rows 5000] [--keep FOLDER]

Needs Playwright and Chromium. The scans are random numbers that hang together as those of a study do; thumbnails are
drawn once and shared. Times in Chromium are medians of seven, from the key or click until list and plots are drawn.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from playwright.sync_api import Page, sync_playwright
from scipy import ndimage

from veridice.report.cohort_page import write_group_report

MIN_DICE = 0.75
PICTURES = 24
BROWSER_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
WARNINGS = ("voxels are larger than 3 mm in one direction", "the T1w is missing", "the mask reaches outside the brain")


def made_up_study(rows: int, seed: int = 0) -> pd.DataFrame:
    """A ranked table with all columns: people with up to three visits at three sites, one scanner drifting off."""
    rng = np.random.default_rng(seed)
    person, visit = np.arange(rows) // 2 + 1, np.arange(rows) % 2 + 1
    scanner = rng.choice(["Philips Achieva 3T", "Siemens Skyra 3T", "GE Signa 1.5T"], rows, p=[0.5, 0.35, 0.15])
    day = rng.integers(0, 1500, rows)
    volume = rng.lognormal(1.9, 1.1, rows) * (rng.random(rows) > 0.02)
    quality = 0.62 + 0.1 * np.log1p(volume) / np.log(20) + rng.normal(0, 0.06, rows)
    quality -= 0.14 * (scanner == "GE Signa 1.5T") + 0.1 * ((day > 1200) & (scanner == "Siemens Skyra 3T"))
    dice = np.clip(quality + 0.13, 0.02, 0.95)
    spread = 0.03 + 0.25 * (1 - dice)
    chance = 1 / (1 + np.exp((dice - MIN_DICE) / (0.45 * spread)))
    table = pd.DataFrame(
        {
            "participant_id": [f"sub-{number:04d}" for number in person],
            "session_id": [f"ses-{number}" for number in visit],
            "status": np.where(rng.random(rows) < 0.02, "failed", "done"),
            "verdict": np.where(dice - spread >= MIN_DICE, "accept", np.where(dice + spread < MIN_DICE, "reject", "review")),
            "predicted_dice": dice,
            "interval_low": np.clip(dice - spread, 0, 1),
            "interval_high": np.clip(dice + spread, 0, 1),
            "failure_probability": chance,
            "expected_gain": chance * np.maximum(MIN_DICE - dice, 0.3 * spread),
            "known": rng.random(rows) > 0.04,
            "judged_mask": "own",
            "lesion_volume_ml": volume,
            "own_volume_ml": volume * rng.normal(1, 0.1, rows),
            "brain_volume_ml": rng.normal(1130, 95, rows),
            "looks_missed_ml": rng.exponential(0.5, rows) * (rng.random(rows) > 0.5),
            "lesion_count": rng.poisson(3 + 3 * np.sqrt(volume)),
            "pairwise_dice": np.clip(dice + rng.normal(0.08, 0.05, rows), 0, 1),
            "sample_agreement": np.clip(dice + rng.normal(0.1, 0.04, rows), 0, 1),
            "mean_foreground_entropy": np.clip(0.75 - 0.5 * dice + rng.normal(0, 0.04, rows), 0, 1),
            "entropy_sum": rng.normal(1500, 300, rows) + 20 * volume,
            "unfamiliarity": rng.gamma(3, 0.25, rows) + 0.8 * (scanner == "GE Signa 1.5T"),
            "warnings": [str(rng.choice(WARNINGS)) if rng.random() < 0.15 else "" for _ in range(rows)],
            "site": [{"P": "Ljubljana", "S": "Utrecht", "G": "Singapore"}[name[0]] for name in scanner],
            "scanner": scanner,
            "acquired": (pd.Timestamp("2021-03-01") + pd.to_timedelta(day, unit="D")).strftime("%Y-%m-%dT10:30:00"),
        }
    )
    return _ranked(table)


def _ranked(table: pd.DataFrame) -> pd.DataFrame:
    table.insert(2, "scan", table["participant_id"] + "_" + table["session_id"])
    failed = table["status"] == "failed"
    table["reason"] = np.where(failed, "FLAIR: only 3 slices; a whole brain is needed", None)
    absent = [*table.select_dtypes("number").columns, "verdict", "known"]
    table[absent] = table[absent].astype(object).mask(failed, None)
    table = table.infer_objects()
    table = table.assign(failed=failed).sort_values(["failed", "expected_gain"], ascending=False).drop(columns="failed")
    table.insert(3, "rank", range(1, len(table) + 1))
    table["report"] = np.where(table["status"] == "done", table["scan"] + "_report.html", None)
    table["thumbnail"] = [f"thumbnails/{number % PICTURES}.png" for number in range(len(table))]
    table.loc[table["status"] == "failed", "thumbnail"] = None
    return table.reset_index(drop=True)


def stated_cutoffs(table: pd.DataFrame) -> pd.DataFrame:
    """What is expected when the first ones are looked at."""
    chance = table.loc[table["status"] == "done", "failure_probability"].to_numpy()
    rows = []
    for share in (0.05, 0.1, 0.2, 0.3, 0.5):
        appearances = round(share * len(chance))
        found, left = float(chance[:appearances].sum()), float(chance[appearances:].sum())
        rest = max(1, len(chance) - appearances)
        rows.append(
            {"looks": appearances, "share": share, "failures_found": found, "failures_left": left, "share_left": left / rest}
        )
    return pd.DataFrame(rows)


def draw_thumbnails(folder: Path, seed: int = 0) -> None:
    """Three made-up axial slices with an outline each."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[-1:1:128j, -1:1:128j]
    for number in range(PICTURES):
        figure, axes = plt.subplots(1, 3, figsize=(3.6, 1.3), facecolor="black")
        figure.subplots_adjust(0, 0, 1, 1, wspace=0.02)
        for axis, size in zip(axes, (0.75, 0.88, 0.8), strict=True):
            radius = np.hypot(x / (0.78 * size), y / size)
            brain = (radius < 1) * (0.45 + 0.1 * ndimage.gaussian_filter(rng.normal(size=x.shape), 3))
            brain[(np.hypot((np.abs(x) - 0.12) / 0.08, (y + 0.05) / 0.3) < 1)] = 0.12
            lesion = np.zeros_like(x, bool)
            for _ in range(int(rng.integers(2, 7))):
                centre = rng.uniform(-0.45, 0.45, 2)
                lesion |= np.hypot(x - centre[0], y - centre[1]) < rng.uniform(0.03, 0.1)
            brain[lesion] = 0.9
            axis.imshow(brain, cmap="gray", vmin=0, vmax=1)
            axis.contour(lesion, levels=[0.5], colors=["#ff5a1f"], linewidths=0.8)
            axis.axis("off")
        figure.savefig(folder / f"{number}.png", dpi=100, facecolor="black", pil_kwargs={"optimize": True})
        plt.close(figure)


FACTS: dict[str, Any] = {
    "name": "MS follow-up, three sites",
    "min_dice": MIN_DICE,
    "coverage": 0.9,
    "calibration": {
        "source": "40 simulated patients of all severities made of 8 people, 120 masks of 13 kinds",
        "n": 120,
        "simulated": True,
    },
}


def write_example(rows: int, folder: Path) -> tuple[Path, float]:
    """Write a made-up study's report; returns the file and the seconds that the report alone took."""
    draw_thumbnails(folder / "thumbnails")
    table = made_up_study(rows)
    output = folder / "group.html"
    start = time.perf_counter()
    write_group_report(table, stated_cutoffs(table), FACTS, folder, output)
    return output, time.perf_counter() - start


def _milliseconds(page: Page, action: str, plots: bool = True) -> float:
    """Until the list, or the list and the plots in sight, are drawn anew, seen from within the page."""
    script = """async ([action, plots]) => {
      const before = document.body.dataset.settled, start = performance.now();
      new Function(action)();
      if (!plots) document.getElementById("body").offsetHeight;
      else while (document.body.dataset.settled === before) await new Promise(requestAnimationFrame);
      return performance.now() - start;
    }"""
    return float(page.evaluate(script, [action, plots]))


def _times(page: Page) -> dict[str, float]:
    search = "const s = document.getElementById('search'); s.value = '{}'; s.dispatchEvent(new Event('input'));"
    sort = "document.querySelector('#head th[data-column=\"{}\"] button').click();"
    columns = ("predicted_dice", "lesion_volume_ml", "scan", "verdict", "failure_probability", "rank", "predicted_dice")
    texts = ("01", "siem", "", "9", "", "ge", "")
    rows = (3, 40, 7, 99, 12, 55, 20)
    return {
        "search, list": statistics.median(_milliseconds(page, search.format(text), False) for text in texts),
        "search, list and plots": statistics.median(_milliseconds(page, search.format(text)) for text in texts),
        "sort": statistics.median(_milliseconds(page, sort.format(column)) for column in columns),
        "hover": statistics.median(_milliseconds(page, f"hover(state.shown[{row}]);") for row in rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=5000)
    parser.add_argument("--keep", type=Path, help="folder to leave the example in")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        output, seconds = write_example(arguments.rows, arguments.keep or Path(temporary))
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=BROWSER_FLAGS)
        # Eval for the stop-watch only: the page itself does without.
        page = browser.new_context(bypass_csp=True, viewport={"width": 1400, "height": 1000}).new_page()
        page.goto(output.as_uri())
        page.wait_for_selector("body[data-ready=all]", timeout=120_000)
        marks = page.evaluate("performance.getEntriesByType('mark').map((mark) => mark.startTime / 1000)")
        times = _times(page)
        browser.close()
        report = {
            "rows": f"{arguments.rows}",
            "seconds to write": f"{seconds:.2f}",
            "file size": f"{output.stat().st_size / 1e6:.1f} MB",
            "seconds until the list answers": f"{marks[0]:.2f}",
            "seconds until all plots are drawn": f"{marks[1]:.2f}",
            **{f"milliseconds of a {name}": f"{value:.0f}" for name, value in times.items()},
        }
    sys.stdout.write("".join(f"{name:44} {value:>8}\n" for name, value in report.items()))


if __name__ == "__main__":
    main()
