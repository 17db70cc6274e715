"""Ratings and corrected masks to files that others read, and ratings of reports back. No torch."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from veridice._version import __version__
from veridice.case import Assessment
from veridice.cohort.ratings import read_rating
from veridice.errors import InputError, OutputError
from veridice.io.atomic import write_json, write_text
from veridice.io.bids import ASSESSMENT_SUFFIX, RATING_SUFFIX, neutral_cell, write_dataset_files
from veridice.review.agreement import final_rating
from veridice.review.store import Store, StoredDrawing, StoredRating, now
from veridice.review.studied import StudiedScan

TABLE = "ratings"
MANIFEST = "manifest.csv"
SAME_DICE = 1e-3
VALIDATION = 5
"""One in so many people is for validation."""
COLUMNS = {
    "scan": "Beginning of the scan's file names",
    "rater": "Code of the rater",
    "rating": "accept, needs edit or reject",
    "score": "1 (to be made anew) to 5 (perfect), where the study was rated so",
    "reasons": "Why, with commas between",
    "comment": "In the rater's words",
    "rated": "When, UTC",
    "seconds": "From the first picture of the scan to the rating",
    "adjudicates": "yes: decides where other raters differ",
    "counts": "yes: it is, or agrees with, the rating of the scan",
    "current": "yes: of the results as they are now; no: the scan was judged again since",
    "verdict": "What veridice said: accept, review or reject",
    "predicted_dice": "Dice that the mask was expected to have",
    "judged_mask": "Name of the mask; own: that of veridice",
    "edited_dice": "Dice of the judged mask with the corrected one, where there is one",
    "source": "desk: rated here; import: read from a file of a report",
}


def rating_content(rating: StoredRating) -> dict[str, Any]:
    """A rating as ``SCAN_rating.json`` has it; docs/study.md explains the fields."""
    return {
        "Format": 1,
        "Scan": rating.scan,
        "JudgedMask": rating.judged_mask,
        "Rating": rating.rating,
        **({"Score": rating.score} if rating.score is not None else {}),
        "Reasons": list(rating.reasons),
        "Comment": rating.comment,
        "Rater": rating.rater,
        "Rated": rating.rated,
        "Verdict": rating.verdict,
        "PredictedDice": rating.predicted_dice,
        "GeneratedBy": [{"Name": "veridice", "Version": __version__}],
    }


def export(output: Path, scans: Mapping[str, StudiedScan], store: Store) -> dict[str, int]:
    """Write the ratings of a study: one file beside each page, a table of all, and the corrected masks for a training.

    Args:
        output: the study's folder.
        scans: of the study.
        store: what was said and drawn.

    Returns:
        How many ``ratings``, rated ``scans`` and ``edited`` masks there are.

    Raises:
        OutputError: nothing can be written there, or a rating that somebody put there would be lost.
    """
    beside = [output / scan.folder / f"{name}{RATING_SUFFIX}" for name, scan in scans.items() if scan.assessment]
    left_out = import_ratings([file for file in beside if file.is_file()], scans, store)[2]
    if left_out:
        raise OutputError(f"{output}: rating {left_out[0]} of the export; move this file away, or mend it")
    ratings = [rating for rating in store.ratings() if rating.scan in scans]
    drawings = {scan.name: drawing for scan, drawing in edited_masks(output, scans, store)}
    by_scan: dict[str, list[StoredRating]] = {}
    for rating in ratings:
        # Of results that were judged again since, what was said no longer counts.
        if rating.version == scans[rating.scan].version:
            by_scan.setdefault(rating.scan, []).append(rating)
    final = {scan: final_rating(said) for scan, said in by_scan.items()}
    try:
        write_dataset_files(output)
        for name, rating in final.items():
            write_json(output / scans[name].folder / f"{name}{RATING_SUFFIX}", rating_content(rating))
        for name in {name for name, scan in scans.items() if scan.assessment} - final.keys():
            # By now every rating that lies there is known, so one that is left was taken back, or is of earlier results.
            (output / scans[name].folder / f"{name}{RATING_SUFFIX}").unlink(missing_ok=True)
        rows = [_row(rating, scans[rating.scan], final.get(rating.scan), drawings) for rating in ratings]
        write_text(output / f"{TABLE}.tsv", as_table(rows))
        meanings = {name: {"Description": text} for name, text in COLUMNS.items()}
        write_json(output / f"{TABLE}.json", {**meanings, "GeneratedBy": [{"Name": "veridice review", "Version": __version__}]})
        _write_manifest(output, scans, drawings)
    except OSError as error:
        raise OutputError(f"{output}: the ratings cannot be written ({error.strerror or error}); free some space") from error
    return {"ratings": len(ratings), "scans": len(final), "edited": len(drawings)}


def is_known(content: Mapping[str, Any], store: Store) -> bool:
    """Whether a rating was kept before, taken back or not."""
    said = [str(content.get(name, "")) for name in ("Scan", "Rater", "Rated")]
    return bool(store.rows("SELECT 1 FROM ratings WHERE scan = ? AND rater = ? AND rated = ? LIMIT 1", *said))


def as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Ratings as the text of a TSV, fit for spreadsheets."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(["n/a" if row[name] in (None, "") else neutral_cell(row[name]) for name in COLUMNS] for row in rows)
    return text.getvalue()


def _row(
    rating: StoredRating, scan: StudiedScan, final: StoredRating | None, drawings: Mapping[str, StoredDrawing]
) -> dict[str, Any]:
    drawn = drawings.get(rating.scan)
    return {
        **rating.model_dump(),
        "reasons": ", ".join(rating.reasons),
        "adjudicates": "yes" if rating.adjudicates else "no",
        "counts": "yes" if final is not None and rating.rating == final.rating else "no",
        "current": "yes" if rating.version == scan.version else "no",
        "edited_dice": drawn.dice if drawn else None,
    }


def edited_masks(output: Path, scans: Mapping[str, StudiedScan], store: Store) -> list[tuple[StudiedScan, StoredDrawing]]:
    """The corrected mask that counts of each scan, whose file is there."""
    latest = {drawing.scan: drawing for drawing in store.drawings() if drawing.state != "draft" and drawing.scan in scans}
    return [(scans[name], drawing) for name, drawing in sorted(latest.items()) if (output / drawing.file).is_file()]


def calibration_rows(output: Path, dataset: Path, scans: Mapping[str, StudiedScan], store: Store) -> list[dict[Hashable, str]]:
    """Corrected masks as known cases for :func:`veridice.quality.recalibrate.recalibrate_rows`, relative to ``output``.

    A mask that was judged again since it was corrected has no known Dice.

    Args:
        output: the study's folder.
        dataset: root of the BIDS data set.
        scans, store: of the study.
    """
    rows = []
    for scan, drawing in edited_masks(output, scans, store):
        stored = next((name for name in scan.record.files if name.endswith(ASSESSMENT_SUFFIX)), None)
        if stored is None or drawing.dice is None or drawing.version != scan.version:
            continue
        simulated = any((dataset / "derivatives" / "truth" / scan.folder).glob("*_desc-simulation_parameters.json"))
        row: dict[Hashable, str] = {"assessment": stored, "dice": str(drawing.dice), "patient": scan.participant}
        rows.append({**row, "simulated": "yes" if simulated else "no"})
    return rows


def _write_manifest(output: Path, scans: Mapping[str, StudiedScan], drawings: Mapping[str, StoredDrawing]) -> None:
    """Corrected masks for ``veridice train``; paths are relative to the folder that holds scans and results."""
    if not drawings:
        (output / "review" / MANIFEST).unlink(missing_ok=True)
        return
    root = training_root(output, [scans[name] for name in drawings])
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(["id", "patient", "split", "flair", "t1", "mask"])
    for name, drawing in sorted(drawings.items()):
        scan = scans[name]
        files = [scan.layers.get("flair"), scan.layers.get("t1"), output / drawing.file]
        relative = [os.path.relpath(path, root) if path else "" for path in files]
        writer.writerow([name, scan.participant, _split(scan.participant), *relative])
    write_text(output / "review" / MANIFEST, lines.getvalue())


def training_root(output: Path, scans: Iterable[StudiedScan]) -> Path:
    """The folder that the paths of the manifest are relative to: what the scans and the results have in common."""
    places = [scan.layers["flair"].parent for scan in scans if "flair" in scan.layers]
    return Path(os.path.commonpath([os.path.abspath(path) for path in (output, *places)]))  # noqa: PTH100 (links stay)


def _split(participant: str) -> str:
    """The same person always falls into the same part."""
    number = int(hashlib.sha256(participant.encode()).hexdigest()[:8], 16)
    return "validation" if number % VALIDATION == 0 else "train"


def import_ratings(files: Sequence[Path], scans: Mapping[str, StudiedScan], store: Store) -> tuple[int, int, list[str]]:
    """Take over ratings that were saved from the pages of scans.

    Args:
        files: ``*_rating.json``, or folders that hold such.
        scans: of the study.
        store: where they go.

    Returns:
        How many were new, how many were known already, and a sentence for each that cannot be used.

    Raises:
        InputError: a file or folder is not there, or a folder holds no rating.
    """
    new, known, said = 0, 0, []
    for file in _rating_files(files):
        rating = read_rating(file)
        content = json.loads(file.read_text(encoding="utf-8-sig")) if rating.value else {}
        scan = scans.get(str(content.get("Scan")))
        if rating.value and is_known(content, store):
            known += 1
        elif rating.value is None or scan is None or scan.assessment is None:
            said.append(f"{file.name} {rating.complaint or 'is of no scan of this study that was judged'}: left out")
        elif content.get("JudgedMask", scan.assessment.judged_mask) != scan.assessment.judged_mask:
            said.append(f"{file.name} is of another mask than the one that was judged here: left out")
        elif store.add_rating(_imported(content, rating.value, scan, scan.assessment, file)):
            new += 1
        else:
            known += 1
    return new, known, said


def _rating_files(given: Sequence[Path]) -> list[Path]:
    files = []
    for path in given:
        found = sorted(path.rglob(f"*{RATING_SUFFIX}")) if path.is_dir() else [path]
        if not found or not found[0].is_file():
            raise InputError(f"{path}: no rating is there; give files that end in {RATING_SUFFIX}, or their folder")
        files += found
    return files


def _imported(content: Mapping[str, Any], rating: str, scan: StudiedScan, assessment: Assessment, file: Path) -> StoredRating:
    reasons, score, told = content.get("Reasons", []), content.get("Score"), content.get("PredictedDice")
    predicted = float(told) if isinstance(told, int | float) and 0 <= told <= 1 else None
    # A page names the Dice that it told; another one was of other results.
    same = predicted is None or abs(predicted - assessment.predicted_dice) < SAME_DICE
    return StoredRating(
        key=hashlib.sha256(file.read_bytes()).hexdigest(),
        scan=scan.name,
        rater=str(content.get("Rater") or "unnamed")[:40],
        version=scan.version if same else "",
        rating=rating,
        score=score if isinstance(score, int) and 1 <= score <= 5 else None,
        reasons=tuple(str(reason)[:60] for reason in reasons) if isinstance(reasons, list) else (),
        comment=str(content.get("Comment", ""))[:4000],
        rated=str(content.get("Rated") or now())[:40],
        judged_mask=assessment.judged_mask,
        verdict=str(content["Verdict"])[:10] if content.get("Verdict") else None,
        predicted_dice=predicted,
        source="import",
    )
