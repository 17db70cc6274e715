"""What a command need not load, it does not load: seconds of every start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"lightning", "mapie", "matplotlib", "monai", "pandas", "pyarrow", "sklearn", "tensorboard", "torchio", "vl_convert"}
SCIENTIFIC = {"nibabel", "numpy", "scipy", "SimpleITK", "torch"}


def modules_after(arguments: list[str]) -> set[str]:
    code = (
        "import json, sys\n"
        "from veridice import cli\n"
        f"code = cli.run({arguments!r})\n"
        "sys.stderr.write(json.dumps([code, sorted({name.split('.')[0] for name in sys.modules})]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    ending, names = json.loads(done.stderr.splitlines()[-1])
    assert ending == 0, done.stderr
    return set(names)


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_the_command_line_answers_without_any_science(argument: str) -> None:
    assert not modules_after([argument]) & (HEAVY | SCIENTIFIC)


def test_judging_a_scan_loads_no_library_that_it_does_not_need(scan_files: dict[str, Path]) -> None:
    loaded = modules_after(["check", "--passes=2", *[f"--{name}={path}" for name, path in scan_files.items()]])
    assert not loaded & HEAVY


def test_a_study_is_planned_without_torch(scan_files: dict[str, Path], tmp_path: Path) -> None:
    anat = tmp_path / "study" / "sub-1" / "anat"
    anat.mkdir(parents=True)
    (anat / "sub-1_FLAIR.nii.gz").write_bytes(scan_files["flair"].read_bytes())
    (tmp_path / "study" / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.10.0"}')
    plan = ["run", str(tmp_path / "study"), str(tmp_path / "out"), "participant", "--dry-run"]
    assert "torch" not in modules_after([*plan, f"--weights={scan_files['weights']}"])
