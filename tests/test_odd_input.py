"""Odd but fine input, row by row: the same answer as for the plain form of the scan, or the right warning."""

from __future__ import annotations

import gzip
import itertools
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from test_bad_input import f32, i16, moved, scaled_columns
from test_nifti import write_dicom

from veridice import cli
from veridice.assessment.assess import assess_masks
from veridice.assessment.models import Models, load_models
from veridice.case import Assessment, plain_name
from veridice.config import InferenceSettings
from veridice.imaging.volume import Volume
from veridice.io.bids import case_name, read_assessment
from veridice.io.nifti import write_image
from veridice.io.scan_reader import read_given_mask, read_scan

Save = Callable[[np.ndarray, np.ndarray, Path], Path]
"""Writes whole numbers (x, y, z) with an affine under a path without suffix; returns the path."""
SETTINGS = InferenceSettings(passes=2, device="cpu", engine="torch")


@dataclass(frozen=True)
class Answer:
    assessment: Assessment
    probability: np.ndarray
    mask: np.ndarray
    affine: np.ndarray

    @property
    def warnings(self) -> str:
        return "\n".join(self.assessment.warnings)


@pytest.fixture(scope="module")
def models(tiny_weights_once: Path) -> Models:
    return load_models(tiny_weights_once)


def judged(models: Models, flair: Path, t1: Path | None, mask: Path | None, **how: Any) -> Answer:
    scan = read_scan(flair, t1, **{"registration": False, **how})
    found = assess_masks("a", scan, [read_given_mask(mask, scan)] if mask else [], models, SETTINGS)
    assessment, maps = found.assessment, found.volumes
    assert np.isfinite([assessment.predicted_dice, *assessment.interval, *assessment.volumes_ml.values()]).all()
    assert 0 <= assessment.interval[0] <= assessment.interval[1] <= 1
    for volume in maps.values():
        assert np.isfinite(volume.voxels).all() and volume.geometry.same_grid(scan.flair.geometry)
    mask_map = maps["input_mask" if mask else "lesion_mask"]
    probability, own = (canonical(volume) for volume in (maps["lesion_probability"], mask_map))
    return Answer(assessment, probability, own, scan.flair.affine)


def canonical(volume: Volume) -> np.ndarray:
    return nib.as_closest_canonical(nib.Nifti1Image(volume.voxels.astype(np.float32), volume.affine)).get_fdata()


@pytest.fixture
def images(tiny_scan: dict[str, Volume]) -> dict[str, np.ndarray]:
    """Whole numbers that an unsigned byte could hold four times, and a mask."""
    flair, t1 = (np.int16(np.round(tiny_scan[name].voxels / 4) * 4) for name in ("flair", "t1"))
    return {"flair": flair, "t1": t1, "mask": np.int16(flair > 750)}


def nifti(
    suffix: str = ".nii.gz", kind: Any = nib.Nifti1Image, dtype: Any = np.int16, header: dict[str, Any] | None = None
) -> Save:
    def save(values: np.ndarray, affine: np.ndarray, path: Path) -> Path:
        path = path.with_name(path.name + suffix)
        image = kind(values.astype(dtype), affine, **({"dtype": dtype} if dtype is np.int64 else {}))
        image.set_data_dtype(dtype)
        for field, value in (header or {}).items():
            image.header[field] = value
        nib.save(image, path)
        return path

    return save


def big_endian(kind: Any, header: Any) -> Save:
    def save(values: np.ndarray, affine: np.ndarray, path: Path) -> Path:
        path = path.with_name(path.name + ".nii")
        big = header(endianness=">")
        big.set_data_dtype(">i2")
        nib.save(kind(values.astype(">i2"), affine, big), path)
        return path

    return save


def with_slope(slope: float, intercept: float, dtype: Any) -> Save:
    def save(values: np.ndarray, affine: np.ndarray, path: Path) -> Path:
        path = path.with_name(path.name + ".nii.gz")
        image = nib.Nifti1Image(((values - intercept) / slope).astype(dtype), affine)
        image.header.set_slope_inter(slope, intercept)
        nib.save(image, path)
        return path

    return save


