"""Memory that runs out is said as such, whoever runs out of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from veridice import cli
from veridice.io.memory import _free_of_group, available_memory, memory_ran_out

TOO_MUCH = {
    "numpy": (lambda: np.empty(10**14), "727.6 TiB|728. TiB"),
    "torch": (lambda: torch.empty(10**14), "372529.0 GiB"),
    "ITK": (lambda: sitk.Image([60000, 60000, 60000], sitk.sitkFloat32), "more was needed"),
    "Python": (lambda: bytearray(10**15), "more was needed"),
}


@pytest.mark.parametrize("library", TOO_MUCH)
def test_every_library_that_runs_out_is_understood(library: str) -> None:
    ask, needed = TOO_MUCH[library]
    with pytest.raises((MemoryError, RuntimeError)) as caught:
        ask()
    said = memory_ran_out(caught.value)
    assert said.startswith("the memory ran out: ") and " are free; " in said
    assert any(text in said for text in needed.split("|"))


def test_a_graphics_card_that_runs_out_is_named() -> None:
    error = RuntimeError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 8 GiB")
    assert memory_ran_out(error).startswith("the memory of the graphics card ran out: 2.50 GiB more were needed")


@pytest.mark.parametrize("error", [RuntimeError("size mismatch"), ValueError("out of memory of what was said"), KeyError(1)])
def test_other_errors_are_no_memory(error: Exception) -> None:
    assert memory_ran_out(error) == ""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("could not create a primitive"),
        RuntimeError("Exception from core.cpp:117: can't alloc "),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."),
    ],
)
def test_the_command_says_it_in_one_line(
    error: Exception, scan_files: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*_: object) -> None:
        raise error

    monkeypatch.setattr("veridice.assessment.assess.assess_masks", run_out)
    arguments = [f"--{name}={scan_files[name]}" for name in ("flair", "mask", "weights", "output")]
    assert cli.run(["check", "--passes=2", *arguments]) == 3
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("veridice: the memory ran out: ")
    assert not scan_files["output"].exists()


def test_free_memory_is_known() -> None:
    assert 2**20 < available_memory() < 2**50


def test_the_limits_of_a_container_count(tmp_path: Path) -> None:
    job = tmp_path / "job" / "step"
    job.mkdir(parents=True)
    (tmp_path / "own").write_text("1:name=systemd:/x\n0::/job/step\n")
    for place, most in ((job, "max"), (job.parent, str(5 * 2**30))):
        for name, text in (("max", most), ("current", str(3 * 2**30)), ("stat", f"anon 1\ninactive_file {2**30}\n")):
            (place / f"memory.{name}").write_text(text + "\n")
    assert _free_of_group(tmp_path, tmp_path / "own") == 3 * 2**30
    assert _free_of_group(tmp_path, tmp_path / "absent") > 2**60


def test_a_limited_process_is_told_what_is_free_for_it(scan_files: dict[str, Path]) -> None:
    files = " ".join(f"--{name}={scan_files[name]}" for name in ("flair", "weights", "output"))
    code = (
        "import resource, sys; from veridice import cli; from veridice.io.memory import available_memory; "
        "size = int(open('/proc/self/statm').read().split()[0]) * 4096; "
        "resource.setrlimit(resource.RLIMIT_AS, (size + 2**23,) * 2); assert available_memory() <= 2**23; "
        f"sys.exit(cli.run('check {files}'.split()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1), done.stderr
    assert "memory" in done.stderr
