"""One self-contained HTML page a scan, from what was stored: no live objects, no network, no script but the rating's."""

from __future__ import annotations

import base64
import hashlib
import io
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes

from veridice.case import Assessment
from veridice.imaging.grid import fit_grid
from veridice.imaging.volume import Volume
from veridice.io.bids import file_stem, read_assessment
from veridice.io.nifti import read_map
from veridice.metrics.catalogue import MEASURES, PAGE_SCORES, label
from veridice.report.pages import page_environment
from veridice.report.slices import doubtful_slices, picture_size, radiological, window
from veridice.types import Voxels

matplotlib.use("Agg")
SLICES = 4
DOUBTFUL = 0.5
LISTED = 8
"""Lesions of each list."""
MASK_COLOUR = "#ff5a1f"
OWN_COLOUR = "#35d0ff"


@dataclass(frozen=True)
class Panel:
    """One row of the mosaic: an image with how it is to be shown."""

    title: str
    voxels: Voxels
    colours: str
    low: float
    high: float
    outlined: bool = False
    unit: str = ""


def write_report(assessment_file: Path, flair: Volume, t1: Volume | None, output: Path) -> None:
    """Write the report of a stored assessment.

    Args:
        assessment_file: ``*_veridice.json``; its maps lie beside it.
        flair, t1: the scan that was judged.
        output: HTML file to write.
    """
    assessment = read_assessment(assessment_file)
    maps = {name: read_map(assessment_file.parent / file) for name, file in assessment.maps.items()}
    script = Markup(resources.files("veridice.report").joinpath("templates/rating.js").read_text(encoding="utf-8"))  # noqa: S704 (ours)
    html = (
        page_environment("veridice.report")
        .get_template("report.html.j2")
        .render(
            a=assessment,
            stem=file_stem(assessment.case),
            rating_script=script,
            rating_script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            mosaic=_mosaic(flair, t1, maps),
            scores=[(label(name), _shown(assessment, name), MEASURES[name].meaning) for name in PAGE_SCORES],
            grid=flair.geometry.describe(),
            verdict_words=VERDICT_WORDS[assessment.verdict],
            given="input_mask" in maps,
            **_lesion_tables(assessment_file, assessment),
        )
    )
    output.write_text(html, encoding="utf-8")


def _lesion_tables(assessment_file: Path, assessment: Assessment) -> dict[str, Any]:
    """The largest lesions that are rather none, and the largest places that look missed; how many of each are left out."""
    if "lesions" not in assessment.tables:
        return {"doubtful": [], "missed": [], "left_out": {}}
    table = pd.read_csv(assessment_file.parent / assessment.tables["lesions"], sep="\t")
    in_mask = table[(table["place"] == "mask") & (table["confidence"] < DOUBTFUL)]
    missed = table[table["place"] == "missed"]
    return {
        "doubtful": in_mask.head(LISTED).to_dict("records"),
        "missed": missed.head(LISTED).to_dict("records"),
        "left_out": {"doubtful": max(0, len(in_mask) - LISTED), "missed": max(0, len(missed) - LISTED)},
    }


VERDICT_WORDS = {
    "accept": "The mask is expected to be good enough.",
    "review": "A person should look at this mask.",
    "reject": "The mask is expected to have failed.",
}


