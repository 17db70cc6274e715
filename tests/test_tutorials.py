"""The tutorials do what they say: every block is run, on tiny scans by default, and as it stands as a slow test."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from command import one_after_the_other

import veridice
from veridice import cli
from veridice.imaging.volume import Volume
from veridice.io.nifti import write_image

ROOT = Path(__file__).parents[1]
TUTORIALS = sorted((ROOT / "docs/tutorials").glob("*.md"))
BLOCK = re.compile(r"^```(bash|python)( notebook)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
FEW = 4
"""Scans that the test judges one by one."""

each_tutorial = pytest.mark.parametrize("page", TUTORIALS, ids=lambda page: page.stem)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of each; those of the notebook interface are ``notebook``."""
    return [(match[1] if not match[2] else "notebook", match[3]) for match in BLOCK.finditer(page.read_text(encoding="utf-8"))]


def runs_in_a_notebook() -> bool:
    return all(hasattr(veridice, name) for name in ("check", "load_models"))


@each_tutorial
def test_tutorial_on_tiny_scans(
    page: Path, tiny_scan: dict[str, Volume], tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What simulating makes is put there; every other command is run, with tiny networks and two passes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("veridice.parallel.in_processes", one_after_the_other)
    names: dict[str, Any] = {}
    for language, text in blocks(page):
        if language == "bash":
            for line in text.splitlines():
                run_line(line, tiny_scan, tiny_weights)
        elif language == "python":
            exec(compile(text, page.name, "exec"), names)  # noqa: S102
        else:
            compile(text, page.name, "exec")


def run_line(line: str, scan: dict[str, Volume], weights: Path) -> None:
    program, *arguments = shlex.split(line)
    if program != "veridice":
        subprocess.run(["bash", "-c", line], check=True)
        return
    target = None
    if ">" in arguments:
        place = arguments.index(">")
        arguments, target = arguments[:place], Path(arguments[place + 1])
    if arguments[0] == "simulate":
        command = typer.main.get_command(cli.app).commands["simulate"]
        asked = command.make_context("simulate", arguments[1:]).params
        write_tiny_cohort(Path(asked["output"]), asked["patients"], asked["visits"], scan)
        return
    many = arguments[0] == "run" and "participant" in arguments and count_scans(Path(arguments[1])) > FEW
    tiny = ["--passes=2", f"--weights={weights}"] if arguments[0] in ("check", "run", "compare") else []
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert cli.run([*arguments, *tiny, *(["--participant-label", "001"] if many else [])]) == 0, line
    if many:
        copy_result(Path(arguments[2]), count_scans(Path(arguments[1])))
    if target:
        target.write_text(printed.getvalue())


def count_scans(folder: Path) -> int:
    return len(list(folder.glob("sub-*")))


def copy_result(output: Path, scans: int) -> None:
    """One scan's result for all: of many alike, judging one is enough here. Its mask counts as one with lesions."""
    for number in range(2, scans + 1):
        for path in [path for path in (output / "sub-001").rglob("*") if path.is_file()]:
            copy = output / str(path.relative_to(output)).replace("sub-001", f"sub-{number:03}")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    for path in output.glob("sub-*/**/*_veridice.json"):
        stored = json.loads(path.read_text().replace("sub-001", path.name.split("_")[0]))
        stored["scores"]["lesion_count"] = 1
        path.write_text(json.dumps(stored))


def write_tiny_cohort(folder: Path, patients: int, visits: int, scan: dict[str, Volume]) -> None:
    """What ``veridice simulate`` leaves, of the tiny scan with other noise for each."""
    rng = np.random.default_rng(0)
    for number, visit in product(range(1, patients + 1), range(1, visits + 1)):
        name = f"sub-{number:03}" + (f"_ses-{visit}" if visits > 1 else "")
        place = Path(*name.split("_")) / "anat"
        anat, truth = folder / place, folder / "derivatives/truth" / place
        anat.mkdir(parents=True)
        truth.mkdir(parents=True)
        for suffix, volume in (("FLAIR", scan["flair"]), ("T1w", scan["t1"])):
            noise = rng.normal(0, 5, volume.voxels.shape) * (volume.voxels > 0)
            write_image(anat / f"{name}_{suffix}.nii.gz", volume.with_voxels((volume.voxels + noise).astype(np.float32)))
        lesion = scan["flair"].with_voxels(scan["flair"].voxels > 750)
        write_image(truth / f"{name}_label-lesion_mask.nii.gz", lesion)
    (folder / "dataset_description.json").write_text(json.dumps({"Name": "tiny", "BIDSVersion": "1.10.0"}))


@pytest.mark.slow
@each_tutorial
def test_tutorial_as_it_stands(page: Path, tmp_path: Path) -> None:
    """With the weights that ship; a notebook's block only where there is such an interface."""
    program = tmp_path / "bin/veridice"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m veridice "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{program.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}
    work = tmp_path / "work"
    work.mkdir()
    known = ""
    for language, text in blocks(page):
        if language == "bash":
            subprocess.run(["bash", "-euo", "pipefail", "-c", text], check=True, cwd=work, env=environment)
            continue
        if language == "notebook" and not runs_in_a_notebook():
            continue
        known += text  # a reader's session goes on from block to block
        subprocess.run([sys.executable, "-c", known], check=True, cwd=work, env=environment)
