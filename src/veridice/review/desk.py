"""The desk itself: what a rater sees of a scan, and what he says of it. Knows nothing of the web."""

from __future__ import annotations

import json
import os
import threading
from collections import defaultdict
from pathlib import Path
from typing import Any

from veridice.case import Assessment
from veridice.cohort.records import read_record
from veridice.errors import InputError
from veridice.io.bids import read_table
from veridice.quality.calibration import CalibrationSet
from veridice.report.pages import promise, reason
from veridice.report.viewers import viewer_commands
from veridice.review.corrections import Corrections
from veridice.review.exchange import rating_content
from veridice.review.options import ConflictError, DeskOptions, NotFoundError, Said
from veridice.review.reading_list import ReadingList
from veridice.review.store import Store, StoredRating, now
from veridice.review.studied import (
    LAYERS,
    StudiedScan,
    moved_layers,
    previous_visit,
    read_scan_of_study,
    unlike_record,
)

BLIND_LAYERS = ("flair", "t1", "judged_mask")
PLACE_COLUMNS = ("number", "place", "confidence", "volume_ml", "x", "y", "z", "region")


class Desk:
    """One study that is being looked at.

    Args:
        output: its folder.
        dataset: root of the BIDS data set.
        scans: of :func:`.open_study`.
        store: of this study.
        options: how it is rated.
        known: the calibration that the judgements rest on.
        tells: whether each rating is told to another program.

    Raises:
        InputError: it was rated on another scale before.
    """

    def __init__(
        self,
        output: Path,
        dataset: Path,
        scans: dict[str, StudiedScan],
        store: Store,
        options: DeskOptions,
        known: CalibrationSet,
        tells: bool = False,
    ) -> None:
        if (scale := store.fact("scale", options.scale)) != options.scale:
            raise InputError(f"{output}: was rated on the scale '{scale}' before; give --scale {scale}")
        self.output, self.scans, self.store, self.options = output, scans, store, options
        self._dataset, self._tells, self._reading = dataset, tells, threading.Lock()
        self._changed: dict[str, set[str]] = defaultdict(set)
        self.list = ReadingList(scans, store, options, known)
        self.corrections = Corrections(output, store, options, self.scan)

    def scan(self, name: str) -> StudiedScan:
        """A scan that can be looked at.

        Raises:
            NotFoundError: there is none of this name.
        """
        found = self.scans.get(name)
        if found is None or not found.needs_look:
            raise NotFoundError("there is no such scan in this study")
        return found

    def details(self, rater: str, name: str) -> dict[str, Any]:
        """Everything that the page of one scan shows."""
        scan = self._fresh(name)
        self.list.hold(rater, name)
        shown = {key: LAYERS[key] for key in self._layers_for(rater, scan)}
        told: dict[str, Any] = {
            "scan": name,
            "version": scan.version,
            "layers": [{"name": key, "label": label, "kind": kind} for key, (label, kind) in shown.items()],
            "changed": [LAYERS[key][0] for key in LAYERS if key in self._changed[name]],
            "places": self._places(rater, scan),
            "mine": self._mine(rater, name),
            "drawing": self.corrections.latest(rater, name),
            "commands": self._commands(scan),
        }
        if (earlier := previous_visit(self.scans, scan)) is not None:
            told["previous"] = {"scan": earlier.name, "version": earlier.version}
        assessment = scan.assessment
        if not self.options.hides(rater) and assessment is not None:
            told |= self._verdict(scan, assessment)
            told["others"] = [
                {
                    "rater": said.rater,
                    "rating": said.rating,
                    "score": said.score,
                    "reasons": said.reasons,
                    "comment": said.comment,
                }
                for said in self.list.ratings_of(name)
                if said.rater != rater
            ]
        return told

    def _fresh(self, name: str) -> StudiedScan:
        """The scan as it is on the disk now: it may have been judged again, or a file may have changed."""
        scan = self.scan(name)
        record = read_record(self.output, name) or scan.record
        # What changed without being judged again is told until it is.
        again, changed = record != scan.record, moved_layers(scan) | self._changed[name]
        if again or changed:
            fresh = read_scan_of_study(self.output, self._dataset, record, scan.site, scan.acquired)
            if not fresh.needs_look:
                raise NotFoundError("the results of this scan are no longer there; run veridice run … participant again")
            with self._reading:
                self.scans[name] = scan = fresh
        self._changed[name] = unlike_record(scan) | (set() if again else changed)
        return scan

    def _layers_for(self, rater: str, scan: StudiedScan) -> list[str]:
        """What a rater may see: a blind one the images and the mask, since all else is what veridice thinks of it."""
        seen = BLIND_LAYERS if self.options.hides(rater) else LAYERS
        return [name for name in LAYERS if name in scan.layers and name in seen]

    def _commands(self, scan: StudiedScan) -> dict[str, str]:
        """Of other viewers, from the study's folder; the folders of a data set that lies elsewhere are not told."""
        inside = self.output.resolve().is_relative_to(self._dataset.resolve())
        paths: dict[str, str | None] = dict.fromkeys(("flair", "judged_mask", "t1"))
        for name in paths.keys() & scan.layers.keys():
            file = scan.layers[name].resolve()
            here = inside or name == "judged_mask"
            base, before = (self.output.resolve(), "") if here else (self._dataset.resolve(), "BIDS_DIR/")
            paths[name] = before + os.path.relpath(file, base)
        return viewer_commands(paths["flair"], paths["judged_mask"], paths["t1"])

    def _places(self, rater: str, scan: StudiedScan) -> list[dict[str, Any]]:
        """Lesions and places that look missed, the most doubtful first: marked ones that are likely none, others likely one.

        A blind rater gets the marked ones alone, in the order of their numbers.
        """
        tables = scan.assessment.tables if scan.assessment else {}
        if "lesions" not in tables or Path(tables["lesions"]).name != tables["lesions"]:
            return []
        try:
            rows = read_table(self.output / scan.folder / tables["lesions"])
        except (OSError, ValueError):
            return []
        places = [{key: row.get(key) for key in PLACE_COLUMNS} for row in rows if row.get("confidence") is not None]
        if self.options.hides(rater):
            return [{**row, "confidence": None} for row in places if row["place"] == "mask"]
        return sorted(places, key=lambda row: row["confidence"] if row["place"] == "mask" else 1 - row["confidence"])

    def _verdict(self, scan: StudiedScan, assessment: Assessment) -> dict[str, Any]:
        return {
            "verdict": assessment.verdict,
            "predicted_dice": assessment.predicted_dice,
            "interval": assessment.interval,
            "coverage": assessment.coverage,
            "chance": self.list.chance(scan.name),
            "warnings": assessment.warnings,
            "why": reason(assessment),
            "promise": promise(assessment.model),
            "volume_ml": assessment.volumes_ml.get("judged_mask"),
        }

    def _mine(self, rater: str, name: str) -> dict[str, Any] | None:
        judge = rater == self.options.adjudicator
        said = [r for r in self.list.ratings_of(name) if r.rater == rater and r.adjudicates == judge]
        return said[-1].model_dump(include={"rating", "score", "reasons", "comment", "rated"}) if said else None

    def layer(self, rater: str, name: str, layer: str, version: str) -> Path:
        """File of a layer of the version that a rater looks at.

        Raises:
            NotFoundError: there is none.
            ConflictError: it is another now.
        """
        scan = self.scan(name)
        if layer not in self._layers_for(rater, scan):
            raise NotFoundError("this scan has no such layer")
        if layer in moved_layers(scan) or version != scan.version:
            raise ConflictError("this scan changed since it was opened; open it again")
        return scan.layers[layer]

    def _looked_at(self, name: str, version: str) -> StudiedScan:
        """The scan, where it is still what was looked at."""
        moved = "judged_mask" in moved_layers(self.scan(name))
        scan = self._fresh(name)
        if moved or version != scan.version:
            raise ConflictError("this scan was judged again since it was opened; open it again and look once more")
        return scan

    def unrate(self, rater: str, name: str) -> bool:
        """Take back the latest rating of a rater; False where there is none."""
        self.scan(name)
        return self.store.withdraw_rating(name, rater, rater == self.options.adjudicator)

    def without_folders(self, text: str) -> str:
        """A message for a rater, without the folders of this machine."""
        for folder in (self.output, self.output.resolve(), self._dataset, self._dataset.resolve()):
            text = text.replace(f"{folder}{os.sep}", "").replace(str(folder), folder.name or "the study")
        return text

    def draw(self, rater: str, name: str, version: str, content: bytes, draft: bool, key: str = "") -> dict[str, Any]:
        """Keep a drawing of the version that a rater looks at; see :meth:`.Corrections.draw`.

        Raises:
            ConflictError: the scan was judged again since it was opened.
        """
        self._looked_at(name, version)
        return self.corrections.draw(rater, name, version, content, draft, key)

    def rate(self, rater: str, name: str, said: Said) -> StoredRating:
        """Keep a rating; it is on the disk when this returns.

        Raises:
            NotFoundError: there is no such scan.
            ConflictError: the scan was judged again since it was opened.
            InputError: the rating is none of this study's scale.
        """
        scan = self._looked_at(name, said.version)
        assessment = scan.assessment
        stored = StoredRating(
            key=said.key,
            scan=name,
            rater=rater,
            version=said.version,
            rating=said.decision(self.options.scale),
            score=said.score,
            reasons=said.reasons,
            comment=said.comment,
            seconds=said.seconds,
            rated=now(),
            judged_mask=assessment.judged_mask if assessment else "own",
            verdict=assessment.verdict if assessment else None,
            predicted_dice=round(assessment.predicted_dice, 4) if assessment else None,
            adjudicates=rater == self.options.adjudicator,
        )
        self.store.add_rating(stored, json.dumps(rating_content(stored)) if self._tells else None)
        self.list.release(rater, name)
        return stored
