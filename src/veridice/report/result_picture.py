"""One picture that says everything, for viewers that show pictures only: verdict, numbers, warnings, slices."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping

from PIL import Image, ImageDraw

from veridice.case import Assessment
from veridice.imaging.grid import GridTransform
from veridice.imaging.volume import Volume
from veridice.report.mosaic import draw_mosaic, font
from veridice.report.pages import VERDICT_WORDS, promise, reason

SHOWN = ("lesion_mask", "input_mask", "lesion_probability", "entropy")
COLOURS = {"accept": (120, 220, 140), "review": (255, 210, 90), "reject": (255, 120, 110)}
MARGIN, TITLE, TEXT, LEADING = 24, 34, 18, 26
"""Pixels."""
LETTER = 0.53
"""Mean width of a letter, as part of its height."""
MOST_WARNINGS = 6


def draw_result(assessment: Assessment, flair: Volume, volumes: Mapping[str, Volume], transform: GridTransform) -> bytes:
    """PNG: what is said of a mask above, axial slices below.

    Args:
        assessment: what came of the scan.
        flair: the scan.
        volumes: maps in its grid, by name.
        transform: whose crop is shown.
    """
    maps = {name: volumes[name] for name in SHOWN if name in volumes}
    slices = Image.open(io.BytesIO(draw_mosaic(flair, None, maps, transform)))
    lines = _lines(assessment, int((slices.width - 2 * MARGIN) / (TEXT * LETTER)))
    top = 2 * MARGIN + TITLE + LEADING * len(lines)
    canvas = Image.new("RGB", (slices.width, top + slices.height))
    pen = ImageDraw.Draw(canvas)
    title = f"veridice: {assessment.verdict}"
    pen.text((MARGIN, MARGIN), title, fill=COLOURS[assessment.verdict], font=font(TITLE))
    for number, (line, colour) in enumerate(lines):
        pen.text((MARGIN, MARGIN + TITLE + 12 + LEADING * number), line, fill=colour, font=font(TEXT))
    canvas.paste(slices, (0, top))
    buffer = io.BytesIO()
    canvas.save(buffer, format="png")
    return buffer.getvalue()


def _lines(assessment: Assessment, width: int) -> list[tuple[str, tuple[int, int, int]]]:
    """Text and its colour, no line longer than ``width`` letters."""
    white, grey, yellow = (255, 255, 255), (170, 170, 170), COLOURS["review"]
    interval = ""
    if assessment.interval is not None and assessment.coverage is not None:
        low, high = assessment.interval
        interval = f" ({low:.2f} to {high:.2f}, which holds for {assessment.coverage:.0%} of such masks)"
    volume, count = assessment.volumes_ml.get("judged_mask", 0.0), assessment.scores.get("lesion_count") or 0
    said = [
        (VERDICT_WORDS[assessment.verdict], white),
        (reason(assessment), white),
        (f"Predicted Dice {assessment.predicted_dice:.2f}{interval}.", white),
        (f"Lesions: {volume:.1f} ml in {count:.0f} parts. Judged mask: {_who(assessment.judged_mask)}.", white),
        *((f"Warning: {warning}.", yellow) for warning in assessment.warnings[:MOST_WARNINGS]),
        (
            f"{len(assessment.warnings) - MOST_WARNINGS} more warnings are in the report."
            * (len(assessment.warnings) > MOST_WARNINGS),
            yellow,
        ),
        (promise(assessment.model), grey),
        ("Research use only. Not a medical device.", grey),
    ]
    return [(line, colour) for text, colour in said if text for line in textwrap.wrap(text, width)]


def _who(judged: str) -> str:
    return "our own" if judged == "own" else judged
