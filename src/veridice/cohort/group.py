"""The group level: one table, one page, from what was stored of every scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from veridice.case import SIMULATED_CALIBRATION
from veridice.cohort.other_limits import other_limits
from veridice.cohort.worklist import (
    as_text,
    decide_together,
    describe_study,
    expected_failures,
    known_values,
    tabulate,
    without_shared_warnings,
    write_tables,
)
from veridice.errors import InputError
from veridice.io.atomic import written
from veridice.io.bids_dataset import BidsScan
from veridice.quality.calibration import CalibrationSet, farther_than
from veridice.quality.decision import MAX_GROSS
from veridice.report.cohort_page import write_group_report

PAGE = "report.html"


def write_group(
    dataset: Path,
    name: str,
    output: Path,
    scans: Sequence[BidsScan],
    calibration: CalibrationSet,
    notes: Sequence[str],
    max_bad: float,
) -> pd.DataFrame:
    """Rank the scans of a study in ``veridice.tsv`` and on the page :data:`PAGE`; returns the table.

    Args:
        dataset: the BIDS data set.
        name: what the page calls it.
        output: its folder of derivatives.
        scans: those that the table is about.
        calibration: whose known values the page shows, if the judgements rest on it.
        notes: further sentences for the page.
        max_bad: of the masks that are accepted together, the share that may be bad.

    Raises:
        InputError: there is no such folder.
        OutputError: nothing can be written there.
    """
    if not output.is_dir():
        raise InputError(f"{output}: no such folder; run the participant level first")
    table = tabulate(output, dataset, scans)
    facts = {**describe_study(output, table), "name": name}
    table, together = decide_together(table, max_bad, facts.get("limits", {}).get("max_gross") or MAX_GROSS)
    facts["together"] = {
        "accepted": int(together.accepted.sum()),
        "max_bad": max_bad,
        "expected_bad": together.expected_bad,
        "bad_share": together.bad_share,
    }
    write_tables(output, table)
    # Another calibration than that of the judgements would speak of other predictions.
    if facts.get("calibration", {}).get("sha256") == calibration.checksum:
        if facts["min_dice"] is not None:
            facts["known_values"] = known_values(calibration, table, facts["min_dice"])
        facts["other_limits"] = other_limits(table, calibration, facts["min_dice"])
        notes = [*notes, *_unlike(calibration, table)]
    shown, shared = without_shared_warnings(table.assign(status=table["status"].replace("missing", "failed")))
    # The page says by itself what the intervals rest on.
    said = [notice.text for notice in shared if notice.code != SIMULATED_CALIBRATION]
    facts["notes"] = [*notes, *(f"Of every scan: {text}." for text in said)]
    with written(output):
        write_group_report(as_text(shown), expected_failures(table), facts, output, output / PAGE)
    return table


def _unlike(calibration: CalibrationSet, table: pd.DataFrame) -> list[str]:
    """A sentence where the scans of the study are not like those of the calibration."""
    tested = table[table["p_bad"].notna() & table["unfamiliarity"].notna()]
    share = farther_than(calibration, tested["unfamiliarity"].to_numpy(np.float64), tested["participant_id"].to_numpy())
    if share is None:
        return []
    return [
        "The scans of this study are less like what the models know than those of the calibration set are: in "
        f"{share:.0%} of all pairs the scan of this study is the stranger one. What is promised may hold less well here. "
        "Recalibrate on scans of yours (veridice calibrate)."
    ]