def turned(codes: str) -> Save:
    def save(values: np.ndarray, affine: np.ndarray, path: Path) -> Path:
        image = nib.Nifti1Image(values, affine)
        wanted = nib.orientations.axcodes2ornt(codes)
        turn = nib.orientations.ornt_transform(nib.orientations.io_orientation(affine), wanted)
        path = path.with_name(path.name + ".nii.gz")
        nib.save(image.as_reoriented(turn), path)
        return path

    return save


def bytes_of(change: Callable[[bytes], bytes], suffix: str = ".nii.gz") -> Save:
    """The file, uncompressed, made into other bytes."""

    def save(values: np.ndarray, affine: np.ndarray, path: Path) -> Path:
        path = path.with_name(path.name + suffix)
        path.write_bytes(change(nib.Nifti1Image(values, affine).to_bytes()))
        return path

    return save


def patched(patches: dict[int, bytes]) -> Save:
    def change(whole: bytes) -> bytes:
        new = bytearray(whole)
        for offset, content in patches.items():
            new[offset : offset + len(content)] = content
        return gzip.compress(new)

    return bytes_of(change)


def forms(qform: int, sform: int) -> Save:
    def save(values: np.ndarray, affine: np.ndarray, path: Path) -> Path:
        path = path.with_name(path.name + ".nii.gz")
        image = nib.Nifti1Image(values, affine)
        image.set_sform(affine, sform)
        image.set_qform(affine, qform)
        nib.save(image, path)
        return path

    return save


def place(name: str) -> Save:
    """Another path; ``{}`` is the image's name."""

    def save(values: np.ndarray, affine: np.ndarray, path: Path) -> Path:
        path = path.parent / name.format(path.name)
        path.parent.mkdir(exist_ok=True, parents=True)
        nib.save(nib.Nifti1Image(values, affine), path)
        return path

    return save


def linked(values: np.ndarray, affine: np.ndarray, path: Path) -> Path:
    target = nifti()(values, affine, path.parent / f"content-{path.name}")
    link = path.with_name(path.name + ".nii.gz")
    link.symlink_to(target)
    return link


def folder_linked(values: np.ndarray, affine: np.ndarray, path: Path) -> Path:
    (path.parent / "real").mkdir(exist_ok=True)
    target = nifti()(values, affine, path.parent / "real" / path.name)
    if not (path.parent / "linked").exists():
        (path.parent / "linked").symlink_to(path.parent / "real")
    return path.parent / "linked" / target.name


def read_only(values: np.ndarray, affine: np.ndarray, path: Path) -> Path:
    path = place("locked/{}.nii.gz")(values, affine, path)
    path.chmod(0o444)
    return path


def not_utf8(values: np.ndarray, affine: np.ndarray, path: Path) -> Path:
    plain = nifti()(values, affine, path)
    return plain.rename(Path(os.fsdecode(os.fsencode(path) + b"\xff\xfe.nii.gz")))


def extended(values: np.ndarray, affine: np.ndarray, path: Path) -> Path:
    path = path.with_name(path.name + ".nii")
    image = nib.Nifti1Image(values, affine)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"x" * 5000))
    nib.save(image, path)
    return path


def pair(given: str, kind: Any = nib.Nifti1Pair, zipped: str = "") -> Save:
    """Header and voxels in two files, one of which is given."""

    def save(values: np.ndarray, affine: np.ndarray, path: Path) -> Path:
        nib.save(kind(values, affine), path.with_name(f"{path.name}.img{zipped}"))
        return path.with_name(f"{path.name}.{given}{zipped}")

    return save


def named(suffix: str, save: Save) -> Save:
    """The same file by another name."""
    return lambda values, affine, path: save(values, affine, path).rename(path.with_name(path.name + suffix))


def with_rubbish(path: Path) -> Path:
    path.write_bytes(path.read_bytes() + bytes(512))
    return path


def mgz_named_nii(values: np.ndarray, affine: np.ndarray, path: Path) -> Path:
    return named("-m.nii.gz", nifti(".mgz", nib.MGHImage, np.float32))(values, affine, path)


