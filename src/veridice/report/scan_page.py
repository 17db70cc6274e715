"""One self-contained HTML page a scan, from what was stored: no live objects, no network, no script but the rating's."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

from markupsafe import Markup

from veridice.case import Assessment
from veridice.config import LESION
from veridice.io.bids import file_stem, read_assessment, read_table
from veridice.metrics.catalogue import MEASURES, PAGE_SCORES, PLACE_NAMES, label
from veridice.report.pages import VERDICT_WORDS, page_environment, promise, reason
from veridice.report.viewers import viewer_commands

DOUBTFUL = 0.5
PIECE_BY_PIECE = ("lesion_uncertainty", "lesion_count")
"""Scores of targets in many pieces alone."""
LISTED = 8
"""Lesions of each list."""


def write_report(assessment_file: Path, picture: bytes, grid: str, output: Path) -> None:
    """Write the report of a stored assessment.

    Args:
        assessment_file: ``*_veridice.json``; its tables lie beside it.
        picture: PNG of :func:`veridice.report.mosaic.draw_mosaic`.
        grid: of the FLAIR, in words.
        output: HTML file to write.
    """
    assessment = read_assessment(assessment_file)
    script = Markup(resources.files("veridice.report").joinpath("templates/rating.js").read_text(encoding="utf-8"))  # noqa: S704 (ours)
    template = page_environment("veridice.report").get_template("report.html.j2")
    html = template.render(
        a=assessment,
        stem=file_stem(assessment.case),
        rating_script=script,
        rating_script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        mosaic=base64.b64encode(picture).decode("ascii"),
        scores=_scores(assessment),
        grid=grid,
        verdict_words=VERDICT_WORDS[assessment.verdict],
        reason=reason(assessment),
        promise=promise(assessment.model),
        given="input_mask" in assessment.maps,
        place_names=PLACE_NAMES,
        commands=_commands(assessment),
        **_lesion_tables(assessment_file, assessment),
    )
    output.write_text(html, encoding="utf-8")


def _scores(assessment: Assessment) -> list[tuple[str, str, str]]:
    """Label, value and meaning of each score of the page; of another task than lesions, of those that it has."""
    task = assessment.task
    names = [name for name in PAGE_SCORES if name in assessment.scores or task.name == LESION.name]
    names = [name for name in names if task.scattered or name not in PIECE_BY_PIECE]
    return [(task.say(label(name)), _shown(assessment, name), task.say(MEASURES[name].meaning)) for name in names]


def _commands(assessment: Assessment) -> dict[str, str]:
    task, maps = assessment.task, assessment.maps
    return viewer_commands(f"{task.reference}.nii.gz", maps.get("input_mask", maps.get(task.own_mask)))


def _lesion_tables(assessment_file: Path, assessment: Assessment) -> dict[str, Any]:
    """The largest lesions that are rather none, and the largest places that look missed; how many of each are left out."""
    if "lesions" not in assessment.tables:
        return {"doubtful": [], "missed": [], "left_out": {}}
    table = read_table(assessment_file.parent / assessment.tables["lesions"])
    in_mask = [row for row in table if row["place"] == "mask" and row["confidence"] < DOUBTFUL]
    missed = [row for row in table if row["place"] == "missed"]
    return {
        "doubtful": in_mask[:LISTED],
        "missed": missed[:LISTED],
        "left_out": {"doubtful": max(0, len(in_mask) - LISTED), "missed": max(0, len(missed) - LISTED)},
    }


def _shown(assessment: Assessment, name: str) -> str:
    value = assessment.scores.get(name)
    if value is None:
        return "–"
    if name == "lesion_count" or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
