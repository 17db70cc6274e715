"""One self-contained page of what changed between visits: no script, no network. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from veridice._version import __version__
from veridice.io.atomic import write_text
from veridice.report.pages import page_environment

SHOWN = 300
"""People on the page, those whose change is the clearest first; all are in the table."""
WIDTH, HEIGHT = 220, 64


def write_visits_page(output: Path, name: str, people: Sequence[Mapping[str, Any]]) -> None:
    """Write the page, whole or not at all.

    Args:
        output: HTML file.
        name: of the study.
        people: rows of ``participant``, ``volumes`` (ml, one a visit), ``sessions`` (their names) and ``pairs`` (of
            :class:`veridice.cohort.visits.VisitPair`), the clearest change first.

    Raises:
        OSError: it cannot be written.
    """
    shown = [{**person, "line": _line(person["volumes"])} for person in people[:SHOWN]]
    pairs = [pair for person in people for pair in person["pairs"]]
    html = (
        page_environment("veridice.report")
        .get_template("visits.html.j2")
        .render(
            name=name,
            people=shown,
            count=len(people),
            pairs=len(pairs),
            changed=sum(pair.more_than_noise for pair in pairs),
            doubted=sum(bool(pair.doubt) for pair in pairs),
            width=WIDTH,
            height=HEIGHT,
            version=__version__,
        )
    )
    write_text(output, html)


def _line(volumes: Sequence[float]) -> list[tuple[float, float]]:
    """Points of the curve of a person, from zero up."""
    top = max([*volumes, 1e-6])
    step = WIDTH / max(1, len(volumes) - 1)
    return [(round(step * place, 1), round(HEIGHT * (1 - volume / top), 1)) for place, volume in enumerate(volumes)]
