"""What people said of masks: ``*_rating.json`` beside the pages of the scans. None of them is passed over in silence."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from veridice.case import plain_name
from veridice.io.bids import ASSESSMENT_SUFFIX, RATING_SUFFIX

RATINGS = ("accept", "needs edit", "reject")
REASONS = (
    "missed lesions",
    "false lesions",
    "wrong borders",
    "artefact or motion",
    "wrong scan or registration",
    "other disease",
)
LARGEST_RATING = 64 * 1024
"""Bytes; a rating with a long comment has a thousand."""
SAID = 5
"""Files that are named one by one; of more only the number is told."""


class Rating(NamedTuple):
    """A rating as it was read.

    Args:
        value: accept, needs edit or reject; None where there is none that can be used.
        complaint: what is wrong with the file; empty where nothing is.
    """

    value: str | None = None
    complaint: str = ""


def rating_file(assessment: Path) -> Path:
    """Where the rating of a scan lies, beside its stored assessment."""
    return assessment.with_name(assessment.name.removesuffix(ASSESSMENT_SUFFIX) + RATING_SUFFIX)


def read_rating(file: Path, scan: str = "", mask: str = "") -> Rating:
    """Read a rating, exported from the page of a scan.

    Args:
        file: that may be absent.
        scan: beginning of the names of the scan's files; empty: not compared.
        mask: name of the judged mask; empty: not compared.
    """
    try:
        if not file.exists() and not file.is_symlink():
            return Rating()
        if file.exists() and not file.is_file():
            return Rating(None, "is no file")
        if file.stat().st_size > LARGEST_RATING:
            return Rating(None, f"is larger than {LARGEST_RATING // 1024} KiB, no rating")
        said = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        return Rating(None, f"cannot be read ({error.strerror or error})")
    except (ValueError, RecursionError):
        return Rating(None, "is no JSON")
    if not isinstance(said, dict) or said.get("Rating") not in RATINGS:
        return Rating(None, f"has no Rating that is one of {', '.join(RATINGS)}")
    return _compared(said, scan, mask)


def _compared(said: dict[str, Any], scan: str, mask: str) -> Rating:
    """A rating of another scan or mask is not this one's; one with a part that cannot be used counts all the same."""
    for name, wanted in (("Scan", scan), ("JudgedMask", mask)):
        if wanted and said.get(name, wanted) != wanted:
            return Rating(None, f"is of {name} '{_short(said[name])}', not of '{wanted}'")
    reasons = said.get("Reasons", [])
    if not isinstance(reasons, list):
        return Rating(said["Rating"], "has Reasons that are no list")
    if unknown := [reason for reason in reasons if reason not in REASONS]:
        return Rating(said["Rating"], f"has an unknown reason '{_short(unknown[0])}'")
    if said.get("Format", 1) != 1:
        return Rating(said["Rating"], f"has the unknown Format '{_short(said['Format'])}'")
    if wrong := [name for name in ("Comment", "Rater") if not isinstance(said.get(name, ""), str)]:
        return Rating(said["Rating"], f"has a {wrong[0]} that is no text")
    return Rating(said["Rating"])


def _short(value: Any) -> str:
    return plain_name(str(value))[:60]


def doubtful_ratings(output: Path, judged: Iterable[tuple[str, str]]) -> list[str]:
    """A sentence for each rating below a folder that is damaged, of no scan there, or only partly usable.

    Args:
        output: folder of derivatives.
        judged: path of each scan's assessment, relative to ``output``, and the name of its judged mask.
    """
    masks = {output / name: mask for name, mask in judged}
    said = []
    for file in sorted(output.rglob("*_rating*.json")):
        place = file.relative_to(output)
        if any(part.startswith(".") for part in place.parts):
            continue
        assessment = file.with_name(file.name.removesuffix(RATING_SUFFIX) + ASSESSMENT_SUFFIX)
        if assessment in masks:
            stem = assessment.name.removesuffix(ASSESSMENT_SUFFIX)
            rating = read_rating(file, stem, masks[assessment])
            counts = "it counts all the same" if rating.value else "it counts for nothing"
            complaint = f"{rating.complaint}: {counts}" if rating.complaint else ""
        else:
            complaint = "" if assessment.exists() else "belongs to no scan here: give it the name SCAN_rating.json"
        if complaint:
            said.append(f"rating {plain_name(place.as_posix())} {complaint}")
    return said if len(said) <= SAID else [*said[:SAID], f"{len(said) - SAID} more ratings cannot be used or only in part"]
