"""Output that appears whole or not at all, and folders that one process holds at a time."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from veridice.errors import OutputError

LOCK, TURN, STAGE = ".veridice.lock", ".veridice-turn.lock", ".veridice-"
PATIENCE_S = 60


def make_folder(folder: Path) -> None:
    """Make an output folder and those above it.

    Raises:
        OutputError: that cannot be done.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror or error}); give another -o folder") from error


@contextlib.contextmanager
def written(folder: Path) -> Iterator[None]:
    """What is written into a folder inside the block.

    Raises:
        OutputError: it cannot be, as when the disk is full.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"{folder}: {how_to_mend(error)}") from error


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold an output folder, which is made when absent, so that no second process writes there at the same time.

    Raises:
        OutputError: another process holds it, or it cannot be made.
    """
    make_folder(folder)
    with _locked(folder / LOCK, 0, "works"):
        yield


@contextlib.contextmanager
def _locked(file: Path, patience: float, doing: str) -> Iterator[None]:
    with written(file.parent):
        try:
            lock = FileLock(file, timeout=patience).acquire()
        except Timeout as error:
            what = f"another veridice {doing} there; wait for it, or give another -o folder"
            raise OutputError(f"{file.parent}: {what}") from error
    with lock:
        try:
            yield
        finally:
            # While it is held; filelock notices a lock whose file is gone.
            file.unlink(missing_ok=True)


def is_new(folder: Path) -> bool:
    """Nothing but a lock lies in the folder."""
    return all(file.name == LOCK for file in folder.iterdir())


@contextlib.contextmanager
def staged_output(folder: Path, last: str | None = None) -> Iterator[Path]:
    """A hidden folder inside ``folder`` whose files move there when the block ends well, and vanish when it does not.

    Whoever is killed leaves his hidden folder; the next one to write here sweeps it away.

    Args:
        folder: made when absent.
        last: end of the name of the file that moves last; one of that name goes away first. So where it lies, all lies.

    Raises:
        OutputError: the folder cannot be made or written, or the disk is full.
    """
    created = not os.path.lexists(folder)
    stage: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _short_turn(folder):
            _sweep(folder)
            stage = Path(tempfile.mkdtemp(prefix=STAGE, dir=folder))
            lock = FileLock(stage / LOCK).acquire()
        with lock:
            yield stage
            with _short_turn(folder):
                _publish(stage, folder, last)
    except OSError as error:
        raise OutputError(f"{folder}: {how_to_mend(error)}") from error
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)
        if created and os.path.isdir(folder) and not any(folder.iterdir()):  # noqa: PTH112 Path.is_dir fails on long names
            folder.rmdir()


def _short_turn(folder: Path) -> contextlib.AbstractContextManager[None]:
    """One process at a time sweeps or moves files, so that the results of two runs do not mix."""
    return _locked(folder / TURN, PATIENCE_S, "writes")


def _sweep(folder: Path) -> None:
    """Remove what killed processes left: a hidden folder whose lock nobody holds any more."""
    for left in folder.glob(f"{STAGE}*/"):
        with contextlib.suppress(OSError), FileLock(left / LOCK, timeout=0):  # held, or of another user
            shutil.rmtree(left, ignore_errors=True)


def _publish(stage: Path, folder: Path, last: str | None) -> None:
    files = [file for file in stage.iterdir() if file.name != LOCK]
    files.sort(key=lambda file: _is(file, last))
    for target in (folder / file.name for file in files):
        if target.is_dir():
            raise OutputError(f"{target}: is a folder where a result should go; give another -o folder")
    try:
        _move(files, folder, last)
    except KeyboardInterrupt:
        _move([file for file in files if file.exists()], folder, last)
        raise


def _move(files: list[Path], folder: Path, last: str | None) -> None:
    for file in files:
        if _is(file, last):
            (folder / file.name).unlink(missing_ok=True)
    for file in files:
        file.replace(folder / file.name)


def _is(file: Path, last: str | None) -> bool:
    return last is not None and file.name.endswith(last)


def no_room(error: OSError) -> bool:
    """Whether there is no more room to write."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def how_to_mend(error: OSError) -> str:
    """What went wrong while writing, and what to do, in words that follow the folder's name."""
    if no_room(error):
        return "no room left while writing, nothing was kept; free some space or give another -o folder"
    if error.errno in (errno.EEXIST, errno.ENOTDIR):
        return "is a file or lies below one; give a folder to -o"
    return f"cannot be written ({error.strerror or error}); give a folder of yours to -o"


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write to: it takes that place when the block ends well, and vanishes when it does not."""
    # Two processes or threads may write the same file at the same time. The ending stays, since some libraries add theirs.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{threading.get_ident()}.tmp{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with replaced(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON for people, whole or not at all: indented, finite numbers only."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def append_line(path: Path, line: str) -> None:
    """Add one line to a text file that others may be reading."""
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{' '.join(line.split())}\n")
