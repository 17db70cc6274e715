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
    changed_layers,
    previous_visit,
    read_scan_of_study,
    scan_version,
)

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
        version = scan_version(scan)
        shown = {key: LAYERS[key] for key in LAYERS if key in scan.layers}
        told: dict[str, Any] = {
            "scan": name,
            "version": version,
            "layers": [{"name": key, "label": label, "kind": kind} for key, (label, kind) in shown.items()],
            "changed": [LAYERS[key][0] for key in LAYERS if key in self._changed[name]],
            "places": self._places(scan),
            "mine": self._mine(rater, name),
            "drawing": self.corrections.latest(rater, name),
            "commands": viewer_commands(
                *(self._relative(scan.layers[key]) if key in scan.layers else None for key in ("flair", "judged_mask", "t1"))
            ),
        }
        if (earlier := previous_visit(self.scans, scan)) is not None:
            told["previous"] = {"scan": earlier.name, "version": scan_version(earlier)}
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
                for said in self.store.ratings_of(name)
                if said.rater != rater
            ]
        return told

    def _fresh(self, name: str) -> StudiedScan:
        """The scan as it is on the disk now: it may have been judged again, or a file may have changed."""
        scan = self.scan(name)
        record = read_record(self.output, name) or scan.record
        # What changed without being judged again is told until it is.
        again, changed = record != scan.record, set(changed_layers(scan)) | self._changed[name]
        if again or changed:
            fresh = read_scan_of_study(self.output, self._dataset, record, scan.site)
            if not fresh.needs_look:
                raise NotFoundError("the results of this scan are no longer there; run veridice run … participant again")
            with self._reading:
                self.scans[name] = scan = fresh
        self._changed[name] = set(changed_layers(scan)) if again else changed
        return scan

    def _relative(self, path: Path) -> str:
        """From the study's folder, so that no name of a user's folder is told."""
        return os.path.relpath(path, self.output)

    def _places(self, scan: StudiedScan) -> list[dict[str, Any]]:
        """Lesions and places that look missed, the most doubtful first: marked ones that are likely none, others likely one."""
        tables = scan.assessment.tables if scan.assessment else {}
        if "lesions" not in tables or Path(tables["lesions"]).name != tables["lesions"]:
            return []
        try:
            rows = read_table(self.output / scan.folder / tables["lesions"])
        except (OSError, ValueError):
            return []
        places = [{key: row.get(key) for key in PLACE_COLUMNS} for row in rows if row.get("confidence") is not None]
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
        said = [r for r in self.store.ratings_of(name) if r.rater == rater and r.adjudicates == judge]
        return said[-1].model_dump(include={"rating", "score", "reasons", "comment", "rated", "version"}) if said else None

    def layer(self, name: str, layer: str, version: str) -> Path:
        """File of a layer of the version that a rater looks at.

        Raises:
            NotFoundError: there is none.
            ConflictError: it is another now.
        """
        scan = self.scan(name)
        if layer not in scan.layers:
            raise NotFoundError("this scan has no such layer")
        if layer in changed_layers(scan) or version != scan_version(scan):
            raise ConflictError("this scan changed since it was opened; open it again")
        return scan.layers[layer]

    def draw(self, rater: str, name: str, version: str, content: bytes, draft: bool) -> dict[str, Any]:
        """Keep a drawing of the version that a rater looks at; see :meth:`.Corrections.draw`.

        Raises:
            ConflictError: the scan was judged again since it was opened.
        """
        if version != scan_version(self.scan(name)):
            raise ConflictError("this scan was judged again since it was opened; open it again")
        return self.corrections.draw(rater, name, version, content, draft)

    def rate(self, rater: str, name: str, said: Said) -> StoredRating:
        """Keep a rating; it is on the disk when this returns.

        Raises:
            NotFoundError: there is no such scan.
            ConflictError: the scan was judged again since it was opened.
            InputError: the rating is none of this study's scale.
        """
        scan = self.scan(name)
        if said.version != scan_version(scan):
            raise ConflictError("this scan was judged again since it was opened; open it again and look once more")
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
