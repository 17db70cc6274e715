"""How fast the reviewer's desk is: the first page, 12 scans by keyboard, 10,000 scans in the list, 30 raters at once.

    make demo-study
    pip install locust
    python benchmarks/review_desk.py veridice-demo-study

The study is copied first. The browser is Chromium without a graphics card. Locust sends requests to this machine alone, and
what the desk acknowledged is compared with its database afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RATERS = 30
DRAWN = "() => { const { gl } = veridice.viewer.nv; gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4)); }"
"""Ends when the picture is there: what WebGL was asked for is done before a pixel can be read."""
FLAGS = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]


@contextmanager
def desk(output: Path, raters: str = "ANNA", bids: Path | None = None) -> Iterator[tuple[list[str], float]]:
    """A running desk: its links, and the seconds until it answered."""
    begin = time.perf_counter()
    elsewhere = ["--bids-dir", str(bids)] if bids else []
    command = [sys.executable, "-m", "veridice", "review", str(output), "--port", "0", "--raters", raters, *elsewhere]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        lines = iter(process.stdout or [])
        links = [re.findall(r"http\S+", next(lines))[0] for _ in raters.split(",")]
        try:
            yield links, time.perf_counter() - begin
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)


@contextmanager
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    found = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield started
        started.close()


def fresh(study: Path, folder: Path) -> Path:
    """A copy of the study that nobody rated."""
    shutil.copytree(study, folder / "study", ignore=shutil.ignore_patterns("review"))
    return folder / "study" / "derivatives" / "veridice"


def keyboard(study: Path, pause: float) -> None:
    """Every scan rated by keyboard, each after ``pause`` seconds of looking."""
    with tempfile.TemporaryDirectory() as folder, desk(fresh(study, Path(folder))) as (links, _), browser() as chromium:
        page = chromium.new_page(viewport={"width": 1400, "height": 860})
        first_load(page, links[0])
        total, waits = time.perf_counter(), []
        while not page.evaluate("document.body.dataset.finished"):
            time.sleep(pause)
            scan, begin = page.evaluate("document.body.dataset.scan"), time.perf_counter()
            page.keyboard.press(random.choice("123"))  # noqa: S311 (no secret)
            page.keyboard.press("Enter")
            page.wait_for_function("old => document.body.dataset.scan !== old || document.body.dataset.finished", arg=scan)
            page.evaluate(DRAWN)
            waits.append(time.perf_counter() - begin)
        seconds = time.perf_counter() - total - pause * len(waits)
    waits.sort()
    sys.stdout.write(
        f"{len(waits)} scans, {pause:g} s of looking at each: {seconds:.1f} s of waiting, "
        f"median {waits[len(waits) // 2]:.2f} s, longest {waits[-1]:.2f} s a scan\n"
    )


def first_load(page: Any, link: str) -> float:
    """Seconds until the first scan is seen."""
    begin = time.perf_counter()
    page.goto(link)
    page.wait_for_selector("body[data-ready]")
    page.evaluate(DRAWN)
    return time.perf_counter() - begin


def first_loads(study: Path) -> None:
    """The first load in a browser that has just started, and in one that runs; nothing is in its cache."""
    with tempfile.TemporaryDirectory() as folder, desk(fresh(study, Path(folder))) as (links, _), browser() as chromium:
        took = []
        for _ in range(5):
            with chromium.new_context(viewport={"width": 1400, "height": 860}) as context:
                took.append(first_load(context.new_page(), links[0]))
    running = ", ".join(f"{seconds:.2f}" for seconds in took[1:])
    sys.stdout.write(f"first load {took[0]:.2f} s in a browser that has just started; then {running} s\n")


def many(study: Path, count: int) -> None:
    """A list of many scans: until the desk answers, until the list is told, until the page has it."""
    from study_scale import copy_many

    with tempfile.TemporaryDirectory(dir=study) as folder:
        bids, output = copy_many(study, Path(folder), count)
        with desk(output, bids=bids) as ((link,), opened), browser() as chromium:
            page = chromium.new_page()
            page.goto(link)
            page.wait_for_selector("body[data-ready]", timeout=120_000)
            begin = time.perf_counter()
            page.reload()
            page.wait_for_selector(".row", timeout=120_000)
            listed = time.perf_counter() - begin
    sys.stdout.write(f"{count} scans: the desk answers after {opened:.1f} s, the page lists them after {listed:.2f} s more\n")


def load(study: Path, seconds: int) -> None:
    """Many raters at once: times of ratings and volumes, and whether every acknowledged rating is in the database."""
    with tempfile.TemporaryDirectory() as folder:
        output = fresh(study, Path(folder))
        names = ",".join(f"R{number}" for number in range(RATERS))
        acknowledged = Path(folder) / "acknowledged.txt"
        with desk(output, names) as (links, _):
            host = links[0].split("/?")[0]
            tokens = ",".join(link.split("token=")[1] for link in links)
            given = {"TOKENS": tokens, "ACKNOWLEDGED": str(acknowledged)}
            command = [sys.executable, "-m", "locust", "-f", __file__, "--headless", "-u", str(RATERS), "-r", "10"]
            more = ["-t", f"{seconds}s", "--host", host, "--json", "--only-summary"]
            done = subprocess.run(
                [*command, *more], env={**os.environ, **given}, capture_output=True, text=True, timeout=seconds + 120
            )
        told = {line.strip() for line in acknowledged.read_text().splitlines()}
        with sqlite3.connect(output / "review" / "ratings.sqlite") as connection:
            kept = {key for (key,) in connection.execute("SELECT key FROM ratings")}
    sys.stdout.write(f"{RATERS} raters for {seconds} s: {len(told)} ratings acknowledged, {len(told - kept)} of them lost\n")
    for row in json.loads(done.stdout[done.stdout.index("[") :]):
        times = sorted((float(key), number) for key, number in row["response_times"].items())
        p95 = next(key for key, _ in times if sum(n for other, n in times if other <= key) >= 0.95 * row["num_requests"])
        size = row["total_content_length"] / max(1, row["num_requests"]) / 1e6
        counts = f"{row['num_requests']} requests, {row['num_failures']} failed"
        sys.stdout.write(f"  {row['name']}: {counts}, p95 {p95:.0f} ms, {size:.2f} MB each\n")


if "TOKENS" in os.environ:  # as Locust imports it
    from locust import HttpUser, between, task

    FREE = os.environ["TOKENS"].split(",")

    class RaterAtWork(HttpUser):
        """Opens a scan, looks, rates it."""

        wait_time = between(3, 6)

        def on_start(self) -> None:
            self.client.headers["Authorization"] = f"Bearer {FREE.pop()}"
            self.scans = [row["scan"] for row in self.client.get("/api/scans").json() if row["status"] == "done"]

        @task
        def rate(self) -> None:
            scan = random.choice(self.scans)  # noqa: S311 (no secret)
            details = self.client.get(f"/api/scans/{scan}", name="details").json()
            for layer in ("flair", "judged_mask"):
                path = f"/api/scans/{scan}/volumes/{layer}?version={details['version']}"
                size = "large " if layer == "flair" and len(self.client.get(path, name="volume").content) > 5e6 else ""
                if size:
                    self.client.get(path, name="volume of 6 MB or more")
            said = {"key": os.urandom(12).hex(), "version": details["version"], "rating": "accept", "seconds": 4.0}
            if self.client.post(f"/api/scans/{scan}/rating", json=said, name="rating").ok:
                with Path(os.environ["ACKNOWLEDGED"]).open("a") as stream:
                    stream.write(said["key"] + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="of make demo-study")
    parser.add_argument("--scans", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=60)
    arguments = parser.parse_args()
    first_loads(arguments.study)
    keyboard(arguments.study, 0.0)
    keyboard(arguments.study, 2.0)
    load(arguments.study, arguments.seconds)
    many(arguments.study, arguments.scans)


if __name__ == "__main__":
    main()
