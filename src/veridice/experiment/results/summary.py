"""One self-contained HTML page of an experiment, from its stored tables and figures."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from typing import Any

import pandas as pd

from veridice.io.atomic import staged_output
from veridice.report.pages import page_environment

SUMMARY = "summary.html"
LADDER = {
    "method": "method",
    "n": "n",
    "pearson_r": "Pearson r",
    "spearman": "Spearman",
    "mae": "MAE",
    "auroc_failure": "AUROC, failure",
    "auroc_worst_fifth": "AUROC, worst fifth",
    "normalised_aurc": "normalised AURC",
    "normalised_aurc_low": "from",
    "normalised_aurc_high": "to",
    "review_share": "to review",
}
"""Columns of the ladder that are shown, and what they are called."""
TABLES = (
    (
        "The ladder",
        "All test cases pooled, best first. Normalised AURC: 0 orders as the truth does, 1 knows nothing; with its 95 % "
        "bootstrap interval by patient. To review: smallest share to look at so that at most 5 % of the others failed.",
        "ladder",
    ),
    ("Table 1", "Medians over the folds (N: mean), above the numbers that the paper printed for its real data.", "table1"),
    (
        "The paper's findings",
        "Confirmed or refuted: the 95 % bootstrap interval by patient is all on one side of zero. All test cases.",
        "findings",
    ),
    ("By group", "Within each data set and severity, for a few methods; all in groups.csv.", "groups"),
)
PICTURES = (
    ("Figure 1", "Small, medium and large load among the first fold's test cases; left is the patient's right.", "figure1"),
    ("Figure 2", "Voxel-wise sums against true Dice.", "figure2"),
    ("Figure 3", "Predicted against true Dice.", "figure3"),
    ("Risk and coverage", "Mean 1 - Dice of the accepted cases, the most trusted first.", "risk-coverage"),
    ("Calibration", "Mean true Dice of bins of predicted Dice.", "calibration"),
)

IN_GROUPS = ("volume", "pairwise_dice", "combination", "veridice")


def write_summary(name: str, data: str, results: Path, failure_dice: float) -> None:
    """Write ``summary.html`` into ``results`` from the tables and figures there.

    Args:
        name: of the experiment.
        data: one sentence on which cases these are.
        results: folder of :func:`veridice.experiment.results.write.write_results`.
        failure_dice: a segmentation below it failed.
    """
    template = page_environment("veridice.experiment.results").get_template("experiment.html.j2")
    tables = [(title, note, _shown(results / f"{file}.csv")) for title, note, file in TABLES]
    pictures = [
        (title, note, base64.b64encode(picture.read_bytes()).decode())
        for title, note, file in PICTURES
        if (picture := results / f"{file}.png").exists()  # not where none of its methods was asked for
    ]
    html = template.render(name=name, data=data, failure_dice=failure_dice, tables=tables, pictures=pictures)
    with staged_output(results) as stage:
        (stage / SUMMARY).write_text(html, encoding="utf-8")


def _shown(path: Path) -> dict[str, list[Any]]:
    """A table as text, ``columns`` and ``rows``; each heading and cell with whether it is of numbers."""
    table = _read(path)
    if path.stem == "ladder":
        table = table[[column for column in LADDER if column in table]].rename(columns=LADDER)
    if path.stem == "groups":
        table = table[table["method"].isin(IN_GROUPS)]
    numeric = [pd.api.types.is_numeric_dtype(table[column]) for column in table]
    rows = [
        [(_text(cell) if number else str(cell), number) for cell, number in zip(row, numeric, strict=True)]
        for row in table.itertuples(index=False)
    ]
    headings = [(str(column).replace("_", " "), number) for column, number in zip(table, numeric, strict=True)]
    return {"columns": headings, "rows": rows}


def _text(cell: object) -> str:
    if isinstance(cell, float):
        return "–" if math.isnan(cell) else f"{cell:z.3f}".replace("-", "−")
    return str(cell)


def _read(path: Path) -> pd.DataFrame:
    """A stored table; texts are texts, and only columns of numbers have gaps."""
    table = pd.read_csv(path, keep_default_na=False, dtype=str)
    for column in table:
        numbers = pd.to_numeric(table[column].replace("", "nan"), errors="coerce")
        if (numbers.notna() | table[column].isin(["", "nan"])).all() and numbers.notna().any():
            table[column] = numbers
    return table
