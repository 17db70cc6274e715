"""Tables of an experiment as files: CSV for programs, GitHub Markdown for people; the same content gives the same bytes."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from veridice.errors import InputError
from veridice.experiment.results.evaluation import COLUMNS
from veridice.io.atomic import staged_output

NUMBERS = ("load_ml", "dice", "dice_native", "score")
"""Columns of the case table that are numbers; folds are, too, where all of them are whole ones."""
DIGITS = 6
REFITS = "refits.csv"
"""File of the table that :func:`read_refits` reads."""


def neutralised(text: str) -> str:
    """Text that no spreadsheet takes for a formula: an apostrophe before ``= + - @`` and their like (OWASP, CSV injection)."""
    return f"'{text}" if text.lstrip().startswith(("=", "+", "-", "@")) or text.startswith(("\t", "\r", "\n")) else text


def _original(text: str) -> str:
    return re.sub(r"^'(?=\s*[=+\-@]|[\t\r\n])", "", text)


def write_csv(path: Path, table: pd.DataFrame, digits: int = DIGITS) -> None:
    """Write a table whole or not at all: floats of ``digits`` figures, nothing where there is no value.

    Raises:
        OutputError: it cannot be written.
    """
    with staged_output(path.parent) as stage:
        _safe(table).to_csv(stage / path.name, index=False, float_format=f"%.{digits}g", lineterminator="\n", encoding="utf-8")


def _safe(table: pd.DataFrame) -> pd.DataFrame:
    """Texts and headers neutralised, and no negative zeros, whose sign is chance."""
    safe = pd.DataFrame(index=table.index)
    for name in table.columns:
        column = table[name]
        is_float = pd.api.types.is_float_dtype(column)
        safe[neutralised(str(name))] = column + 0.0 if is_float else column.map(_safe_cell)
    return safe


def _safe_cell(value: Any) -> Any:
    return neutralised(value) if isinstance(value, str) else value


def write_cases(path: Path, cases: pd.DataFrame) -> None:
    """Write a case table, which is the source of all others: floats keep every bit.

    Raises:
        OutputError: it cannot be written.
    """
    write_csv(path, cases[list(COLUMNS)], digits=17)


def read_cases(path: Path) -> pd.DataFrame:
    """Read a case table; names are texts even where they look like numbers or like nothing ("007", "NA"), and what
    :func:`neutralised` put before them is gone.

    Raises:
        InputError: no such file, not a case table, or a number that is none.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        for name in NUMBERS:
            table[name] = table[name].replace("", "nan").astype(float)
        for name in set(COLUMNS) - set(NUMBERS):
            table[name] = table[name].map(_original)
        if table["fold"].str.fullmatch(r"\d{1,9}").all():
            table["fold"] = table["fold"].astype(int)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a case table ({error}); run the experiment again") from error
    return table


def read_refits(path: Path) -> pd.DataFrame:
    """Read the table of predictions with and without the scanner; texts as in :func:`read_cases`.

    Raises:
        InputError: no such file, or not such a table.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        return table.assign(
            **{name: table[name].map(_original) for name in ("case", "patient", "dataset")},
            **{name: table[name].astype(float) for name in ("dice", "seen", "unseen")},
        )
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not a table of refits ({error}); run the experiment again") from error


def read_classes(path: Path) -> pd.DataFrame:
    """The chances of classes that :func:`write_csv` wrote: ``fold``, ``case`` and a column a class."""
    table = pd.read_csv(path, dtype={"case": str}, keep_default_na=False)
    return table.assign(case=table["case"].map(_original))


def write_markdown(path: Path, table: pd.DataFrame, digits: int = 3) -> None:
    """Write a table as GitHub Markdown, whole or not at all.

    Raises:
        OutputError: it cannot be written.
    """
    with staged_output(path.parent) as stage:
        (stage / path.name).write_text(markdown(table, digits), encoding="utf-8")


def markdown(table: pd.DataFrame, digits: int = 3) -> str:
    """A table in GitHub Markdown: floats of ``digits`` decimals, a dash where there is no value, texts inert."""
    numeric = [bool(pd.api.types.is_numeric_dtype(table[name])) for name in table.columns]
    lines = [
        _line([_inert(str(name)) for name in table.columns]),
        _line(["---:" if number else "---" for number in numeric]),
    ]
    lines += [_line([_cell(value, digits) for value in row]) for row in table.itertuples(index=False, name=None)]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(value: Any, digits: int) -> str:
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return "–"
    if isinstance(value, float | np.floating):
        text = f"{value:.{digits}f}"
        return text.removeprefix("-") if float(text) == 0 else text
    return _inert(str(value))


def _inert(text: str) -> str:
    """No HTML, no links, no emphasis, no end of the cell."""
    return re.sub(r"([\\`*\[\]|~])", r"\\\1", html.escape(" ".join(text.split()), quote=False))
