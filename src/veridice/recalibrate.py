"""A site's own calibration, from scans of its own whose truth it knows."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from veridice.calibration import AcceptRule, CalibrationSet, accept_rule, fewest_cases, write_calibration
from veridice.case import Assessment
from veridice.errors import InputError, OutputError
from veridice.io.bids import read_assessment
from veridice.io.nifti import read_image, read_mask
from veridice.overlap import dice

COLUMNS = "assessment (a *_veridice.json) and truth (a mask) or dice; optionally patient"
FEWEST = fewest_cases(0.9)


def recalibrate(table: Path, output: Path, source: str, min_dice: float, share: float | None) -> CalibrationSet:
    """Write a calibration from a table of known cases: :func:`read_known_cases`, then :func:`calibrate`.

    Raises:
        InputError: the table cannot be used.
        OutputError: ``output`` cannot be written.
    """
    made = calibrate(read_known_cases(table), source, min_dice, share)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_calibration(output, made)
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({error.strerror}); give a file in a folder of yours to -o") from error
    return made


def read_known_cases(table: Path) -> pd.DataFrame:
    """Judged masks with their true Dice: columns ``person``, ``predicted``, ``spread``, ``dice``.

    Args:
        table: CSV or TSV with a column ``assessment``, the stored result of ``veridice check``, and either ``truth``, a true
            mask on the same grid, or ``dice``. Paths are relative to the table.

    Raises:
        InputError: it is no such table, a file cannot be read, or a number is missing.
    """
    try:
        rows = pd.read_csv(table, sep="\t" if table.suffix == ".tsv" else ",", dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{table}: not a readable table ({' '.join(str(error).split())[:80]}); give {COLUMNS}") from error
    if "assessment" not in rows or not {"truth", "dice"} & set(rows):
        raise InputError(f"{table}: has columns {', '.join(map(str, rows.columns))}; needed are {COLUMNS}")
    cases = []
    for number, row in enumerate(rows.to_dict("records"), start=2):
        file = table.parent / row["assessment"]
        assessment = read_assessment(file)
        spread = assessment.scores.get("predicted_spread")
        if spread is None:
            raise InputError(f"{file}: an older result without 'predicted_spread'; run veridice check again")
        known = _given_dice(table, number, row["dice"]) if row.get("dice") else _measured_dice(table, file, row, assessment)
        patient = row.get("patient") or assessment.case
        cases.append({"person": patient, "predicted": assessment.predicted_dice, "spread": spread, "dice": known})
    if len(cases) < FEWEST:
        raise InputError(f"{table}: {len(cases)} cases are too few for an interval; at least {FEWEST} are needed, better 50")
    return pd.DataFrame(cases)


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
    name = "input_mask" if "input_mask" in assessment.maps else "lesion_mask"
    grid = read_image(file.parent / assessment.maps["entropy"]).geometry
    judged = read_mask(file.parent / assessment.maps[name], grid)
    return dice(judged.voxels, read_mask(table.parent / row["truth"], grid).voxels).dice


def calibrate(known: pd.DataFrame, source: str, min_dice: float, share: float | None) -> CalibrationSet:
    """A calibration of known cases, with a threshold of its own where ``share`` asks for one and the cases allow it.

    Args:
        known: from :func:`read_known_cases`.
        source: what the cases are, in words; every result will name it.
        min_dice: what a mask needs to be of use.
        share: of the accepted scans that shall have it.

    Raises:
        InputError: no threshold can be shown to keep that share with so few or such cases.
    """
    calibration = CalibrationSet.of(known["predicted"], known["spread"], known, source, simulated=False)
    if share is None:
        return calibration
    rule: AcceptRule | None = accept_rule(calibration, min_dice, share)
    if rule is None:
        raise InputError(
            f"{len(known)} cases cannot show that {share:.0%} of the accepted scans have a Dice of {min_dice:g}; "
            "give more cases, a lower --accepted-share or a lower --min-dice, or leave --accepted-share out"
        )
    return calibration.model_copy(update={"accept": rule})