FORMS: dict[str, Save] = {
    "uncompressed": nifti(".nii"),
    "big-endian": big_endian(nib.Nifti1Image, nib.Nifti1Header),
    "NIfTI-2": nifti(kind=nib.Nifti2Image),
    "NIfTI-2 uncompressed": nifti(".nii", kind=nib.Nifti2Image),
    "NIfTI-2 big-endian": big_endian(nib.Nifti2Image, nib.Nifti2Header),
    "mgz": nifti(".mgz", nib.MGHImage),
    "mgh of float": nifti(".mgh", nib.MGHImage, np.float32),
    "unsigned": nifti(dtype=np.uint16),
    "32 bits": nifti(dtype=np.int32),
    "64 bits": nifti(dtype=np.int64),
    "float": nifti(dtype=np.float32),
    "double": nifti(dtype=np.float64),
    "slope and intercept": with_slope(0.5, 10, np.int16),
    "negative slope": with_slope(-1, 0, np.int16),
    "slope 0": patched({112: f32(0, 5)}),
    "slope NaN": patched({112: f32(np.nan, np.nan)}),
    "slope infinite": patched({112: f32(np.inf, 0)}),
    "four dimensions": lambda values, affine, path: nifti()(values[..., None], affine, path),
    "seven dimensions": lambda values, affine, path: nifti()(values[..., None, None, None, None], affine, path),
    "turned to LPS": turned("LPS"),
    "turned to PSR": turned("PSR"),
    "turned to ILA": turned("ILA"),
    "sform only": forms(0, 2),
    "qform only": forms(1, 0),
    "qform and sform": forms(1, 4),
    "edges of 0 beside an sform": patched({80: f32(0, 0, 0)}),
    "wrong bits": patched({72: i16(8)}),
    "bytes as description": patched({148: b"\xff\x00\xfe" * 20}),
    "header of unknown size": patched({0: bytes(4)}),
    "extension": extended,
    "gzip of two members": bytes_of(lambda whole: gzip.compress(whole[:500]) + gzip.compress(whole[500:])),
    "zeros behind the gzip": bytes_of(lambda whole: gzip.compress(whole) + bytes(512)),
    "rubbish behind the gzip": bytes_of(lambda whole: gzip.compress(whole) + b"rubbish" * 99),
    "plain named gz": bytes_of(bytes),
    "gzip named nii": bytes_of(gzip.compress, ".nii"),
    "NIfTI named mgz": bytes_of(gzip.compress, ".mgz"),
    "NIfTI named img": bytes_of(bytes, ".img"),
    "NIfTI without a suffix": bytes_of(bytes, ""),
    "mgz named nii.gz": mgz_named_nii,
    "mgh named mgz": named("-h.mgz", nifti(".mgh", nib.MGHImage, np.float32)),
    "mgz named mgh": named("-z.mgh", nifti(".mgz", nib.MGHImage, np.float32)),
    "rubbish behind mgz": lambda values, affine, path: with_rubbish(nifti(".mgz", nib.MGHImage)(values, affine, path)),
    "pair by its header": pair("hdr"),
    "pair by its voxels": pair("img"),
    "pair compressed": pair("img", zipped=".gz"),
    "NIfTI-2 pair": pair("hdr", nib.Nifti2Pair),
    "padded": bytes_of(lambda whole: whole + bytes(100), ".nii"),
    "spaces in the path": place("my scans/of {} today.nii.gz"),
    "unicode in the path": place("Überprüfung 脳/{}-\N{BRAIN}.nii.gz"),
    "quotes and stars in the path": place("a'b\"c*?[x]$HOME;ls/{}%s{{}}.nii.gz"),
    "line break in the path": place("two\nlines/{}\n.nii.gz"),
    "dash in front": place("-o/-{}.nii.gz"),
    "no UTF-8 in the path": not_utf8,
    "link": linked,
    "link to the folder": folder_linked,
    "read-only": read_only,
}


@pytest.fixture(scope="module")
def plain_answer() -> dict[str, Answer]:
    """Filled by the first test that needs it."""
    return {}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.filterwarnings("ignore")
