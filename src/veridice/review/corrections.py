"""Corrected masks of a study: kept as they are drawn, put beside the results, and judged again."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from veridice.errors import OutputError
from veridice.review.drawing import compared, flair_geometry, keep, publish_edited, unpack_drawing
from veridice.review.options import DeskOptions, NotFoundError, settings_of
from veridice.review.rejudge import Job
from veridice.review.store import FOLDER, Store, StoredDrawing, now
from veridice.review.studied import StudiedScan


class Corrections:
    """What raters drew.

    Args:
        output: the study's folder.
        store: of this study.
        options: how it is rated.
        scan: gives a scan by its name, or raises :class:`.NotFoundError`.
    """

    def __init__(self, output: Path, store: Store, options: DeskOptions, scan: Callable[[str], StudiedScan]) -> None:
        self._output, self._store, self._options, self._scan = output, store, options, scan
        self._one_at_a_time = threading.Lock()

    def _seen_by(self, rater: str, name: str) -> list[StoredDrawing]:
        """Drawings that a rater may see: his own, and saved ones of others unless he is blind; all of these results."""
        version = self._scan(name).version
        return [
            drawing
            for drawing in self._store.drawings(name)
            if drawing.version == version
            and (drawing.rater == rater or (drawing.state != "draft" and not self._options.hides(rater)))
        ]

    def latest(self, rater: str, name: str) -> dict[str, Any] | None:
        """What a rater gets to see of the drawings of a scan: his draft, else the latest; None without any."""
        seen = self._seen_by(rater, name)
        drafts = [drawing for drawing in seen if drawing.state == "draft" and drawing.rater == rater]
        found = drafts[-1] if drafts else seen[-1] if seen else None
        if found is None:
            return None
        told = found.model_dump(exclude={"file", "scan", "version", "key"})
        if self._options.hides(rater):
            told["result"] = {key: value for key, value in found.result.items() if key in ("reason", "volume_ml")}
        return told

    def draw(self, rater: str, name: str, version: str, content: bytes, draft: bool, key: str = "") -> dict[str, Any]:
        """Keep a drawing; it is on the disk when this returns, and waits to be judged again unless it is a draft.

        One that was sent before, by its ``key``, is not kept twice.

        Raises:
            NotFoundError: there is no such scan.
            InputError: it is no drawing on this FLAIR.
            OutputError: it cannot be kept.
        """
        scan = self._scan(name)
        drawn = unpack_drawing(content, flair_geometry(scan))
        agreed, volume = compared(scan, drawn)
        label = "draft" if draft else uuid.uuid4().hex[:12]
        file = Path(FOLDER, "drawings", name, f"{rater}-{label}.nii.gz")
        row = StoredDrawing(
            id=0,
            key=key or None,
            scan=name,
            rater=rater,
            version=version,
            file=str(file),
            dice=agreed,
            volume_ml=volume,
            drawn=now(),
            state="draft" if draft else "waiting",
        )
        with self._one_at_a_time:
            if not key or self._store.drawing_of(key) is None:
                keep(self._output / file, drawn)
                self._store.add_drawing(row)
            if not draft:
                # It is kept: what cannot be put in its place now is put there by the next drawing, or the next desk.
                with suppress(OutputError):
                    self.publish(name)
        return self.latest(rater, name) or {}

    def undo(self, rater: str, name: str) -> dict[str, Any] | None:
        """Take back the latest drawing of a rater; the one before counts again."""
        self._scan(name)
        with self._one_at_a_time:
            if self._store.withdraw_drawing(name, rater) is not None:
                self.publish(name)
        return self.latest(rater, name)

    def file(self, rater: str, name: str, number: int) -> Path:
        """File of a drawing.

        Raises:
            NotFoundError: there is none, or it is hidden from this rater.
        """
        self._scan(name)
        for drawing in self._seen_by(rater, name):
            if drawing.id == number and (self._output / drawing.file).is_file():
                return self._output / drawing.file
        raise NotFoundError("there is no such drawing")

    def publish(self, name: str) -> None:
        """Put the latest saved drawing of a scan beside its results, or take it away where none is left."""
        scan = self._scan(name)
        saved = [drawing for drawing in self._store.drawings(name) if drawing.state != "draft"]
        saved = [drawing for drawing in saved if (self._output / drawing.file).is_file()]
        latest = saved[-1] if saved else None
        facts: dict[str, Any] = {"Sources": [scan.layers["flair"].name]}
        if latest is not None:
            facts |= {"Editor": latest.rater, "Edited": latest.drawn}
            if latest.version == scan.version and scan.assessment is not None:
                facts["Sources"] += [scan.layers["judged_mask"].name]
                facts |= {"JudgedMask": scan.assessment.judged_mask, "DiceWithJudgedMask": latest.dice}
        publish_edited(self._output, scan, self._output / latest.file if latest else None, facts)

    def publish_all(self) -> None:
        """What a desk that was killed had kept but not put in its place yet."""
        for name in self._store.drawn_scans():
            with suppress(NotFoundError, OutputError):
                self.publish(name)

    def job(self, drawing: StoredDrawing) -> Job | None:
        """How a drawing is judged: as the mask before it was."""
        try:
            scan = self._scan(drawing.scan)
        except NotFoundError:
            return None
        if scan.assessment is None:
            return None
        return Job(
            case=scan.name,
            flair=scan.layers["flair"],
            t1=scan.layers.get("t1"),
            mask=self._output / drawing.file,
            weights=self._options.weights,
            calibration=self._options.calibration,
            settings=settings_of(scan.assessment),
        )
