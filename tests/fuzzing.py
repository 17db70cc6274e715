"""Files with changed bytes, without end: each is refused in one line or read as it says. ``scripts/fuzz --minutes 10``.

An example is its recipe: which good file, which bytes, where it was cut. Those that once went wrong lie in fuzz_seeds/.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import json
import logging
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from test_nifti import write_dicom

from veridice import cli
from veridice.case import Notice
from veridice.errors import InputError
from veridice.io.nifti import read_image
from veridice.io.scan_reader import read_given_mask, read_scan

SEEDS = Path(__file__).parent / "fuzz_seeds"
SHAPE = (12, 13, 11)
AFFINE = np.array([[-9.0, 1, 0, 50], [1, 9, 0, -60], [0, 0, 12, -60], [0, 0, 0, 1]])
VALUES = np.random.default_rng(7).integers(0, 900, SHAPE).astype(np.int16)
NUMBERS = (0, -1, 1, 2, 3, 4, 7, 8, 16, 64, 127, 128, 255, 256, 352, 511, 512, 1536, 32767, -32768, 2**31 - 1, 2**62)
REALS = (0.0, -1.0, 1.0, 0.5, 1e-45, 1e-20, 1e-3, 100.0, 352.0, 353.5, 1e4, 1e10, 1e30, 3e38, np.inf, -np.inf, np.nan)
DICOM_FILE = "1-2.dcm"
MOST_GIB = 6.0


@dataclass(frozen=True)
class Example:
    """A good file and what was done to it.

    Args:
        base: see :func:`good_file`.
        edits: offset and bytes (hexadecimal) that are written over the uncompressed file.
        packed: the same, over the file as it is stored.
        cut: bytes that are left; None: all.
        more: bytes (hexadecimal) that are added, uncompressed.
    """

    base: str
    edits: tuple[tuple[int, str], ...] = ()
    packed: tuple[tuple[int, str], ...] = ()
    cut: int | None = None
    more: str = ""

    @property
    def name(self) -> str:
        return sha256(json.dumps(asdict(self)).encode()).hexdigest()[:12]


HEADERS: dict[str, Any] = {
    "nifti1": nib.Nifti1Header,
    "nifti2": nib.Nifti2Header,
    "big": nib.Nifti1Header,
    "float": nib.Nifti1Header,
    "mask": nib.Nifti1Header,
    "mgh": nib.freesurfer.mghformat.MGHHeader,
}
BASES = [*(f"{kind}{suffix}" for kind in HEADERS for suffix in (".nii", ".nii.gz") if kind != "mgh"), "mgh.mgh", "mgh.mgz"]
DICOM = "series.dcm"


def good_file(base: str, folder: Path) -> bytes:
    """Content of a good file, uncompressed."""
    kind = base.split(".")[0]
    if kind == "series":
        write_dicom(folder / "series", VALUES[:, :, :4])
        return (folder / "series" / DICOM_FILE).read_bytes()
    if kind == "mgh":
        return bytes(nib.MGHImage(VALUES, AFFINE).to_bytes())
    voxels = {"float": VALUES.astype(np.float32) / 7, "mask": np.uint8(VALUES > 800)}.get(kind, VALUES)
    header = HEADERS[kind](endianness=">" if kind == "big" else "<")
    header.set_data_dtype(voxels.dtype)
    image = (nib.Nifti2Image if kind == "nifti2" else nib.Nifti1Image)(voxels, AFFINE, header)
    image.set_qform(AFFINE, 1)
    image.set_sform(AFFINE, 1)
    return bytes(image.to_bytes())


def write_example(example: Example, folder: Path) -> Path:
    """The example as a file, or as a DICOM folder."""
    content = _edited(good_file(example.base, folder), example.edits) + bytes.fromhex(example.more)
    if example.base.endswith("z"):
        content = gzip.compress(content, mtime=0)
    content = _edited(content, example.packed)
    content = content if example.cut is None else content[: example.cut]
    path = folder / "series" / DICOM_FILE if example.base == DICOM else folder / example.base
    path.write_bytes(content)
    return path.parent if example.base == DICOM else path


def _edited(content: bytes, edits: tuple[tuple[int, str], ...]) -> bytes:
    new = bytearray(content)
    for offset, replacement in edits:
        new[offset : offset + len(replacement) // 2] = bytes.fromhex(replacement)
    return bytes(new)


def draw_example(rng: np.random.Generator, dicom_share: float = 0.03) -> Example:
    """A random one: fields of the header with telling values, any bytes, cuts, additions."""
    if rng.random() < dicom_share:
        return Example(DICOM, tuple(_any_byte(rng, 1600) for _ in range(rng.integers(1, 9))), cut=_cut(rng, 1800))
    base = str(rng.choice(BASES))
    header = HEADERS[base.split(".")[0]]
    edits = [_field(rng, base, header) for _ in range(rng.integers(0, 4))]
    edits += [_any_byte(rng, header.template_dtype.itemsize + 40) for _ in range(rng.integers(0, 4) * (rng.random() < 0.4))]
    packed = [_any_byte(rng, 2500) for _ in range(rng.integers(1, 4) * (rng.random() < 0.1))]
    more = rng.bytes(int(rng.choice([1, 100, 5000]))).hex() if rng.random() < 0.05 else ""
    return Example(base, tuple(edits), tuple(packed), _cut(rng, 3000), more)


def _any_byte(rng: np.random.Generator, end: int) -> tuple[int, str]:
    return int(rng.integers(end)), rng.bytes(int(rng.integers(1, 5))).hex()


def _cut(rng: np.random.Generator, end: int) -> int | None:
    return int(rng.integers(end)) if rng.random() < 0.07 else None


def _field(rng: np.random.Generator, base: str, header: Any) -> tuple[int, str]:
    """One number of one field, in the byte order of the file."""
    fields = header.template_dtype.fields
    kind, offset = fields[str(rng.choice(list(fields)))][:2]
    number, count = kind.base, int(np.prod(kind.shape))
    offset += int(rng.integers(count)) * number.itemsize
    if number.kind == "S":
        return offset, rng.bytes(min(4, number.itemsize)).hex()
    value = rng.choice(NUMBERS if number.kind in "iu" else REALS)
    order = ">" if base.startswith(("big", "mgh")) else "<"
    with np.errstate(all="ignore"):
        return offset, np.asarray(value).astype(number.newbyteorder(order)).tobytes().hex()


def try_example(example: Example, weights: Path | None = None) -> str:
    """Read the example as FLAIR and as mask; with ``weights`` run ``veridice check`` on it. Says what came of it.

    Raises:
        AssertionError, or whatever came through: it went wrong.
    """
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(temporary)
        path = write_example(example, folder)
        ending = _read(path, folder)
        if weights:
            return f"{ending}, {_check(path, folder / 'out', weights)}"
        return ending


def _read(path: Path, folder: Path) -> str:
    try:
        scan = read_scan(path)
    except InputError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error), str(error)
        ending = "refused"
    else:
        ending = "read"
        assert np.isfinite(scan.flair.voxels).all() and scan.flair.voxels.min() < scan.flair.voxels.max()
        if path.is_file():
            _compare(path, read_image(path), scan.warnings)
    (folder / "good.nii").write_bytes(good_file("nifti1.nii", folder))
    try:
        mask = read_given_mask(path, read_scan(folder / "good.nii"))
    except InputError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error), str(error)
        return ending
    assert mask.volume.voxels.dtype == bool and mask.volume.shape == SHAPE
    return f"{ending}, a mask"


def _compare(path: Path, found: Any, said: tuple[Notice, ...]) -> None:
    """What was read is what nibabel alone reads, and the header's contradictions were said."""
    image = nib.load(path)
    values = np.asarray(image.dataobj).reshape(image.shape[:3])
    known = np.isfinite(values)
    np.testing.assert_array_equal(found.voxels[known], values.astype(np.float32)[known])
    assert known.all() or said, "values were filled in, and nothing was said"
    np.testing.assert_array_equal(found.affine, image.affine)
    if isinstance(image, nib.Nifti1Image) and int(image.header["sform_code"]) and int(image.header["qform_code"]):
        with contextlib.suppress(ValueError):
            ends = np.array([0, 0, 0, 1]), np.array([*(np.array(image.shape[:3]) - 1), 1])
            apart = max(np.abs((image.header.get_qform() - image.header.get_sform()) @ end).max() for end in ends)
            assert apart < 1.001 or any("form" in notice.text for notice in said), f"{apart} mm apart, nothing said"