def test_every_form_of_a_scan_has_one_answer(
    form: str,
    images: dict[str, np.ndarray],
    tiny_scan: dict[str, Volume],
    models: Models,
    plain_answer: dict[str, Answer],
    tmp_path: Path,
) -> None:
    affine = tiny_scan["flair"].affine
    if not plain_answer:
        plain = [nifti()(values, affine, tmp_path / f"plain-{name}") for name, values in images.items()]
        plain_answer["plain"] = judged(models, *plain)
    right = plain_answer["plain"]
    found = judged(models, *[FORMS[form](values, affine, tmp_path / name) for name, values in images.items()])
    np.testing.assert_allclose(found.probability, right.probability, atol=1e-4)
    np.testing.assert_array_equal(found.mask, right.mask)
    assert found.mask.any()
    assert found.assessment.predicted_dice == pytest.approx(right.assessment.predicted_dice, abs=1e-4)
    assert found.assessment.interval == pytest.approx(right.assessment.interval, abs=1e-3)
    assert found.assessment.volumes_ml == pytest.approx(right.assessment.volumes_ml, rel=1e-4)
    assert found.assessment.warnings == right.assessment.warnings


INTENSITIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "negative": lambda values: values.astype(np.float32) - 5000,
    "times a thousand": lambda values: values.astype(np.float32) * 1000,
    "times a millionth": lambda values: values.astype(np.float32) * 1e-6,
    "times 1e20": lambda values: values.astype(np.float32) * 1e20,
}


@pytest.mark.parametrize("scale", INTENSITIES)
def test_intensities_of_any_scale_have_one_answer(
    scale: str, images: dict[str, np.ndarray], tiny_scan: dict[str, Volume], models: Models, tmp_path: Path
) -> None:
    affine = tiny_scan["flair"].affine
    mask = nifti()(images["mask"], affine, tmp_path / "mask")
    answers = []
    for change in (lambda values: values, INTENSITIES[scale]):
        # A T1w of its own grid: what lies outside it is its background, whatever number that is.
        flair = nifti(dtype=np.float32)(change(images["flair"]), affine, tmp_path / "flair")
        shifted = affine.copy()
        shifted[:3, 3] += affine[:3, 0] * 2
        t1 = nifti(dtype=np.float32)(change(images["t1"][2:]), shifted, tmp_path / "t1")
        answers.append(judged(models, flair, t1, mask))
    np.testing.assert_allclose(answers[1].probability, answers[0].probability, atol=0.01)
    assert answers[1].assessment.predicted_dice == pytest.approx(answers[0].assessment.predicted_dice, abs=0.02)


Files = dict[str, Path]
Change = Callable[[Files, Path], None]


def rewritten(
    name: str, change: Callable[[np.ndarray], np.ndarray], place: Callable[[np.ndarray], np.ndarray] = np.copy
) -> Change:
    def spoil(files: Files, _: Path) -> None:
        image = nib.load(files[name])
        new, affine = change(np.array(image.dataobj)), place(image.affine)
        nib.save(nib.Nifti1Image(new, affine), files[name])

    return spoil


def header(name: str, patches: dict[int, bytes]) -> Change:
    def spoil(files: Files, _: Path) -> None:
        image = nib.load(files[name])
        image.set_qform(image.affine, 1)
        whole = bytearray(image.to_bytes())
        for offset, content in patches.items():
            whole[offset : offset + len(content)] = content
        files[name].write_bytes(gzip.compress(whole))

    return spoil


def every(*changes: Change) -> Change:
    def spoil(files: Files, folder: Path) -> None:
        for change in changes:
            change(files, folder)

    return spoil


