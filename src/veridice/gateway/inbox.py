"""Where images come in, from the network or from an archive: each is looked at, put on the disk, and then acknowledged."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from veridice.errors import InputError, OutputError
from veridice.gateway.queue import Queue
from veridice.io.dicom_choice import MR_CLASSES, SEGMENTATIONS
from veridice.io.dicom_headers import Image, read_header, words

LOG = logging.getLogger("veridice.gateway")
ACCEPTED_CLASSES = (*MR_CLASSES, *SEGMENTATIONS)
OUR_CLASSES = words(
    "1.2.840.10008.5.1.4.1.1.30 1.2.840.10008.5.1.4.1.1.7 1.2.840.10008.5.1.4.1.1.88.34 1.2.840.10008.5.1.4.1.1.88.59"
)
"""Parametric map, secondary capture, report and note: an archive that sends a whole study sends our results of it too."""
SYNTAXES = words(
    "1.2.840.10008.1.2.1 1.2.840.10008.1.2 1.2.840.10008.1.2.2 1.2.840.10008.1.2.5 1.2.840.10008.1.2.4.50 "
    "1.2.840.10008.1.2.4.57 1.2.840.10008.1.2.4.70 1.2.840.10008.1.2.4.80 1.2.840.10008.1.2.4.81 "
    "1.2.840.10008.1.2.4.90 1.2.840.10008.1.2.4.91"
)
"""Plain, run-length, JPEG, JPEG-LS and JPEG 2000: what dcm2niix decodes. Deflated ones may grow without limit."""
FILE = "queue.sqlite"
Refusal = Literal["no room", "not usable", "wrong kind", "duplicate", "other patient", ""]


@dataclass(frozen=True)
class Limits:
    """How much is taken.

    Args:
        object_bytes: of one image.
        study_bytes, study_images: of one study.
        free_bytes: of the disk, that stay free.
        keep_hours: after which the files of a study that was sent, or that failed, are deleted.
    """

    object_bytes: int = 2**30
    study_bytes: int = 2**33
    study_images: int = 20_000
    free_bytes: int = 2**30
    keep_hours: float = 72.0


class Inbox:
    """Folder of the studies, and the queue beside it.

    Args:
        root: made when absent, for its owner alone.
        limits: how much is taken.

    Raises:
        OutputError: it cannot be made.
    """

    def __init__(self, root: Path, limits: Limits = Limits()) -> None:
        self.root, self.limits = root, limits
        try:
            for folder in (root, self.incoming, root / "studies"):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise OutputError(f"{root}: cannot be made ({error.strerror or error}); give another --inbox") from error
        self.queue = Queue(root / FILE)
        self._keeping = threading.Lock()

    @property
    def incoming(self) -> Path:
        """Where what is not yet acknowledged lies; on the same disk, so that it can be moved."""
        return self.root / "incoming"

    def folder(self, key: str) -> Path:
        return self.root / "studies" / key

    def images(self, key: str) -> list[Path]:
        return sorted((self.folder(key) / "images").iterdir())

    def results(self, key: str) -> Path:
        return self.folder(key) / "results"

    def has_room(self) -> bool:
        """Whether as much of the disk is free as should stay so."""
        return shutil.disk_usage(self.root).free > self.limits.free_bytes

    def sweep(self) -> None:
        """Remove what was coming, or leaving, when the last gateway ended: not acknowledged yet, or done with."""
        shutil.rmtree(self.incoming, ignore_errors=True)
        self.incoming.mkdir(exist_ok=True, mode=0o700)

    def take(self, path: Path, wanted: str | None = None) -> tuple[Refusal, str]:
        """Take a file over; when this returns without a refusal, it is on the disk and known.

        Args:
            path: in :attr:`incoming`; it is moved away when it is taken.
            wanted: UID that whoever sent it says it has.

        Returns:
            Why it is refused, empty where it is not, and a sentence for the log without any name.
        """
        try:
            image = read_header(path)
        except InputError as error:
            return "not usable", str(error)
        if image is None:
            return "not usable", "cannot be read as an image of a study"
        if wanted is not None and image.text("SOPInstanceUID") != wanted:
            return "not usable", "is another image than its message says"
        if image.is_cut_short:
            return "not usable", "an image is cut short"
        if image.text("ManufacturerModelName") == "veridice":
            path.unlink(missing_ok=True)
            return "", "a result of ours came back; passed over"
        if image.text("SOPClassUID") not in ACCEPTED_CLASSES:
            return "wrong kind", "an object is of a kind that is not judged"
        key, size = self.queue.hashed(image.text("StudyInstanceUID")), path.stat().st_size
        count, stored = self.queue.size(key)
        if count >= self.limits.study_images or stored + size > self.limits.study_bytes or not self.has_room():
            return "no room", f"study {key}: no room for more, or larger than a study of a head is"
        try:
            return self._keep(path, image, key, size)
        except OSError as error:
            return "no room", f"study {key}: cannot be written ({error.strerror or error})"

    def _keep(self, path: Path, image: Image, key: str, size: int) -> tuple[Refusal, str]:
        name = self.queue.hashed(image.text("SOPInstanceUID"))
        target = self.folder(key) / "images" / f"{name}.dcm"
        digest, patient = _digest(path), self.queue.hashed("\0".join(image.patient))
        with self._keeping:
            taken = self.queue.what_is_known(key, patient, name, digest)
            if taken == "other patient":
                return "other patient", f"study {key}: an image of another patient came under its UID"
            if taken == "other content":
                return "duplicate", f"study {key}: an image came again with other content; the first one stays"
            if taken == "new":
                target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
                _onto_disk(path, target)
                self.queue.add_image(key, patient, name, digest, target.name, size)
        path.unlink(missing_ok=True)
        return "", f"study {key}: image {taken}"

    def empty(self, unsent_too: bool = False) -> int:
        """Delete the files of studies that were done long ago; how many studies.

        Args:
            unsent_too: studies that were judged count as done: there is no archive.
        """
        before = time.time() - 3600 * self.limits.keep_hours
        old = self.queue.done_before(before, unsent_too)
        for key in old:
            with self._keeping:  # an image that comes now waits, and begins the study anew
                if not self.queue.emptied(key, before):
                    continue
                away = self.incoming / f"old-{key}"
                shutil.rmtree(away, ignore_errors=True)
                with suppress(FileNotFoundError):
                    self.folder(key).replace(away)
            shutil.rmtree(away, ignore_errors=True)
        return len(old)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _onto_disk(path: Path, target: Path) -> None:
    """Move a file to where it stays, so that it is there after a power cut."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    path.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def tell_in_the_log() -> None:
    """What happens, with time, on stderr: studies by their hashes, nothing of patients."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
