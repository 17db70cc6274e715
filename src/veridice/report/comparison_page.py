"""One self-contained page that compares the tools of a study: no script, no network. No torch."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from veridice._version import __version__
from veridice.io.atomic import write_text
from veridice.report.pages import page_environment

SHOWN_PAIRS = 60
LARGEST_PICTURE = 256 * 1024
WIDTH, ROW = 420, 26
"""Of the drawing of means, in pixels."""


def write_comparison_page(
    output: Path,
    tools: Sequence[Mapping[str, Any]],
    pairs: Sequence[Any],
    groups: Sequence[Mapping[str, Any]],
    disagreements: Sequence[Mapping[str, Any]],
    consensus: Mapping[str, float],
    facts: Mapping[str, Any],
) -> None:
    """Write the page, whole or not at all.

    Args:
        output: HTML file; pictures lie below its folder.
        tools: rows of :func:`veridice.cohort.tool_table.summarise`.
        pairs: of :func:`veridice.quality.tool_order.compare_pairs`.
        groups: of :func:`veridice.cohort.tool_table.group_means`.
        disagreements: of :func:`veridice.cohort.tool_table.disagreements`, with the ``folder`` of each scan.
        consensus: mean predicted Dice of masks made of all, by name; may be empty.
        facts: ``name``, ``level``, ``kind_error``, ``scans``, ``people``.

    Raises:
        OSError: it cannot be written.
    """
    order = {row["tool"]: place for place, row in enumerate(tools)}
    stated = sorted(pairs, key=lambda pair: (pair.statement == "undecided", pair.p_value))
    html = (
        page_environment("veridice.report")
        .get_template("comparison.html.j2")
        .render(
            tools=tools,
            names=sorted(order, key=lambda tool: order[tool]),
            dots=[_dot(row, place) for place, row in enumerate(tools) if row["people"]],
            width=WIDTH,
            height=ROW * len(tools) + 24,
            pairs=[_sentence(pair) for pair in stated[:SHOWN_PAIRS]],
            more_pairs=max(0, len(stated) - SHOWN_PAIRS),
            decided=sum(pair.statement != "undecided" for pair in pairs),
            groups=groups,
            disagreements=[_with_pictures(row, output.parent) for row in disagreements],
            consensus=consensus,
            facts=facts,
            version=__version__,
        )
    )
    write_text(output, html)


def _dot(row: Mapping[str, Any], place: int) -> dict[str, Any]:
    """Places of a mean and its interval, from 0 to 1 over the width."""
    return {
        "tool": row["tool"],
        "y": ROW * (place + 0.5),
        **{name: round(WIDTH * (row[name] if row[name] == row[name] else row["mean"]), 1) for name in ("mean", "low", "high")},
    }


def _sentence(pair: Any) -> dict[str, Any]:
    better, worse = (pair.first, pair.second) if pair.difference >= 0 else (pair.second, pair.first)
    return {
        "better": better,
        "worse": worse,
        "people": pair.people,
        "difference": abs(pair.difference),
        "error": pair.error,
        "p_value": pair.p_value,
        "decided": pair.statement != "undecided",
    }


def _with_pictures(row: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    masks = [(mask, _picture(folder / row["folder"] / mask.thumbnail) if mask.thumbnail else None) for mask in row["masks"]]
    return {**row, "masks": masks}


def _picture(file: Path) -> str | None:
    try:
        if file.stat().st_size > LARGEST_PICTURE:
            return None
        return base64.b64encode(file.read_bytes()).decode("ascii")
    except OSError:
        return None
