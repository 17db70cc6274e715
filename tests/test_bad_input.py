"""Bad input: one line that says what and how to mend it, exit code 3, nothing left behind."""

from __future__ import annotations

import gzip
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from veridice import cli
from veridice.io import nifti

Arguments = dict[str, Path]
Spoiler = Callable[[Arguments, Path], None]


def rewrite(path: Path, voxels: np.ndarray | None = None, affine: np.ndarray | None = None) -> None:
    """Write ``path`` again with other voxels or another affine."""
    image = nib.load(path)
    old = np.array(image.dataobj)
    nib.save(nib.Nifti1Image(old if voxels is None else voxels, image.affine if affine is None else affine), path)


def patch(path: Path, offset: int, content: bytes) -> None:
    """Overwrite bytes of the header, which nibabel would put right."""
    whole = bytearray(gzip.decompress(path.read_bytes()))
    whole[offset : offset + len(content)] = content
    path.write_bytes(gzip.compress(whole))


def voxels_of(path: Path) -> np.ndarray:
    return np.array(nib.load(path).dataobj)


def missing(files: Arguments, _: Path) -> None:
    files["flair"].unlink()


def a_folder(files: Arguments, folder: Path) -> None:
    files["flair"] = folder / "scans"
    files["flair"].mkdir()


def a_pipe(files: Arguments, _: Path) -> None:
    files["flair"].unlink()
    os.mkfifo(files["flair"])


def not_nifti(files: Arguments, _: Path) -> None:
    files["flair"].write_bytes(gzip.compress(b"this is no image" * 100))


def not_gzip(files: Arguments, _: Path) -> None:
    files["flair"].write_bytes(b"this is no image" * 100)


def wrong_suffix(files: Arguments, folder: Path) -> None:
    files["flair"] = files["flair"].rename(folder / "flair.dcm")


