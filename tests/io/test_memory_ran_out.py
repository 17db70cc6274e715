"""Memory that runs out is said as such, whoever runs out of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from veridice import cli
from veridice.assessment import check
from veridice.io.memory import available_memory, memory_ran_out

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
    assert said.startswith("the memory ran out: ") and "of this machine are free" in said
    assert any(text in said for text in needed.split("|"))


def test_a_graphics_card_that_runs_out_is_named() -> None:
    error = RuntimeError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 8 GiB")
    assert memory_ran_out(error).startswith("the memory of the graphics card ran out: 2.50 GiB more were needed")


@pytest.mark.parametrize("error", [RuntimeError("size mismatch"), ValueError("out of memory of what was said"), KeyError(1)])
def test_other_errors_are_no_memory(error: Exception) -> None:
    assert memory_ran_out(error) == ""


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes.")]
)
def test_the_command_says_it_in_one_line(
    error: Exception, scan_files: dict[str, Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_out(*_: object) -> None:
        raise error

    monkeypatch.setattr(check, "assess_masks", run_out)
    arguments = [f"--{name}={scan_files[name]}" for name in ("flair", "mask", "weights", "output")]
    assert cli.run(["check", "--passes=2", *arguments]) == 3
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("veridice: the memory ran out: ")
    assert not scan_files["output"].exists()


def test_free_memory_is_known() -> None:
    assert 2**20 < available_memory() < 2**50
