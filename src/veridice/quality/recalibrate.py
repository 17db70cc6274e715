"""A site's own calibration, from scans of its own whose truth it knows."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from veridice.case import Assessment
from veridice.errors import InputError, OutputError
from veridice.io.bids import read_assessment
from veridice.io.labelled_scan import true_parts
from veridice.io.nifti import read_image
from veridice.io.weight_cards import bundled_weights, checksums
from veridice.metrics.overlap import dice
from veridice.quality.calibration import CalibrationSet, fewest_cases, joined, read_calibration, write_calibration
from veridice.quality.decision import fewest_people, people_with_bad_masks
from veridice.quality.model import CALIBRATION

COLUMNS = "assessment (a *_veridice.json) and truth (a mask) or dice; optionally patient"
FEWEST = fewest_cases(0.9)


def recalibrate(
    table: Path, output: Path, source: str, min_dice: float, max_missed: float | None, add_to_shipped: float | None = None
) -> tuple[CalibrationSet, int]:
    """Write a calibration from a table of known cases: :func:`read_table`, then :func:`recalibrate_rows`.

    Raises:
        InputError: the table cannot be used.
        OutputError: ``output`` cannot be written, or is an input.
    """
    return recalibrate_rows(table, read_table(table), output, source, min_dice, max_missed, add_to_shipped)


def recalibrate_rows(
    table: Path,
    rows: Sequence[Mapping[Hashable, str]],
    output: Path,
    source: str,
    min_dice: float,
    max_missed: float | None,
    add_to_shipped: float | None = None,
) -> tuple[CalibrationSet, int]:
    """Write a calibration from known cases: :func:`read_known_cases`, then :func:`calibrate`.

    Args:
        table: where the rows come from; their paths are relative to its folder.
        rows: as :func:`read_table` gives them.
        output: file to write.
        source, min_dice, max_missed: as in :func:`calibrate`.
        add_to_shipped: how much each person counts beside those of the calibration that ships; None: the cases stand alone.

    Returns:
        The calibration, and how many empty masks were left out.

    Raises:
        InputError: the rows cannot be used.
        OutputError: ``output`` cannot be written, or is an input.
    """
    inputs = [table, *(table.parent / row[name] for row in rows for name in ("assessment", "truth") if row.get(name))]
    if os.path.realpath(output) in {os.path.realpath(path) for path in inputs}:
        raise OutputError(f"{output}: is one of the files that are read; give another name to -o")
    known = read_known_cases(table, rows)
    made = calibrate(known, source, min_dice, max_missed)
    left_out = len(rows) - made.n
    if add_to_shipped is not None:
        made = joined(_shipped(known["task"].iloc[0]), made, add_to_shipped)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_calibration(output, made)
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({error.strerror}); give a file in a folder of yours to -o") from error
    return made, left_out


def _shipped(task: str) -> CalibrationSet:
    """The calibration that ships, with the checksums of the weights that judged its cases."""
    folder = bundled_weights(task)
    return read_calibration(folder / CALIBRATION).model_copy(update={"weights": checksums(folder, task)})


def read_table(table: Path) -> list[dict[Hashable, str]]:
    """Rows of a CSV or TSV: ``assessment``, the stored result of ``veridice check``, and either ``truth``, a true mask on the
    same grid, or ``dice``; optionally ``patient``. Paths are relative to the table.

    Raises:
        InputError: it is no such table.
    """
    try:
        rows = pd.read_csv(table, sep="\t" if table.suffix == ".tsv" else ",", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{table}: not a readable table ({' '.join(str(error).split())[:80]}); give {COLUMNS}") from error
    if "assessment" not in rows or not {"truth", "dice"} & set(rows):
        raise InputError(f"{table}: has columns {', '.join(map(str, rows.columns))}; needed are {COLUMNS}")
    if (twice := rows["assessment"].duplicated()).any():
        raise InputError(f"{table}: {rows['assessment'][twice].iloc[0]} is there twice; give every result once")
    return rows.to_dict("records")


def read_known_cases(table: Path, rows: Sequence[Mapping[Hashable, str]]) -> pd.DataFrame:
    """Judged masks with their true Dice, without empty ones, which get no interval.

    Args:
        table: where the rows come from.
        rows: of :func:`read_table`.

    Returns:
        Columns ``person``, ``predicted``, ``spread``, ``dice``; ``acceptable``, whether it could have been accepted at all;
        ``unfamiliarity``; ``simulated``; ``task``; ``weights`` and ``passes``, what it was judged with.

    Raises:
        InputError: a file cannot be read, a number is missing, or they are too few.
    """
    cases = []
    for number, row in enumerate(rows, start=2):
        file = table.parent / row["assessment"]
        assessment = read_assessment(file)
        spread = assessment.scores.get("predicted_spread")
        if spread is None:
            raise InputError(f"{file}: an older result without 'predicted_spread'; run veridice check again")
        known = _given_dice(table, number, row["dice"]) if row.get("dice") else _measured_dice(table, file, row, assessment)
        if assessment.scores.get("lesion_count") == 0:
            continue
        facts = {
            "person": row.get("patient") or assessment.case,
            "acceptable": not assessment.for_review,
            "unfamiliarity": assessment.scores.get("unfamiliarity"),
            "simulated": row.get("simulated") == "yes"
            or (bool(row.get("truth")) and _is_simulated(table.parent / row["truth"])),
            "task": assessment.task.name,
            "weights": assessment.model.get("weights", {}),
            "passes": assessment.model.get("passes"),
        }
        cases.append({**facts, "predicted": assessment.predicted_dice, "spread": spread, "dice": known})
    if len(cases) < FEWEST:
        raise InputError(f"{table}: {len(cases)} masks that are not empty are too few; at least {FEWEST} are needed, better 50")
    return pd.DataFrame(cases)


def _is_simulated(truth: Path) -> bool:
    """Whether the simulator's record lies beside a true mask."""
    return any(truth.parent.glob("*_desc-simulation_parameters.json"))


