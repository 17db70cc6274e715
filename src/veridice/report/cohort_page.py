"""One self-contained HTML page a study: which scans to look at first, and how their numbers are spread. No torch."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import math
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from veridice._version import __version__
from veridice.config import LESION
from veridice.io.atomic import write_text
from veridice.metrics.catalogue import label
from veridice.report.charts import FIRST, drawing_script, measures, specifications
from veridice.report.pages import page_environment

EMBEDDED = 200
"""Thumbnails inside the page, from the top of the worklist; the others are read when they come into sight."""
LARGEST_THUMBNAIL = 256 * 1024
PNG = b"\x89PNG\r\n\x1a\n"
STATES = ("reject", "review", "accept", "failed", "none")
SCRIPTS = ("group.js", "group_list.js", "group_plots.js", "group_limits.js", "group_start.js")
PAGE_COLUMNS = {"participant_id": "", "session_id": None, "scan": "", "rank": None, "status": "done", "verdict": None}
"""Columns that the page cannot do without, and what stands in them where they are absent."""


def write_group_report(table: pd.DataFrame, cutoffs: pd.DataFrame, facts: dict[str, Any], folder: Path, output: Path) -> None:
    """Write the report of a whole study.

    Args:
        table: one row a scan: ``participant_id``, ``session_id``, ``scan``, ``rank`` (1 = most worth a look), ``status``
            (done or failed), ``reason``, ``verdict``, ``predicted_dice``, ``interval_low``, ``interval_high``,
            ``failure_probability``, ``expected_gain``, ``known``, ``judged_mask``, volumes (``*_ml``), further scores,
            ``warnings``, ``report`` and ``thumbnail`` (relative paths), ``site``, ``scanner``, ``acquired`` (ISO 8601).
            Any but the first three may be absent; missing values are NaN or None.
        cutoffs: a row a stated cut-off: ``looks``, ``share``, ``failures_found``, ``failures_left``, ``share_left``.
        facts: ``name`` of the data set, ``min_dice``, ``coverage``, ``calibration`` (``source``, ``n``, ``simulated``),
            ``settings_differ``, ``version``, ``target``, ``notes`` (list of sentences), ``known_values`` (rows of
            :func:`veridice.cohort.worklist.known_values`), ``other_limits`` (of
            :func:`veridice.cohort.other_limits.other_limits`); any may be absent.
        folder: where the relative paths of the thumbnails lead.
        output: HTML file to write, whole or not at all; the relative paths are links from its folder.

    Raises:
        OSError: the page cannot be written.
    """
    table = _completed(table)
    code = "\n".join(_template_file(name) for name in SCRIPTS)
    style = _template_file("group.css")
    html = (
        page_environment("veridice.report")
        .get_template("group.html.j2")
        .render(
            policy=_policy((drawing_script(), code), style),
            style=style,
            drawing=drawing_script(),
            code=code,
            study=_script_json(_payload(table, facts, folder)),
            counts={state: int((table["state"] == state).sum()) for state in STATES},
            people=table["participant_id"].nunique(),
            n=len(table),
            filters=[
                (name, label(name.removesuffix("_id")), _choices(table, name)) for name in ("session_id", "site", "scanner")
            ],
            cutoffs=cutoffs.to_dict("records"),
            facts=_facts(facts),
            unfamiliar=int((table["known"] == False).sum()) if "known" in table else 0,  # noqa: E712 - holds gaps
        )
    )
    # Names of files may hold bytes that are no text.
    write_text(output, html.encode("utf-8", "replace").decode("utf-8"))


def _completed(table: pd.DataFrame) -> pd.DataFrame:
    """In the worklist's order, with the columns that the page needs and the ``state`` that is shown."""
    table = table.reset_index(drop=True).infer_objects()
    table["given_row"] = range(len(table))
    for name, value in PAGE_COLUMNS.items():
        if name not in table:
            table[name] = range(1, len(table) + 1) if name == "rank" else pd.Series([value] * len(table), dtype=object)
    failed = table["status"] == "failed"
    verdicts = table["verdict"].where(table["verdict"].isin(STATES[:3]), "none")
    table = table.assign(state=verdicts.mask(failed, "failed").astype(object))
    order = pd.DataFrame({"done": ~failed, "rank": pd.to_numeric(table["rank"], errors="coerce")})
    return table.loc[order.sort_values(["done", "rank"], kind="stable").index].reset_index(drop=True)


