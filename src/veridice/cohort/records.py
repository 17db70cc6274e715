"""What was done to each scan of a study: by which a finished one is known, and a failed one keeps its reason."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from filelock import FileLock, Timeout
from pydantic import AfterValidator, Field

from veridice.config import Frozen
from veridice.io.atomic import make_folder, write_text, written

RECORDS = "records"
"""Folder of the records, one file a scan."""
COMPARISON = "_comparison"
"""End of the names of records that are of a comparison of tools: it may share a folder with the judgement of one mask."""
HIDDEN = ".veridice"
"""Folder of locks and of results that are being made."""


def _below(name: str) -> str:
    """A file below a folder, whatever somebody wrote into a record."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        raise ValueError("leaves the folder")
    return name


Below = Annotated[str, AfterValidator(_below)]


class InputFile(Frozen):
    """A file as it was when it was judged; its size and time spare reading it again."""

    name: Below = Field(description="file name, without its folder")
    size: int = Field(description="bytes")
    modified: int = Field(description="nanoseconds since 1970")
    sha256: str


class Record(Frozen):
    """What became of a scan; the last thing that is written of it."""

    scan: Below = Field(description="beginning of its file names")
    status: Literal["done", "failed"]
    reason: str = Field("", description="why it failed")
    inputs: tuple[InputFile, ...] = Field((), description="FLAIR, T1w, mask; a failed scan's may be absent")
    settings: str = Field(description="checksum of version, weights, calibration and settings")
    files: tuple[Below, ...] = Field((), description="results, relative to the folder of derivatives")


def read_record(output: Path, scan: str) -> Record | None:
    """Record of a scan in a folder of derivatives; None where there is none, or a damaged one."""
    with suppress(OSError, ValueError):
        return Record.model_validate_json((output / RECORDS / f"{scan}.json").read_text(encoding="utf-8"))
    return None


def write_record(output: Path, record: Record) -> None:
    """Write it, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with written(output):
        (output / RECORDS).mkdir(parents=True, exist_ok=True)
        write_text(output / RECORDS / f"{record.scan}.json", record.model_dump_json(indent=2) + "\n")


def describe_input(path: Path) -> InputFile:
    """Checksum of an input file; of a folder, of everything in it."""
    parts = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    checksum, size, modified = hashlib.sha256(), 0, 0
    for part in parts:
        with part.open("rb") as stream:
            checksum.update(hashlib.file_digest(stream, "sha256").digest())
        state = part.stat()
        size, modified = size + state.st_size, max(modified, state.st_mtime_ns)
    return InputFile(name=path.name, size=size, modified=modified, sha256=checksum.hexdigest())


def is_finished(output: Path, scan: str, files: list[Path], settings: str) -> bool:
    """Whether a scan was judged from these very files with these settings, and its results are still there."""
    record = read_record(output, scan)
    if record is None or record.status != "done" or record.settings != settings or len(record.inputs) != len(files):
        return False
    same = all(_is_same(path, known) for path, known in zip(files, record.inputs, strict=True))
    return same and all((output / name).is_file() for name in record.files)


def _is_same(path: Path, known: InputFile) -> bool:
    try:
        state = path.stat()
        if path.is_file() and (state.st_size, state.st_mtime_ns) == (known.size, known.modified):
            return True
        return (path.is_dir() or state.st_size == known.size) and describe_input(path).sha256 == known.sha256
    except OSError:
        return False


@contextmanager
def scan_held(output: Path, scan: str, wait: float = 0) -> Iterator[Path | None]:
    """Hold one scan of a folder of derivatives, so that nobody else judges it at the same time.

    Args:
        output: folder of derivatives; several runs may work there.
        scan: beginning of its file names.
        wait: seconds to wait for another run that holds it.

    Yields:
        An empty folder for what is being made, gone afterwards; what a killed run left there is thrown away. None where
        another process holds the scan.

    Raises:
        OutputError: the folder cannot be made.
    """
    make_folder(output / HIDDEN)
    # Left behind on purpose: whoever removed it would let two processes hold two files of one name.
    lock = FileLock(output / HIDDEN / f"{scan}.lock", timeout=wait)
    with written(output), suppress(Timeout):
        lock.acquire()
    if not lock.is_locked:
        yield None
        return
    stage = output / HIDDEN / scan
    with lock:
        try:
            shutil.rmtree(stage, ignore_errors=True)
            make_folder(stage)
            yield stage
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def publish(stage: Path, output: Path, folder: Path, record: Record) -> None:
    """Move what was made to its place, and then say that it is there.

    Until the new record stands there is none: a scan whose results are partly old and partly new counts as not judged.

    Args:
        stage: where the results are.
        output: folder of derivatives.
        folder: of this scan, relative to it.
        record: without its files.

    Raises:
        OutputError: nothing can be written there.
    """
    with written(output):
        old = read_record(output, record.scan)
        (output / RECORDS / f"{record.scan}.json").unlink(missing_ok=True)
        made = sorted(stage.iterdir())
        place = output / folder
        place.mkdir(parents=True, exist_ok=True)
        names = tuple((folder / file.name).as_posix() for file in made)
        for file in made:
            file.replace(place / file.name)
        for name in set(old.files if old else ()) - set(names):
            (output / name).unlink(missing_ok=True)
        write_record(output, record.model_copy(update={"files": names}))