def _given_dice(table: Path, number: int, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0 <= value <= 1:
        raise InputError(f"{table}: line {number}: dice is '{text[:20]}'; give a number from 0 to 1")
    return value


def _measured_dice(table: Path, file: Path, row: Mapping[Hashable, str], assessment: Assessment) -> float:
    if not row.get("truth"):
        raise InputError(f"{table}: {row['assessment']} has neither truth nor dice; give one of them")
    name, task = assessment.judged_map, assessment.task
    if not {"entropy", name} <= set(assessment.maps):
        raise InputError(f"{file}: names no maps to measure the Dice from; give dice, or run veridice check again")
    grid = read_image(file.parent / assessment.maps["entropy"]).geometry
    pair = (true_parts(path, grid, task) for path in (file.parent / assessment.maps[name], table.parent / row["truth"]))
    return float(np.mean([dice(*part).dice for part in zip(*pair, strict=True)]))


def calibrate(known: pd.DataFrame, source: str, min_dice: float, max_missed: float | None) -> CalibrationSet:
    """A calibration of known cases, for the interval and for the decision.

    Args:
        known: from :func:`read_known_cases`.
        source: what the cases are, in words; every result will name it.
        min_dice: what a mask needs to be of use.
        max_missed: of the bad masks that may be accepted, where that has to be promised.

    Raises:
        InputError: so few bad masks cannot promise that, or the cases were not judged alike.
    """
    weights, passes = known["weights"].iloc[0], known["passes"].iloc[0]
    if any(other != weights for other in known["weights"]) or known["passes"].nunique(dropna=False) > 1:
        raise InputError("the cases were judged with different weights or numbers of passes; run veridice check again on all")
    simulated = bool(known["simulated"].any())
    made = CalibrationSet.of(known["predicted"], known["spread"], known, source, simulated)
    bad = people_with_bad_masks(made, min_dice)
    if max_missed is not None and bad < (needed := fewest_people(max_missed)):
        raise InputError(
            f"masks below a Dice of {min_dice:g} of {bad:g} people cannot promise that at most {max_missed:.1%} of such masks "
            f"are accepted: {needed} people are needed; give more cases, a larger --max-missed, or leave it out"
        )
    return made.model_copy(update={"weights": weights, "passes": passes and int(passes)})
