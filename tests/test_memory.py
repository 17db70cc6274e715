"""How much memory the largest scan takes that anybody makes: a whole head at half a millimetre."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from veridice.imaging.volume import Geometry, Volume
from veridice.io.nifti import read_image, write_image

SHAPE = (400, 500, 360)
MOST_GIB = 6.0
DEMO = Path(str(resources.files("veridice") / "demo"))


@pytest.mark.slow
def test_half_a_millimetre_takes_less_than_6_gib(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("FLAIR", "T1w", "label-lesion_mask"):
        image = read_image(DEMO / f"sub-lesjak19_{name}.nii.gz")
        factors = np.array(SHAPE) / image.shape
        large = ndimage.zoom(image.voxels, factors, order=1, grid_mode=True, mode="nearest")
        large = large > 0.5 if name.startswith("label") else large
        write_image(tmp_path / f"{name}.nii", Volume(large, Geometry(SHAPE, np.diag([0.5, 0.5, 0.5, 1]))))
    options = ["--flair=FLAIR.nii", "--t1=T1w.nii", "--mask=label-lesion_mask.nii", "-o", "out"]
    process = subprocess.Popen([sys.executable, "-m", "veridice", "check", *options], cwd=tmp_path, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    peak = usage.ru_maxrss / 2**20
    with capsys.disabled():
        sys.stdout.write(
            f"\n{SHAPE} voxels of half a millimetre: {peak:.2f} GiB at most, {usage.ru_utime:.0f} s of processor\n"
        )
    assert os.waitstatus_to_exitcode(status) == 0
    assert peak < MOST_GIB