def truncated_gzip(files: Arguments, _: Path) -> None:
    content = files["flair"].read_bytes()
    files["flair"].write_bytes(content[: len(content) // 2])


def two_volumes(files: Arguments, _: Path) -> None:
    voxels = voxels_of(files["flair"])
    rewrite(files["flair"], np.stack([voxels, voxels], axis=-1))


def complex_voxels(files: Arguments, _: Path) -> None:
    rewrite(files["flair"], voxels_of(files["flair"]).astype(np.complex64))


def rgb_voxels(files: Arguments, _: Path) -> None:
    colours = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
    rewrite(files["flair"], np.zeros(voxels_of(files["flair"]).shape, dtype=colours))


def nan_voxels(files: Arguments, _: Path) -> None:
    voxels = voxels_of(files["flair"]).astype(np.float32)
    voxels[3, 3, 3] = np.nan
    rewrite(files["flair"], voxels)


def infinite_t1(files: Arguments, _: Path) -> None:
    voxels = voxels_of(files["t1"]).astype(np.float32)
    voxels[3, 3, 3] = np.inf
    rewrite(files["t1"], voxels)


def constant(files: Arguments, _: Path) -> None:
    rewrite(files["flair"], np.full_like(voxels_of(files["flair"]), 7))


def empty_image(files: Arguments, _: Path) -> None:
    rewrite(files["flair"], np.zeros_like(voxels_of(files["flair"])))


def lying_header(files: Arguments, folder: Path) -> None:
    content = bytearray(gzip.decompress(files["flair"].read_bytes()))
    content[42:48] = np.array([2000, 2000, 200], dtype="<i2").tobytes()
    files["flair"] = folder / "lying.nii"
    files["flair"].write_bytes(content)


def gigantic_header(files: Arguments, _: Path) -> None:
    patch(files["flair"], 42, np.array([30000, 30000, 30000], dtype="<i2").tobytes())


def singular_affine(files: Arguments, _: Path) -> None:
    patch(files["flair"], 280, bytes(16))  # srow_x


def no_affine(files: Arguments, _: Path) -> None:
    patch(files["flair"], 252, bytes(4))  # qform_code, sform_code


def mask_on_another_grid(files: Arguments, _: Path) -> None:
    affine = nib.load(files["mask"]).affine.copy()
    affine[2, 3] += 2
    rewrite(files["mask"], affine=affine)


def labels_in_mask(files: Arguments, _: Path) -> None:
    rewrite(
        files["mask"], (np.arange(voxels_of(files["mask"]).size) % 3).reshape(voxels_of(files["mask"]).shape).astype(np.uint8)
    )


def percentages_in_mask(files: Arguments, _: Path) -> None:
    rewrite(files["mask"], 100 * np.random.default_rng(0).random(voxels_of(files["mask"]).shape).astype(np.float32))


def nan_in_mask(files: Arguments, _: Path) -> None:
    voxels = voxels_of(files["mask"]).astype(np.float32)
    voxels[2, 2, 2] = np.nan
    rewrite(files["mask"], voxels)


def empty_brain_mask(files: Arguments, folder: Path) -> None:
    files["brain-mask"] = folder / "brain.nii.gz"
    shutil.copy(files["mask"], files["brain-mask"])
    rewrite(files["brain-mask"], np.zeros_like(voxels_of(files["mask"])))


def output_is_a_file(files: Arguments, folder: Path) -> None:
    files["output"] = folder / "file"
    files["output"].write_text("x")


def mask_in_place_of_a_result(files: Arguments, folder: Path) -> None:
    files["output"] = folder / "input"
    files["mask"] = files["mask"].rename(folder / "input" / "sub-1_label-lesion_mask.nii.gz")


def weights_missing(files: Arguments, _: Path) -> None:
    (files["weights"] / "segmenter.safetensors").unlink()


def weights_damaged(files: Arguments, _: Path) -> None:
    path = files["weights"] / "reconstructor.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def weights_of_another_network(files: Arguments, _: Path) -> None:
    for suffix in (".json", ".safetensors"):
        shutil.copy(files["weights"] / f"regressor-error{suffix}", files["weights"] / f"regressor-image{suffix}")


CASES: list[tuple[Spoiler, str]] = [
    (missing, "no such file"),
    (a_folder, "holds no DICOM series"),
    (a_pipe, "is a device or a pipe"),
    (not_nifti, "not a readable image file"),
    (not_gzip, "flair.nii.gz"),
    (wrong_suffix, "of DICOM give the folder"),
    (truncated_gzip, "damaged or cut short"),
    (two_volumes, "holds 2 volumes"),
    (complex_voxels, "complex numbers"),
    (rgb_voxels, "RGB colours"),
    (nan_voxels, "1 voxels are NaN or infinite"),
    (infinite_t1, "t1.nii.gz: 1 voxels are NaN or infinite"),
    (constant, "every voxel is 7"),
    (empty_image, "every voxel is 0"),
    (lying_header, "more than the file can hold"),
    (gigantic_header, "more than the file can hold"),
    (singular_affine, "singular"),
    (no_affine, "where it lies in space"),
    (mask_on_another_grid, "mask.nii.gz: its grid is"),
    (labels_in_mask, "neither a binary mask nor probabilities"),
    (percentages_in_mask, "give --mask-threshold"),
    (nan_in_mask, "mask.nii.gz: holds NaN"),
    (empty_brain_mask, "brain.nii.gz: the brain mask is empty"),
    (output_is_a_file, "give a folder"),
    (mask_in_place_of_a_result, "would be overwritten"),
    (weights_missing, "no such weights"),
    (weights_damaged, "damaged or altered"),
    (weights_of_another_network, "card"),
]


def command(files: Arguments) -> list[str]:
    options = [f"--{name}={path}" for name, path in files.items()]
    return ["check", "--passes=2", *options]


@pytest.mark.parametrize(("spoil", "said"), CASES, ids=[spoil.__name__ for spoil, _ in CASES])
def test_bad_input_ends_in_one_line_and_exit_3(
    spoil: Spoiler, said: str, scan_files: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(scan_files, tmp_path)
    existed = scan_files["output"].exists()
    assert cli.run(command(scan_files)) == 3
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if line.strip()]
    assert len(lines) == 1
    assert said in lines[0]
    assert printed.out == ""
    assert scan_files["output"].exists() == existed


def test_more_voxels_than_memory(
    scan_files: Arguments, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nifti, "_available_memory", lambda: 1000)
    assert cli.run(command(scan_files)) == 3
    assert "GiB of memory" in capsys.readouterr().err


def test_an_output_folder_without_write_permission(
    scan_files: Arguments, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    # The tests may run as root, whom no permission stops.
    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    assert cli.run(command(scan_files)) == 3
    assert "cannot be written (Permission denied)" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_half_written(scan_files: Arguments) -> None:
    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    scan_files["output"].mkdir()
    (scan_files["output"] / "earlier.txt").write_text("kept")
    done = subprocess.run(
        [sys.executable, "-m", "veridice", *command(scan_files)],
        preexec_fn=small_files_only,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "no room left" in done.stderr
    assert "Traceback" not in done.stderr
    assert [p.name for p in scan_files["output"].iterdir()] == ["earlier.txt"]


def test_swapped_images_are_warned_about(scan_files: Arguments, capsys: pytest.CaptureFixture[str]) -> None:
    scan_files["t1"] = scan_files["flair"]
    assert cli.run(command(scan_files)) == 0
    assert "same image" in capsys.readouterr().out
