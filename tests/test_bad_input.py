"""Bad input, row by row: one line that says what and how to mend it, exit code 3 (2 for wrong usage), nothing left behind."""

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
from filelock import FileLock
from test_nifti import write_dicom

from veridice import cli
from veridice.io import atomic, image_file
from veridice.io.image_header import ImageHeader

Arguments = dict[str, Path]
Spoiler = Callable[[Arguments, Path], None]


def image_of(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nib.load(path)
    return np.array(image.dataobj), image.affine.copy()


def voxels(change: Callable[[np.ndarray], np.ndarray], name: str = "flair") -> Spoiler:
    """Write the file again with other voxels."""

    def spoil(files: Arguments, _: Path) -> None:
        old, affine = image_of(files[name])
        nib.save(nib.Nifti1Image(change(old), affine), files[name])

    return spoil


def affine(change: Callable[[np.ndarray], np.ndarray], name: str = "flair") -> Spoiler:
    """Write the file again with another affine."""

    def spoil(files: Arguments, _: Path) -> None:
        old, place = image_of(files[name])
        nib.save(nib.Nifti1Image(old, change(place)), files[name])

    return spoil


def patched(patches: dict[int, bytes], name: str = "flair") -> Spoiler:
    """Overwrite bytes of the header, which nibabel would put right."""

    def spoil(files: Arguments, _: Path) -> None:
        whole = bytearray(gzip.decompress(files[name].read_bytes()))
        for offset, content in patches.items():
            whole[offset : offset + len(content)] = content
        files[name].write_bytes(gzip.compress(whole))

    return spoil


def content(change: Callable[[bytes], bytes], name: str = "flair") -> Spoiler:
    """Change the bytes of the file as it lies there."""

    def spoil(files: Arguments, _: Path) -> None:
        files[name].write_bytes(change(files[name].read_bytes()))

    return spoil


def named(file: str, change: Callable[[bytes], bytes] = bytes) -> Spoiler:
    """Give the FLAIR another name, and perhaps other bytes."""

    def spoil(files: Arguments, folder: Path) -> None:
        (folder / file).write_bytes(change(files["flair"].read_bytes()))
        files["flair"] = folder / file

    return spoil


def dicom(change: Callable[[Path], object], series: tuple[int, ...] = (1,)) -> Spoiler:
    """Give a folder of DICOM files instead."""

    def spoil(files: Arguments, folder: Path) -> None:
        files["flair"] = folder / "series"
        for number in series:
            write_dicom(files["flair"], np.random.default_rng(0).integers(1, 900, (8, 9, 7)), number)
        change(files["flair"])

    return spoil


def path_of(option: str, file: str) -> Spoiler:
    """Give this path for an option."""

    def spoil(files: Arguments, folder: Path) -> None:
        files[option] = folder / file

    return spoil


def link(option: str, target: str) -> Spoiler:
    """Give a link for an option."""

    def spoil(files: Arguments, folder: Path) -> None:
        files[option] = folder / "link.nii.gz"
        files[option].symlink_to(folder / target)

    return spoil


def i16(*values: int) -> bytes:
    return np.array(values, "<i2").tobytes()


def f32(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


def with_block(value: float) -> Callable[[np.ndarray], np.ndarray]:
    """An island of 2 x 2 x 2 voxels."""

    def change(old: np.ndarray) -> np.ndarray:
        new = old.astype(np.float64)
        new[3:5, 3:5, 3:5] = value
        return new

    return change


def with_hole(value: float) -> Callable[[np.ndarray], np.ndarray]:
    """A third of the head along each axis."""

    def change(old: np.ndarray) -> np.ndarray:
        new = old.astype(np.float64)
        new[tuple(slice(n // 3, 2 * n // 3) for n in new.shape)] = value
        return new

    return change


def scaled_columns(*factors: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda place: place @ np.diag([*factors, 1.0])


def moved(shift: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda place: place + np.array([[0, 0, 0, shift]] * 3 + [[0] * 4])


def a_pipe(files: Arguments, _: Path) -> None:
    files["flair"].unlink()
    os.mkfifo(files["flair"])


def a_folder(files: Arguments, folder: Path) -> None:
    files["flair"] = folder / "scans"
    files["flair"].mkdir()


def uncompressed(change: Callable[[bytes], bytes]) -> Spoiler:
    return named("flair.nii", lambda whole: change(gzip.decompress(whole)))


def bomb(whole: bytes) -> bytes:
    """A thousand million voxels that a file of this size could hold."""
    header = bytearray(gzip.decompress(whole)[:352])
    header[42:48], header[70:74] = i16(1000, 1000, 1000), i16(2, 8)
    return gzip.compress(header + bytes(4096)) + np.random.default_rng(0).bytes(2**20)


def a_pair(gone: str, size: int | None = None) -> Spoiler:
    """Give a NIfTI pair by the file that is left, or by one whose voxels are cut."""

    def spoil(files: Arguments, folder: Path) -> None:
        old, place = image_of(files["flair"])
        nib.save(nib.Nifti1Pair(old, place), folder / "flair.img")
        (folder / "flair.img").write_bytes((folder / "flair.img").read_bytes()[:size])
        files["flair"] = folder / ("flair.hdr" if gone == "img" else "flair.img")
        if gone:
            (folder / f"flair.{gone}").unlink()

    return spoil


def one_dicom_file(files: Arguments, folder: Path) -> None:
    dicom(lambda _: None)(files, folder)
    files["flair"] = files["flair"] / "1-3.dcm"


def unfetched(path: Path) -> None:
    path.unlink()
    path.symlink_to(f"../.git/annex/objects/x1/{path.name}")


def on_a_template(name: str) -> Spoiler:
    """MNI152 at 2 mm, as FSL has it."""

    def spoil(files: Arguments, _: Path) -> None:
        place = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
        new = np.zeros((91, 109, 91), np.float32)
        new[40:50, 50:60, 40:50] = 1
        nib.save(nib.Nifti1Image(new, place), files[name])

    return spoil


def template_code(name: str) -> Spoiler:
    """Another grid of the same space, whose header says that it is MNI."""

    def spoil(files: Arguments, _: Path) -> None:
        old, place = image_of(files[name])
        image = nib.Nifti1Image(old[1:], place)
        image.set_sform(place, "mni")
        nib.save(image, files[name])

    return spoil


def empty_brain_mask(files: Arguments, folder: Path) -> None:
    files["brain-mask"] = folder / "brain.nii.gz"
    old, place = image_of(files["mask"])
    nib.save(nib.Nifti1Image(np.zeros_like(old), place), files["brain-mask"])


def brain_mask_elsewhere(files: Arguments, folder: Path) -> None:
    files["brain-mask"] = folder / "brain.nii.gz"
    old, place = image_of(files["mask"])
    nib.save(nib.Nifti1Image(old[1:], moved(300)(place)), files["brain-mask"])


def output_is_a_file(files: Arguments, folder: Path) -> None:
    files["output"] = folder / "file"
    files["output"].write_text("x")


def output_below_a_file(files: Arguments, folder: Path) -> None:
    (folder / "file").write_text("x")
    files["output"] = folder / "file" / "out"


def a_folder_in_place_of_a_result(files: Arguments, _: Path) -> None:
    (files["output"] / "sub-1_desc-entropy_uncertainty.nii.gz").mkdir(parents=True)


def mask_in_place_of_a_result(files: Arguments, folder: Path) -> None:
    files["output"] = folder / "input"
    files["mask"] = files["mask"].rename(folder / "input" / "sub-1_label-lesion_mask.nii.gz")


def weights_missing(files: Arguments, _: Path) -> None:
    (files["weights"] / "segmenter.safetensors").unlink()


def weights_damaged(files: Arguments, _: Path) -> None:
    path = files["weights"] / "reconstructor.safetensors"
    whole = bytearray(path.read_bytes())
    whole[-1] ^= 1
    path.write_bytes(whole)


def weights_of_another_network(files: Arguments, _: Path) -> None:
    for suffix in (".json", ".safetensors"):
        shutil.copy(files["weights"] / f"regressor-error{suffix}", files["weights"] / f"regressor-image{suffix}")


def calibration(whole: bytes) -> Spoiler:
    def spoil(files: Arguments, folder: Path) -> None:
        files["calibration"] = folder / "calibration.json"
        files["calibration"].write_bytes(whole)

    return spoil


COLOURS = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
RNG = np.random.default_rng(0)
SHEAR = np.eye(4) + 0.25 * np.eye(4, k=2) @ np.diag([0, 0, 1.0, 0]) * 4.5 / 7

PATHS: dict[str, tuple[Spoiler, str]] = {
    "missing": (path_of("flair", "none.nii.gz"), "none.nii.gz: no such file"),
    "below a file": (path_of("flair", "input/t1.nii.gz/flair.nii.gz"), "no such file"),
    "link to nothing": (link("flair", "nothing.nii.gz"), "no such file"),
    "link to itself": (link("flair", "link.nii.gz"), "no such file"),
    "name too long": (path_of("flair", "a" * 300 + ".nii.gz"), "cannot be read (File name too long)"),
    "empty folder": (a_folder, "holds no DICOM series"),
    "pipe": (a_pipe, "is a device or a pipe"),
    "device": (path_of("flair", "/dev/null"), "is a device or a pipe"),
    "T1w missing": (path_of("t1", "none.nii.gz"), "none.nii.gz: no such file"),
    "mask missing": (path_of("mask", "none.nii.gz"), "none.nii.gz: no such file"),
    "brain mask missing": (path_of("brain-mask", "none.nii.gz"), "none.nii.gz: no such file"),
}
KINDS: dict[str, tuple[Spoiler, str]] = {
    "Analyze": (named("flair.hdr", lambda whole: gzip.decompress(whole)[:344] + bytes(8)), "left and right"),
    "one DICOM file": (one_dicom_file, "of DICOM give the folder"),
    "unknown kind": (named("flair.nrrd", lambda _: b"NRRD0004" * 99), "no image file"),
    "pair without voxels": (a_pair("img"), "its voxels flair.img is missing"),
    "pair without header": (a_pair("hdr"), "its header flair.hdr is missing"),
    "pair cut short": (a_pair("", 1000), "more than the file can hold"),
    "not fetched by git-annex": (link("flair", ".git/annex/objects/x1/MD5-s1.nii.gz"), "datalad get link.nii.gz"),
    "pointer of git-annex": (content(lambda _: b"/annex/objects/MD5E-s5--1.nii.gz\n"), "datalad get sub-1_flair.nii.gz"),
    "pointer of Git LFS": (content(lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:1"), "git lfs pull"),
    "mask not fetched": (link("mask", ".git/annex/objects/x1/MD5-s1.nii.gz"), "its content was not fetched"),
    "text": (content(lambda _: b"this is no image" * 100), "flair.nii.gz"),
    "text in gzip": (content(lambda _: gzip.compress(b"this is no image" * 100)), "not a readable image file"),
    "nothing": (content(lambda _: b""), "flair.nii.gz"),
    "gzip in gzip": (content(gzip.compress), "not a readable image file"),
    "half a gzip": (content(lambda whole: whole[: len(whole) // 2]), "damaged or cut short"),
    "rubbish in gzip": (content(lambda whole: whole[:900] + b"rubbish" * 9 + whole[963:]), "damaged or cut short"),
    "half a gzip after a whole one": (content(lambda whole: whole + whole[:99]), "damaged or cut short"),
    "cut short": (uncompressed(lambda whole: whole[:-9]), "damaged or cut short"),
    "mgh cut in its header": (
        named("flair.mgh", lambda _: nib.MGHImage(np.ones((9, 9, 9), "f4"), None).to_bytes()[:26]),
        "damaged",
    ),
    "two volumes": (voxels(lambda old: np.stack([old, old], -1)), "holds 2 volumes"),
    "five dimensions": (voxels(lambda old: np.stack([old] * 3, -1)[..., None, :]), "holds 3 volumes"),
    "T1w of two volumes": (voxels(lambda old: np.stack([old, old], -1), "t1"), "t1.nii.gz: holds 2 volumes"),
    "mask of two volumes": (voxels(lambda old: np.stack([old, old], -1), "mask"), "mask.nii.gz: holds 2 volumes"),
    "complex": (voxels(lambda old: old.astype(np.complex64)), "complex numbers"),
    "colours": (voxels(lambda old: np.zeros(old.shape, COLOURS)), "RGB colours"),
    "DICOM of two series": (dicom(lambda _: None, (1, 2)), "holds 2 DICOM series"),
    "DICOM not fetched": (dicom(lambda d: [unfetched(path) for path in d.iterdir()]), "datalad get 1-0.dcm"),
    "DICOM in part not fetched": (dicom(lambda d: unfetched(d / "1-3.dcm")), "datalad get 1-3.dcm"),
    "DICOM of pointers": (dicom(lambda d: (d / "1-3.dcm").write_text("/annex/objects/MD5E-s5--1.dcm")), "datalad get 1-3.dcm"),
    "DICOM without a slice": (dicom(lambda d: (d / "1-3.dcm").unlink()), "a slice is missing"),
    "DICOM with an empty slice": (dicom(lambda d: (d / "1-3.dcm").write_bytes(b"")), "a slice is missing"),
    "DICOM cut short": (
        dicom(lambda d: (d / "1-3.dcm").write_bytes((d / "1-3.dcm").read_bytes()[:-99])),
        "holds no DICOM series that can be read",
    ),
    "DICOM of one slice": (dicom(lambda d: [p.unlink() for p in d.iterdir() if p.name != "1-3.dcm"]), "three-dimensional"),
}
SIZES: dict[str, tuple[Spoiler, str]] = {
    "plane": (voxels(lambda old: old[:, :, 8]), "three-dimensional"),
    "one slice": (voxels(lambda old: old[:, :, 8:9]), "three-dimensional"),
    "one voxel thick sideways": (voxels(lambda old: old[12:13]), "three-dimensional"),
    "one voxel": (voxels(lambda old: old[8:9, 8:9, 8:9]), "three-dimensional"),
    "10^9 voxels in a small file": (patched({42: i16(1000, 1000, 1000)}), "more than the file can hold"),
    "10^13 voxels": (patched({42: i16(30000, 30000, 30000)}), "more than the file can hold"),
    "10^9 voxels that may be there": (content(bomb), "GiB of memory"),
    "large lie uncompressed": (uncompressed(lambda w: w[:42] + i16(2000, 2000, 200) + w[48:]), "more than the file can hold"),
    "fewer slices than there are": (patched({46: i16(9)}), "holds more voxels than its header promises"),
    "smaller type than there is": (patched({70: i16(4, 16)}), "holds more voxels than its header promises"),
    "larger type than there is": (patched({70: i16(64, 64)}), "damaged or cut short"),
    "two files in one": (uncompressed(lambda whole: whole + whole), "holds more voxels than its header promises"),
    "megabytes behind the voxels": (
        content(lambda whole: gzip.compress(gzip.decompress(whole) + bytes(2**21))),
        "much more than its header promises",
    ),
    "negative size": (patched({42: i16(-26)}), "flair.nii.gz"),
    "size of 0": (patched({42: i16(0)}), "three-dimensional"),
    "no dimensions": (patched({40: i16(0)}), "three-dimensional"),
    "nine dimensions": (patched({40: i16(9)}), "not a readable image file"),
    "seven dimensions of 0": (patched({40: i16(7, 26, 31, 17, 0, 0, 0, 0)}), "three-dimensional"),
    "unknown type": (patched({70: i16(4711)}), "not a readable image file"),
    "voxels in the header": (patched({108: f32(0)}), "begin within the header"),
    "voxels too early": (patched({108: f32(100)}), "not a readable image file"),
    "voxels a bit late": (patched({108: f32(368)}), "damaged or cut short"),
    "voxels beyond the end": (patched({108: f32(1e30)}), "flair.nii.gz"),
    "voxels nowhere": (patched({108: f32(np.nan)}), "damaged or cut short"),
    "no magic": (patched({344: bytes(4)}), "left and right"),
    "no magic and no size": (patched({344: bytes(4), 0: bytes(4)}), "not a readable image file"),
}
VALUES: dict[str, tuple[Spoiler, str]] = {
    "NaN in the head": (voxels(with_hole(np.nan)), "voxels within the head are NaN or infinite"),
    "infinite in the head": (voxels(with_hole(np.inf)), "voxels within the head are NaN or infinite"),
    "beyond float32": (voxels(with_hole(-1e40)), "voxels within the head are NaN or infinite"),
    "NaN everywhere": (voxels(lambda old: np.full(old.shape, np.nan, np.float32)), "voxels are NaN"),
    "NaN in the T1w": (voxels(with_hole(np.nan), "t1"), "voxels within the head are NaN"),
    "NaN in the mask": (voxels(with_block(np.nan), "mask"), "mask.nii.gz: holds NaN"),
    "constant": (voxels(lambda old: np.full_like(old, 7)), "every voxel is 7"),
    "zeros": (voxels(np.zeros_like), "every voxel is 0"),
    "T1w constant": (voxels(np.ones_like, "t1"), "t1.nii.gz: every voxel is 1"),
    "scaled to nothing": (patched({112: f32(1e-44, 1)}), "every voxel is 1"),
    "hardly any contrast": (voxels(lambda old: old * np.float32(1e-36)), "scale them to an ordinary range"),
    "contrast beyond bounds": (voxels(lambda old: old * np.float32(1e30)), "scale them to an ordinary range"),
    "intercept NaN": (patched({112: f32(2, np.nan)}), "not a readable image file"),
}
PLACES: dict[str, tuple[Spoiler, str]] = {
    "no place": (patched({252: i16(0, 0)}), "where it lies in space"),
    "axis of 0": (patched({280: bytes(16)}), "singular"),
    "two axes coincide": (patched({280: f32(1, 0, 0, 0, 1, 0, 0, 0)}), "singular"),
    "NaN in the affine": (patched({280: f32(np.nan)}), "not a finite 4x4 matrix"),
    "infinite origin": (patched({292: f32(np.inf)}), "not a finite 4x4 matrix"),
    "edges of 0, qform": (patched({80: f32(0, 0, 0), 254: i16(0)}), "where it lies in space"),
    "negative edges, qform": (patched({80: f32(-5, -4.5, -7), 254: i16(0)}), "where it lies in space"),
    "huge edges, qform": (patched({80: f32(1e10, 1e10, 1e10), 254: i16(0)}), "should be millimetres"),
    "NaN edge, qform": (patched({80: f32(np.nan), 254: i16(0)}), "flair.nii.gz"),
    "impossible turn, qform": (patched({256: f32(9, 9, 9), 254: i16(0)}), "flair.nii.gz"),
    "edges of metres": (affine(scaled_columns(1000, 1000, 1000)), "should be millimetres"),
    "edges of micrometres": (affine(scaled_columns(1e-3, 1e-3, 1e-3)), "should be millimetres"),
    "edges of nothing": (affine(scaled_columns(1e-15, 1e-15, 1e-15)), "should be millimetres"),
    "one edge of metres": (affine(scaled_columns(1, 1, 1e5)), "should be millimetres"),
    "sheared": (affine(lambda place: place @ SHEAR), "flair.nii.gz: its axes are not at right angles ("),
    "T1w of another planet": (affine(moved(5000), "t1"), "t1.nii.gz: does not meet the FLAIR"),
}
MASKS: dict[str, tuple[Spoiler, str]] = {
    "mask moved far": (affine(moved(200), "mask"), "mask.nii.gz: hardly overlaps the FLAIR (its middle 346.41 mm away"),
    "mask on a template": (
        on_a_template("mask"),
        "lies in the space of a template (MNI), the FLAIR does not (shape",
    ),
    "mask on a template by its code": (template_code("mask"), "the space of a template (MNI)"),
    "T1w on a template": (on_a_template("t1"), "t1.nii.gz: lies in the space of a template (MNI)"),
    "mask mirrored": (affine(scaled_columns(-1, 1, 1), "mask"), "mask.nii.gz: hardly overlaps the FLAIR (orientation"),
    "mask sheared": (affine(lambda place: place @ SHEAR, "mask"), "mask.nii.gz: its axes are not at right angles"),
    "mask of other axes": (voxels(lambda old: old.transpose(1, 0, 2), "mask"), "another order than its header says"),
    "three labels": (
        voxels(lambda old: np.int16(np.arange(old.size).reshape(old.shape) % 3), "mask"),
        "neither a binary mask nor",
    ),
    "numbered lesions": (
        voxels(lambda old: np.int16(np.cumsum(old).reshape(old.shape) % 7 * old + old), "mask"),
        "looks like a map of 7 numbered lesions: give --mask-label all",
    ),
    "labels 1 and 2": (voxels(lambda old: old + 1, "mask"), "neither a binary mask nor"),
    "negative mask": (voxels(lambda old: -old.astype(np.int16), "mask"), "neither a binary mask nor"),
    "percentages": (voxels(lambda old: (100 * RNG.random(old.shape)).astype(np.float32), "mask"), "give --mask-threshold"),
    "FLAIR as mask": (link("mask", "input/sub-1_flair.nii.gz"), "give --mask-threshold"),
    "empty brain mask": (empty_brain_mask, "brain.nii.gz: the brain mask is empty"),
    "brain mask elsewhere": (brain_mask_elsewhere, "brain.nii.gz: hardly overlaps the FLAIR (shape"),
}
OUTPUTS: dict[str, tuple[Spoiler, str]] = {
    "output is a file": (output_is_a_file, "give a folder"),
    "output below a file": (output_below_a_file, "give a folder"),
    "output is a link to nothing": (link("output", "nothing"), "give a folder"),
    "output's name too long": (path_of("output", "a" * 300), "File name too long"),
    "output in /proc": (path_of("output", "/proc/veridice"), "cannot be written"),
    "folder in place of a result": (a_folder_in_place_of_a_result, "is a folder"),
    "mask in place of a result": (mask_in_place_of_a_result, "would be overwritten"),
    "weights missing": (weights_missing, "no such weights"),
    "weights damaged": (weights_damaged, "damaged or altered"),
    "weights of another network": (weights_of_another_network, "card"),
    "weights are a file": (path_of("weights", "input/t1.nii.gz"), "reinstall veridice or check --weights"),
    "calibration missing": (path_of("calibration", "none.json"), "not a calibration"),
    "calibration cut short": (calibration(b'{"source": '), "not a calibration"),
    "calibration of bytes": (calibration(b"\xff\xfe\x00"), "not a calibration"),
    "calibration of nothing": (calibration(b"{}"), "not a calibration"),
}
ROWS = {**PATHS, **KINDS, **SIZES, **VALUES, **PLACES, **MASKS, **OUTPUTS}


def command(files: Arguments) -> list[str]:
    return ["check", "--passes=2", *[f"--{name}={path}" for name, path in files.items()]]


def needs_t1(name: str) -> bool:
    return "T1w" in name


@pytest.fixture
def alone(scan_files: Arguments) -> Arguments:
    """Without the T1w, whose registration takes longer than everything else here."""
    return {name: path for name, path in scan_files.items() if name != "t1"}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_bad_input_ends_in_one_line_and_exit_3(
    name: str, scan_files: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil, said = ROWS[name]
    spoil(scan_files, tmp_path)
    if not needs_t1(name):
        scan_files.pop("t1")
    before = sorted(tmp_path.rglob("*"))
    assert cli.run(command(scan_files)) == 3
    printed = capsys.readouterr()
    lines = [line for line in printed.err.splitlines() if line.strip()]
    assert len(lines) == 1
    assert said in lines[0]
    assert printed.out == ""
    assert sorted(tmp_path.rglob("*")) == before


USAGE = {
    "threshold NaN": ["--mask-threshold=nan"],
    "threshold infinite": ["--mask-threshold=-inf"],
    "min-dice NaN": ["--min-dice=nan"],
    "min-dice above 1": ["--min-dice=1.1"],
    "coverage of 1": ["--coverage=1"],
    "one pass": ["--passes=1"],
    "negative seed": ["--seed=-1"],
    "seed beyond bounds": ["--seed=99999999999999999999"],
    "unknown device": ["--device=abacus"],
    "unknown option": ["--colour"],
    "one argument too many": ["more"],
}


@pytest.mark.parametrize("name", USAGE)
def test_wrong_usage_is_exit_2(name: str, alone: Arguments, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([*command(alone), *USAGE[name]]) == 2
    printed = capsys.readouterr()
    assert "Usage" in printed.err and "Traceback" not in printed.err and printed.out == ""
    assert not alone["output"].exists()


def test_more_voxels_than_memory(alone: Arguments, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_file, "available_memory", lambda: 1000)
    assert cli.run(command(alone)) == 3
    assert "GiB of memory" in capsys.readouterr().err


def test_files_without_permission(
    alone: Arguments, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied")

    # The tests may run as root, whom no permission stops.
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.mkdtemp", refuse)
        assert cli.run(command(alone)) == 3
        assert f"{alone['output']}: cannot be written (Permission denied)" in capsys.readouterr().err
    monkeypatch.setattr(image_file, "read_header", refuse)
    assert cli.run(command(alone)) == 3
    assert f"{alone['flair']}: cannot be read (Permission denied)" in capsys.readouterr().err


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_that_changes_while_it_is_read(
    zipped: bool, alone: Arguments, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not zipped:
        uncompressed(bytes)(alone, tmp_path)
    whole, check_header = alone["flair"].read_bytes(), image_file._check_header
    for later in (whole[: len(whole) // 2], whole + whole, whole[:-1] + b"x"):

        def check(found: ImageHeader, later: bytes = later) -> int:
            promised = check_header(found)
            found.path.write_bytes(later)
            return promised

        alone["flair"].write_bytes(whole)
        monkeypatch.setattr(image_file, "_check_header", check)
        assert cli.run(command(alone)) == 3
        assert "was changed while it was read" in capsys.readouterr().err


def test_a_folder_where_another_run_writes(
    alone: Arguments, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone["output"].mkdir()
    monkeypatch.setattr(atomic, "PATIENCE_S", 0)
    with FileLock(alone["output"] / atomic.TURN):
        assert cli.run(command(alone)) == 3
    assert "another veridice writes there" in capsys.readouterr().err


def test_a_full_disk_leaves_nothing_half_written(alone: Arguments) -> None:
    def small_files_only() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    alone["output"].mkdir()
    (alone["output"] / "earlier.txt").write_text("kept")
    done = subprocess.run(
        [sys.executable, "-m", "veridice", *command(alone)],
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
    assert [p.name for p in alone["output"].iterdir()] == ["earlier.txt"]
