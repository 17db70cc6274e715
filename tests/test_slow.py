"""Tests that take longer: killing a training, training on two devices."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

STEPS = ("steps = 4", "steps = 60")


def command(study: Path, run: str) -> list[str]:
    options = {"manifest": "manifest.csv", "data": ".", "config": "tiny.toml", "output": run}
    return [
        sys.executable,
        "-m",
        "veridice",
        "train",
        "segmenter",
        *[f"--{name}={study / value}" for name, value in options.items()],
    ]


def configure(study: Path, *changes: tuple[str, str]) -> None:
    text = (study / "tiny.toml").read_text()
    for old, new in changes:
        text = text.replace(old, new, 1)
    (study / "tiny.toml").write_text(text)


@pytest.mark.slow
def test_a_training_killed_anywhere_ends_as_if_it_had_not_been(study: Path) -> None:
    configure(study, STEPS, ("validate_every = 2", "validate_every = 10\ncheckpoint_every = 3"))
    subprocess.run(command(study, "undisturbed"), check=True, timeout=300, capture_output=True)
    checkpoint = study / "disturbed" / "segmenter" / "checkpoint.pt"
    for _ in range(4):
        process = subprocess.Popen(command(study, "disturbed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        deadline = time.monotonic() + 60
        # Killed soon after it has made some way, at a moment of its own.
        while process.poll() is None and time.monotonic() < deadline:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
                break
            time.sleep(0.01)
        time.sleep(0.05)
        process.kill()
        process.wait()
    subprocess.run(command(study, "disturbed"), check=True, timeout=300, capture_output=True)
    weights = [(study / run / "weights" / "segmenter.safetensors").read_bytes() for run in ("undisturbed", "disturbed")]
    assert weights[0] == weights[1]
    metrics = [(study / run / "segmenter" / "metrics.csv").read_text().splitlines() for run in ("undisturbed", "disturbed")]
    assert [row.split(",")[0] for row in metrics[0]] == [row.split(",")[0] for row in metrics[1]]


@pytest.mark.slow
def test_two_devices_share_the_steps(study: Path) -> None:
    configure(study, ("steps = 4", "steps = 4\ndevices = 2"))
    done = subprocess.run(command(study, "run"), timeout=300, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (study / "run" / "weights" / "segmenter.safetensors").is_file()
    assert (study / "run" / "segmenter" / "metrics.csv").read_text().splitlines()[-1].startswith("4,")
