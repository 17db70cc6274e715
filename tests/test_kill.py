"""``veridice check`` interrupted and killed in each of its stages, on the real scan: nothing half-written, nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import nibabel as nib
import pytest

DEMO = Path(str(resources.files("veridice") / "demo"))
Moment = Callable[[Path, float], bool]
"""Whether it has come, from the output folder and the seconds since the start."""


def start(output: Path) -> subprocess.Popen[str]:
    images = [f"--{name}={DEMO / f'sub-lesjak19_{file}.nii.gz'}" for name, file in (("flair", "FLAIR"), ("t1", "T1w"))]
    command = [sys.executable, "-m", "veridice", "check", *images, "--passes=4", "-o", str(output)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **pipes, text=True, env=environment, preexec_fn=listening)


def listening() -> None:
    """In a background job, as the tests may be one, Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


TIMES = {"started": 0.0, "first": 0.0, "written": 0.0}
"""Of the clock when a run began; seconds until an undisturbed one had its hidden folder, and its first map."""


def staged(output: Path) -> list[str]:
    return [file.name for stage in output.glob(".veridice-*/") for file in stage.iterdir()]


def reading(output: Path, _: float) -> bool:
    return bool(staged(output))


def writing(output: Path, _: float) -> bool:
    return any(name.endswith(".nii.gz") for name in staged(output))


def reporting(output: Path, _: float) -> bool:
    return any(name.endswith("_veridice.json") for name in staged(output))


def moving(output: Path, _: float) -> bool:
    return not any(name.endswith("_veridice.json") for name in staged(output)) and any(
        file.stat().st_mtime > TIMES["started"] for file in output.glob("sub-*")
    )


def after(share: float) -> Moment:
    """At this share of the way from the first sign of life to the first map."""

    def come(_: Path, seconds: float) -> bool:
        first, written = TIMES["first"], TIMES["written"]
        return seconds >= first + share * (written - first)

    return come


MOMENTS: dict[str, Moment] = {
    "loading libraries": lambda _, seconds: seconds > 1.0,
    "reading": reading,
    "a tenth": after(0.1),
    "a quarter": after(0.25),
    "half": after(0.5),
    "three quarters": after(0.75),
    "nine tenths": after(0.9),
    "writing": writing,
    "reporting": reporting,
    "moving": moving,
}


@dataclass(frozen=True)
class Ending:
    code: int
    errors: list[str]


def end_at(moment: Moment, kind: signal.Signals, output: Path) -> Ending:
    """Start, wait for the moment, send the signal."""
    TIMES["started"] = time.time()
    begun, process = time.monotonic(), start(output)
    while process.poll() is None and not moment(output, time.monotonic() - begun):
        time.sleep(0.001)
    process.send_signal(kind)
    _, errors = process.communicate(timeout=120)
    return Ending(process.returncode, [line for line in errors.splitlines() if line.strip()])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of a run that nobody disturbs; when its stages came is noted."""
    output = tmp_path_factory.mktemp("kill") / "out"
    begun, process, first = time.monotonic(), start(output), 0.0
    while process.poll() is None and not writing(output, 0):
        first = first or (time.monotonic() - begun if reading(output, 0) else 0.0)
        time.sleep(0.001)
    TIMES.update(first=first, written=time.monotonic() - begun)
    process.communicate(timeout=120)
    assert process.returncode == 0
    return output


def require_whole(output: Path) -> None:
    """Every file can be read, and an assessment that lies there has all of its maps and tables."""
    for file in output.glob("*.nii.gz"):
        assert nib.load(file).get_fdata().size
    for file in output.glob("*.json"):
        json.loads(file.read_text())
    for file in output.glob("*_veridice.json"):
        row = json.loads(file.read_text())
        assert all((output / name).is_file() for name in [*row["maps"].values(), *row["tables"].values()])
        assert (output / file.name.replace("_veridice.json", "_report.html")).read_text().rstrip().endswith("</html>")


def contents(output: Path) -> dict[str, int]:
    return {file.name: file.stat().st_size for file in output.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("name", MOMENTS)
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(name: str, kind: signal.Signals, undisturbed: Path, tmp_path: Path) -> None:
    if kind == signal.SIGTERM and name not in ("loading libraries", "half", "moving"):
        pytest.skip("handled as SIGINT is")
    output = tmp_path / "out"
    ending = end_at(MOMENTS[name], kind, output)
    if ending.code == 0 and name == "moving":
        require_whole(output)
        assert contents(output).keys() == contents(undisturbed).keys()
        return
    assert ending.code == 130, ending.errors
    assert ending.errors == ["veridice: interrupted; nothing half-written was left"]
    if output.exists():
        require_whole(output)
        assert contents(output).keys() == contents(undisturbed).keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["half", "writing", "reporting", "moving"])
def test_earlier_results_survive_an_interruption(name: str, undisturbed: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    shutil.copytree(undisturbed, output)
    assert end_at(MOMENTS[name], signal.SIGINT, output).code in ((0, 130) if name == "moving" else (130,))
    require_whole(output)
    assert contents(output).keys() == contents(undisturbed).keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", MOMENTS)
def test_killed(name: str, undisturbed: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    if name == "moving":
        shutil.copytree(undisturbed, output)
    assert end_at(MOMENTS[name], signal.SIGKILL, output).code in (-signal.SIGKILL, 0)
    if output.exists():
        require_whole(output)
    process = start(output)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    require_whole(output)
    assert contents(output).keys() == contents(undisturbed).keys()


@pytest.mark.slow
def test_two_runs_into_one_folder(undisturbed: Path, tmp_path: Path) -> None:
    runs = [start(tmp_path) for _ in range(2)]
    for run in runs:
        _, errors = run.communicate(timeout=240)
        assert run.returncode == 0, errors
    require_whole(tmp_path)
    assert contents(tmp_path).keys() == contents(undisturbed).keys()