def _facts(facts: dict[str, Any]) -> dict[str, Any]:
    calibration = {"source": None, "n": None, "simulated": False, **(facts.get("calibration") or {})}
    known = {key: value for key, value in facts.items() if value is not None}
    defaults: dict[str, Any] = {"name": "Study", "min_dice": None, "coverage": None, "settings_differ": False, "notes": []}
    defaults |= {"target": LESION.target, "known_values": [], "together": None, "other_limits": None}
    return {**defaults, "version": __version__, **known, "calibration": calibration}


def _payload(table: pd.DataFrame, facts: dict[str, Any], folder: Path) -> dict[str, Any]:
    min_dice = _plain(facts.get("min_dice"))
    links = [_relative(path) for path in table.get("report", [None] * len(table))]
    columns = [str(name) for name in table if name not in ("state", "thumbnail", "given_row")]
    charted = measures(table[table["state"] != "failed"], min_dice)
    return {
        "count": len(table),
        "name": str(_facts(facts)["name"]),
        "minDice": min_dice,
        "columns": columns,
        "table": {name: [_plain(value) for value in table[name]] for name in columns},
        "state": list(table["state"]),
        "links": links,
        "limits": _limits_in_order(table, facts),
        "images": _images(list(table.get("thumbnail", [None] * len(table))), folder),
        "times": _times(table),
        "measures": charted,
        "first": [name for name in FIRST if name in charted],
        "charts": specifications(),
    }


def _limits_in_order(table: pd.DataFrame, facts: dict[str, Any]) -> dict[str, Any] | None:
    """What other limits would do, in the order of the page, whose rows may stand in another than the table's."""
    limits = facts.get("other_limits")
    if not limits:
        return None
    order = table["given_row"].tolist()
    return {**limits, "from_level": [[levels[row] for row in order] for levels in limits["from_level"]]}


def _plain(value: Any) -> Any:
    """As JSON can hold it: numbers to six digits, gaps and infinities as null."""
    if pd.api.types.is_scalar(value) and pd.isna(value):
        return None
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        number = float(f"{value:.6g}")
        return (int(number) if number.is_integer() else number) if math.isfinite(number) else None
    if isinstance(value, (datetime.date, datetime.datetime)):
        return value.isoformat()
    return str(value)


def _script_json(content: dict[str, Any]) -> str:
    """JSON that may stand inside a script element: no text in it can end the element."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _relative(path: Any) -> str | None:
    """A link to a path below the report, quoted; None for any other."""
    if not isinstance(path, str) or not path or "\0" in path:
        return None
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or not parts:
        return None
    # The dot in front keeps "javascript:" a file name; surrogates stand for bytes that are no UTF-8.
    return "./" + quote("/".join(parts), safe="/", errors="surrogateescape")


def _images(paths: list[Any], folder: Path) -> list[str | None]:
    """Address of each thumbnail: the picture itself for the first ones, else the link to its file."""
    links = [_relative(path) for path in paths]
    return [
        (_data_uri(folder / str(path)) if number < EMBEDDED else link) if link else None
        for number, (path, link) in enumerate(zip(paths, links, strict=True))
    ]


def _data_uri(file: Path) -> str | None:
    """None when there is no picture to show: the page is worth having without."""
    try:
        if file.stat().st_size > LARGEST_THUMBNAIL:
            return None
        content = file.read_bytes()
    except OSError:
        return None
    return "data:image/png;base64," + base64.b64encode(content).decode("ascii") if content.startswith(PNG) else None


def _times(table: pd.DataFrame) -> list[int | None]:
    """Milliseconds since 1970 of ``acquired``; the zone that stands there, if any, is left out: clocks of the scanner."""
    return [_milliseconds(value) for value in table.get("acquired", [None] * len(table))]


def _milliseconds(value: Any) -> int | None:
    if pd.isna(value):
        return None
    try:
        moment = value if isinstance(value, datetime.datetime) else datetime.datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return round(moment.replace(tzinfo=datetime.UTC).timestamp() * 1000)


def _choices(table: pd.DataFrame, name: str) -> list[str]:
    """Values of a column to filter by; nothing where there is no choice."""
    if name not in table:
        return []
    values = sorted({str(_plain(value)) for value in table[name] if _plain(value) is not None})
    return values if len(values) > 1 else []


def _template_file(name: str) -> str:
    text = resources.files("veridice.report").joinpath("templates", name).read_text(encoding="utf-8")
    return text.replace("\r\n", "\n")


def _policy(scripts: tuple[str, ...], style: str) -> str:
    """Content-Security-Policy: nothing from the network, no script or style but those that stand in the page."""
    allowed = " ".join(_checksum(script) for script in scripts)
    parts = [
        "default-src 'none'",
        "img-src data: 'self' file:",
        f"script-src {allowed}",
        f"style-src {_checksum(style)}",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join(parts)


def _checksum(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii") + "'"