def _check(path: Path, output: Path, weights: Path) -> str:
    """The whole command: judged or refused, whole output or none."""
    printed, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        command = ["check", f"--flair={path}", f"--weights={weights}", "--passes=2", f"--output={output}"]
        code = cli.run([*command, "--engine=torch", "--json"])
    assert code in (0, 3), errors.getvalue()
    if code == 3:
        assert not output.exists() and not printed.getvalue(), "something was left"
        return "exit 3"
    row = json.loads(printed.getvalue())
    assert 0 <= row["predicted_dice"] <= 1 and np.isfinite(row["interval"]).all()
    grid = read_image(path).geometry
    for file in row["maps"].values():
        written = nib.load(file)
        assert written.shape == grid.shape and np.isfinite(written.get_fdata()).all(), file
    return "exit 0"


def load_example(path: Path) -> Example:
    """A stored example."""
    stored = json.loads(path.read_text())
    edits, packed = (tuple((int(offset), str(new)) for offset, new in stored[key]) for key in ("edits", "packed"))
    return Example(stored["base"], edits, packed, stored["cut"], stored["more"])


def fuzz(minutes: float, seed: int, check_share: float, weights: Path) -> dict[str, Any]:
    """Try random examples for some minutes; those that go wrong are stored. Returns the figures."""
    rng, endings, wrong = np.random.default_rng(seed), Counter[str](), []
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        example = draw_example(rng)
        try:
            endings[try_example(example, weights if rng.random() < check_share else None)] += 1
        except Exception as error:
            endings["WRONG"] += 1
            wrong.append(f"{example.name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}")
            SEEDS.mkdir(exist_ok=True)
            (SEEDS / f"{example.name}.json").write_text(json.dumps(asdict(example)) + "\n")
            sys.stderr.write(wrong[-1] + "\n")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    figures = {"minutes": minutes, "seed": seed, "examples": endings.total(), "peak_gib": round(peak, 2)}
    return {**figures, "endings": dict(endings.most_common()), "wrong": wrong}


def main() -> None:
    """The command line of the fuzzer."""
    from shared import make_tiny_weights

    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--minutes", type=float, default=10)
    options.add_argument("--seed", type=int, default=1)
    options.add_argument("--check-share", type=float, default=0.02, help="of the examples that go through veridice check")
    given = options.parse_args()
    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
    # Addresses count here, not pages: a gigantic array fails when it is asked for.
    limit = int(MOST_GIB * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    with tempfile.TemporaryDirectory() as folder:
        figures = fuzz(given.minutes, given.seed, given.check_share, make_tiny_weights(Path(folder)))
    sys.stdout.write(json.dumps(figures, indent=2) + "\n")
    sys.exit(bool(figures["wrong"]) or figures["peak_gib"] > MOST_GIB)


if __name__ == "__main__":
    main()