def placed(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    return every(*[rewritten(name, np.copy, change) for name in ("flair", "t1", "mask")])


def without(name: str) -> Change:
    return lambda files, _: files.__setitem__(name, None)  # type: ignore[call-overload]


def reordered(name: str) -> Change:
    def spoil(files: Files, _: Path) -> None:
        image = nib.load(files[name])
        nib.save(image.as_reoriented(np.array([[2, 1], [0, -1], [1, 1]])), files[name])

    return spoil


def flair_as_t1(files: Files, folder: Path) -> None:
    files["t1"] = Path(shutil.copy(files["flair"], folder / "other.nii.gz"))


def swapped(files: Files, _: Path) -> None:
    files["flair"], files["t1"] = files["t1"], files["flair"]


def on_the_t1(files: Files, folder: Path) -> None:
    affine = nib.load(files["t1"]).affine.copy()
    affine[:3, 3] += affine[:3, 0]
    for name in ("t1", "mask"):
        rewritten(name, lambda old: old[1:], lambda _: affine)(files, folder)


def constant_slices(values: np.ndarray) -> np.ndarray:
    new = values.copy()
    new[:, :, 3], new[:, :, 7], new[5] = 0, 500, 200
    return new


def one_bright_voxel(values: np.ndarray) -> np.ndarray:
    new = values.astype(np.float32)
    new[0, 0, 0] = 1e6
    return new


def noise(values: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).random(values.shape).astype(np.float32)


WARNED: dict[str, tuple[Change, str]] = {
    "FLAIR alone": (without("t1"), "no T1w was given"),
    "one file as both": (lambda files, _: files.__setitem__("t1", files["flair"]), "same image"),
    "a copy as T1w": (flair_as_t1, "same image"),
    "a rescaled copy as T1w": (
        every(flair_as_t1, rewritten("t1", lambda old: np.float32(old) * 3.3 + 7)),
        "same image",
    ),
    "FLAIR and T1w swapped": (swapped, "look swapped"),
    "T1w elsewhere": (rewritten("t1", lambda old: old[2:]), "without registration"),
    "slices of 8 mm": (placed(scaled_columns(1, 1, 8 / 7)), "8.0 mm thick"),
    "isotropic half millimetres": (placed(scaled_columns(0.1, 1 / 9, 1 / 14)), "not like a whole human head"),
    "edges of 50 mm": (placed(scaled_columns(10, 10, 7)), "not like a whole human head"),
    "two slices": (
        every(*[rewritten(name, lambda old: old[:, :, 8:10]) for name in ("flair", "t1", "mask")]),
        "not like a whole human head",
    ),
    "qform elsewhere": (header("flair", {268: f32(500)}), "flair.nii.gz: qform and sform put it up to"),
    "qform of the other side": (header("flair", {76: f32(1)}), "the sform was taken: check the sides"),
    "T1w's qform elsewhere": (header("t1", {268: f32(500)}), "t1.nii.gz: qform and sform"),
    "mask's qform elsewhere": (header("mask", {268: f32(500)}), "mask.nii.gz: qform and sform"),
    "impossible qform": (header("flair", {256: f32(9, 9, 9)}), "qform cannot be used"),
    "metres in the header": (header("flair", {123: b"\x01"}), "lengths in metres"),
    "micrometres in the header": (header("flair", {123: b"\x0b"}), "lengths in micrometres"),
    "empty mask": (rewritten("mask", np.zeros_like), "the judged mask is empty"),
    "probabilities": (rewritten("mask", lambda old: old * np.float32(0.7) + np.float32(0.1)), "cut at 0.5"),
    "mask on the T1w's grid": (on_the_t1, "lies on the T1w's grid"),
    "mask of 255": (rewritten("mask", lambda old: np.uint8(old * 255)), ""),
    "mask of 2": (rewritten("mask", lambda old: np.uint8(old * 2)), ""),
    "mask of 0.8": (rewritten("mask", lambda old: old * np.float32(0.8)), ""),
    "mask of all voxels": (rewritten("mask", np.ones_like), ""),
    "mask of one voxel": (rewritten("mask", lambda old: np.int16(np.arange(old.size).reshape(old.shape) == 4000)), ""),
    "mask as chess board": (rewritten("mask", lambda old: np.int16(np.indices(old.shape).sum(axis=0) % 2)), ""),
    "constant slices": (rewritten("flair", constant_slices), ""),
    "one bright voxel": (rewritten("flair", one_bright_voxel), ""),
    "inverted": (rewritten("flair", lambda old: -old), ""),
    "two values": (rewritten("flair", lambda old: np.int16(old > 300)), ""),
    "noise": (rewritten("flair", noise), ""),
    "far from the origin": (placed(moved(1e6)), ""),
    "sheared by rounding": (placed(lambda affine: affine @ (np.eye(4) + 0.005 * np.eye(4, k=2))), ""),
    "mask of another order": (reordered("mask"), ""),
    "mask off by a hundredth": (rewritten("mask", np.copy, moved(0.01)), ""),
    "mask one voxel short": (rewritten("mask", lambda old: old[:-1]), "grid, from which its own differs: shape 25x31x17, not"),
    "T1w of another order": (reordered("t1"), ""),
}


@pytest.mark.parametrize("name", WARNED)
@pytest.mark.filterwarnings("ignore")
def test_what_is_odd_is_judged_and_said(
    name: str, images: dict[str, np.ndarray], tiny_scan: dict[str, Volume], models: Models, tmp_path: Path
) -> None:
    change, said = WARNED[name]
    affine = tiny_scan["flair"].affine
    files = {image: nifti()(values, affine, tmp_path / image) for image, values in images.items()}
    change(files, tmp_path)
    found = judged(models, files["flair"], files["t1"], files["mask"])
    if said:
        assert said in found.warnings
    else:
        drawn = nib.as_closest_canonical(nib.load(files["mask"])).get_fdata() > 0
        np.testing.assert_array_equal(found.mask, drawn)
    assert ("form" in found.warnings or "lengths" in found.warnings) == ("form" in said or "lengths" in said)


def test_a_t1w_of_noise_is_judged_and_said(
    images: dict[str, np.ndarray], tiny_scan: dict[str, Volume], models: Models, tmp_path: Path
) -> None:
    files = {name: nifti()(values, tiny_scan["flair"].affine, tmp_path / name) for name, values in images.items()}
    rewritten("t1", noise)(files, tmp_path)
    assert "cannot be registered" in judged(models, files["flair"], files["t1"], None, registration=True).warnings


def test_a_dicom_folder_has_the_answer_of_its_nifti(images: dict[str, np.ndarray], models: Models, tmp_path: Path) -> None:
    write_dicom(tmp_path / "a series", images["flair"])
    # Rows from the front and columns from the right are R and A flipped in NIfTI's RAS.
    affine = np.diag([-2.0, -1.0, 3.0, 1.0])
    affine[:3, 3] = (10, 20, 0)
    files = [nifti()(images[name], affine, tmp_path / name) for name in ("flair", "mask")]
    plain, series = (judged(models, flair, None, None) for flair in (files[0], tmp_path / "a series"))
    np.testing.assert_allclose(series.probability, plain.probability, atol=1e-4)
    assert series.assessment.predicted_dice == pytest.approx(plain.assessment.predicted_dice, abs=1e-4)
    assert series.assessment.volumes_ml == pytest.approx(plain.assessment.volumes_ml, rel=1e-4)


@pytest.mark.slow
def test_flat_voxels_make_no_gigantic_report(
    scan_files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rewritten("flair", np.copy, scaled_columns(19, 1 / 100, 1))(scan_files, tmp_path)
    arguments = ["check", "--passes=2", *[f"--{name}={scan_files[name]}" for name in ("flair", "weights", "output")]]
    assert cli.run(arguments) == 0
    assert "not like a whole human head" in capsys.readouterr().out


def test_names_are_shown_as_text() -> None:
    assert plain_name("sub-1 Überprüfung 脳 \N{BRAIN}") == "sub-1 Überprüfung 脳 \N{BRAIN}"
    assert plain_name("\x1b[31mred\n\u202egnp\udcff") == "?[31mred??gnp?"
    assert case_name(Path(os.fsdecode(b"s\xff_FLAIR.nii.gz"))) == "s?"


def test_odd_names_go_through_the_command(
    scan_files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flair, mask = scan_files["flair"], nib.load(scan_files["mask"])
    odd = flair.rename(Path(os.fsdecode(os.fsencode(flair.parent) + b"/\x1b[31m\xff \xe8\x84\xb3_FLAIR.nii.gz")))
    values = np.array(mask.dataobj)
    masks = []
    for folder, cut in itertools.product(("one", "two"), (0, 13)):
        path = tmp_path / f"{folder}{cut or ''}" / "mask.nii.gz"
        path.parent.mkdir()
        part = values.copy()
        part[: cut + (folder == "two")] = 0
        write_image(path, Volume(part > 0, read_scan(odd).flair.geometry))
        masks.append(f"--mask={path}")
    output = Path(os.fsdecode(os.fsencode(tmp_path) + b"/out\xff"))
    arguments = ["check", "--passes=2", f"--flair={odd}", *masks, f"--weights={scan_files['weights']}", "-o", str(output)]
    assert cli.run(arguments) == 0
    printed = capsys.readouterr().out
    assert "\x1b" not in printed and "\udcff" not in printed and "?[31m? 脳" in printed
    ranked = {row.mask for row in read_assessment(output / "sub-31m_veridice.json").ranking}
    assert ranked == {f"{folder}/mask.nii.gz" for folder in ("one", "two", "one13", "two13")}