def _shown(assessment: Assessment, name: str) -> str:
    value = assessment.scores.get(name)
    if value is None:
        return "–"
    if name == "lesion_count" or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _mosaic(flair: Volume, t1: Volume | None, maps: dict[str, Volume]) -> str:
    """PNG (base64) with one row a slice and one column a map; radiological convention, cropped to the head."""
    judged = maps.get("input_mask", maps["lesion_mask"])
    # The planned crop serves the pictures too; the shape of the cube does not matter here.
    plan = fit_grid(flair, (16, 16, 16))
    spacing = np.array(flair.geometry.voxel_spacing)[np.argsort(plan.orientation[:, 0])]

    def cut(volume: Volume) -> Voxels:
        return plan.crop(np.asarray(volume.voxels, dtype=np.float32))

    panels = [Panel("FLAIR", cut(flair), "gray", *window(cut(flair)))]
    if t1 is not None:
        panels.append(Panel("T1w", cut(t1), "gray", *window(cut(t1))))
    panels += [
        Panel("judged mask", cut(flair), "gray", *window(cut(flair)), outlined=True),
        Panel("lesion probability", cut(maps["lesion_probability"]), "magma", 0, 1),
        Panel("entropy", cut(maps["entropy"]), "magma", 0, 1, unit="bit"),
        Panel("reconstruction", cut(maps["reconstruction"]), "gray", 0, 1),
        Panel("error", cut(maps["reconstruction_error"]), "RdBu_r", -0.4, 0.4),
    ]
    outlines = [(cut(judged), MASK_COLOUR)]
    if "input_mask" in maps:
        outlines.append((cut(maps["lesion_mask"]), OWN_COLOUR))
    slices = doubtful_slices(cut(judged), cut(maps["entropy"]), SLICES)
    return _draw(panels, outlines, slices, spacing)


COLUMN, ABOVE, BELOW = 2.1, 0.3, 0.42
"""Inches: width of a picture, room for titles, room for colour bars."""


def _draw(panels: list[Panel], outlines: list[tuple[Voxels, str]], slices: list[int], spacing: Voxels) -> str:
    """All pictures in one pair of axes, in millimetres: axes of their own take a second to make."""
    width, height = picture_size(panels[0].voxels.shape, spacing)
    gap, inch = 0.01 * width, width / COLUMN
    across = len(panels) * (width + gap) - gap
    up = len(slices) * (height + gap) - gap + (ABOVE + BELOW) * inch
    figure = plt.figure(figsize=(across / inch, up / inch), facecolor="black")
    axis = figure.add_axes((0, 0, 1, 1))
    for row, index in enumerate(slices):
        bottom = BELOW * inch + row * (height + gap)
        for column, panel in enumerate(panels):
            left = column * (width + gap)
            place = (left, left + width, bottom, bottom + height)
            axis.imshow(
                radiological(panel.voxels[:, :, index]),
                cmap=panel.colours,
                vmin=panel.low,
                vmax=panel.high,
                extent=place,
                interpolation="nearest",
            )
            if panel.outlined:
                for voxels, colour in outlines:
                    _outline(axis, radiological(voxels[:, :, index]), colour, place)
        for text, where in (("R", 0.02), ("L", 0.98)):
            side = "left" if text == "R" else "right"
            axis.text(where * width, bottom + height / 2, text, color="white", fontsize=9, va="center", ha=side)
    for column, panel in enumerate(panels):
        middle = column * (width + gap) + width / 2
        axis.text(middle, up - ABOVE * inch / 2, panel.title, color="white", fontsize=10, va="center", ha="center")
        _colour_bar(axis, panel, middle, width, inch)
    axis.set(xlim=(0, across), ylim=(0, up), aspect="auto")
    axis.axis("off")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, facecolor="black")
    plt.close(figure)
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _outline(axis: Axes, mask: Voxels, colour: str, place: tuple[float, float, float, float]) -> None:
    if not mask.any():
        return
    left, right, bottom, top = place
    rows, columns = mask.shape
    x = left + (np.arange(columns) + 0.5) * (right - left) / columns
    y = top - (np.arange(rows) + 0.5) * (top - bottom) / rows
    axis.contour(x, y, mask, levels=[0.5], colors=[colour], linewidths=0.9)


def _colour_bar(axis: Axes, panel: Panel, middle: float, width: float, inch: float) -> None:
    if panel.colours == "gray":
        return
    left, right = middle - 0.4 * width, middle + 0.4 * width
    bottom, top = 0.26 * inch, 0.32 * inch
    axis.imshow(np.linspace(0, 1, 256)[None], cmap=panel.colours, vmin=0, vmax=1, extent=(left, right, bottom, top))
    for share in (0, 0.5, 1):
        value = panel.low + share * (panel.high - panel.low)
        axis.text(left + share * (right - left), 0.22 * inch, f"{value:g}", color="white", fontsize=7, va="top", ha="center")
    axis.text(right + 0.03 * width, (bottom + top) / 2, panel.unit, color="white", fontsize=7, va="center")
