"""One table for all scans of a study, the most worth a look first, and what a number of looks is expected to find."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from veridice._version import __version__
from veridice.case import Assessment, Notice
from veridice.cohort.ratings import doubtful_ratings, rating_file, read_rating
from veridice.cohort.records import Record, read_record
from veridice.errors import InputError
from veridice.io.atomic import write_json, write_text, written
from veridice.io.bids import (
    ASSESSMENT_SUFFIX,
    REPORT_SUFFIX,
    THUMBNAIL_SUFFIX,
    neutral_cell,
    read_assessment,
    write_dataset_files,
)
from veridice.io.bids_dataset import BidsScan, describe_scans
from veridice.metrics.catalogue import MEASURES, STUDY_COLUMNS
from veridice.quality.calibration import CalibrationSet
from veridice.quality.decision import PValues, StudyDecision, decide_study

LOOKS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
SHARES = (0.05, 0.1, 0.2, 0.5)
TOLERATED = 0.05
"""Share of failures among the scans that nobody looks at."""
BINS = (0.0, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 1.0)
"""Of the predicted Dice."""
UNFAMILIAR = 1.0


def tabulate(output: Path, dataset: Path, scans: Sequence[BidsScan]) -> pd.DataFrame:
    """The worklist: a row a scan with :data:`STUDY_COLUMNS`, the most worth a look first.

    What could not be judged comes first; then what is expected to gain most; equals by name.

    Args:
        output: folder of derivatives.
        dataset: the BIDS data set.
        scans: of it, those that the table is about.
    """
    rows = [_row(output, scan) for scan in scans]
    table = pd.DataFrame(rows).merge(describe_scans(dataset, scans), on="scan", how="left").reindex(columns=list(STUDY_COLUMNS))
    # Without a calibration there is no gain to expect; the lowest prediction is the next best.
    gain = table["expected_gain"].astype(float).fillna(1 - table["predicted_dice"].astype(float))
    judged = table["status"] == "done"
    order = table.assign(_judged=judged, _gain=-gain).sort_values(["_judged", "_gain", "scan"], kind="stable").index
    table = table.loc[order].reset_index(drop=True)
    table["rank"] = np.arange(1, len(table) + 1)
    return table


def _row(output: Path, scan: BidsScan) -> dict[str, Any]:
    row: dict[str, Any] = {
        "participant_id": f"sub-{scan.subject}",
        "session_id": f"ses-{scan.session}" if scan.session else None,
        "scan": scan.name,
    }
    record = read_record(output, scan.name)
    if record is None:
        return {**row, "status": "missing", "reason": "not judged yet: run the participant level"}
    if record.status == "failed":
        return {**row, "status": "failed", "reason": record.reason}
    try:
        return {**row, "status": "done", **_judged(output, record)}
    except InputError:
        return {**row, "status": "missing", "reason": "its stored result cannot be read: run the participant level again"}


def _judged(output: Path, record: Record) -> dict[str, Any]:
    suffixes = (ASSESSMENT_SUFFIX, REPORT_SUFFIX, THUMBNAIL_SUFFIX)
    by_kind = {suffix: name for name in record.files for suffix in suffixes if name.endswith(suffix)}
    stored = output / by_kind.get(ASSESSMENT_SUFFIX, "absent")
    assessment = read_assessment(stored)
    low, high = assessment.interval or (None, None)
    scores = {name: assessment.scores.get(name) for name in STUDY_COLUMNS if name in assessment.scores}
    # Of a scan that nobody accepts unseen, whatever the mask, the tests say nothing to a study.
    p_values = {} if assessment.for_review else assessment.p_values
    return {
        **scores,
        **{f"p_{name}": value for name, value in p_values.items()},
        "verdict": assessment.verdict,
        "predicted_dice": assessment.predicted_dice,
        "quality_class": assessment.quality_class,
        "interval_low": low,
        "interval_high": high,
        "coverage": assessment.coverage,
        "known": _is_known(assessment),
        "rating": read_rating(rating_file(stored), stored.name.removesuffix(ASSESSMENT_SUFFIX), assessment.judged_mask).value,
        "judged_mask": assessment.judged_mask,
        "lesion_volume_ml": assessment.volumes_ml.get("judged_mask"),
        "own_volume_ml": assessment.volumes_ml.get("own_mask"),
        "brain_volume_ml": assessment.volumes_ml.get("brain"),
        "looks_missed_ml": assessment.volumes_ml.get("looks_missed"),
        **{f"{place}_{what}": value for place, known in assessment.lesions_by_place.items() for what, value in known.items()},
        "warnings": assessment.notices,
        "report": by_kind.get(REPORT_SUFFIX),
        "thumbnail": by_kind.get(THUMBNAIL_SUFFIX),
    }


def _is_known(assessment: Assessment) -> bool:
    distance = assessment.scores.get("unfamiliarity")
    return distance is not None and distance <= UNFAMILIAR


def decide_together(table: pd.DataFrame, max_bad: float, max_gross: float) -> tuple[pd.DataFrame, StudyDecision]:
    """The table with ``study_verdict``, and what is expected of the masks that are accepted together.

    Args:
        table: from :func:`tabulate`.
        max_bad: of the accepted masks, the share that may be bad.
        max_gross: of the gross failures, the share that may be accepted.
    """
    tested = table["p_bad"].notna()
    bad, gross, good = (table.loc[tested, name].to_numpy(np.float64) for name in ("p_bad", "p_gross", "p_good"))
    study = decide_study(PValues(bad, gross, good, max_gross), max_bad)
    words = table["status"].map({"done": "look"}).astype(object)
    words[table.index[tested][study.accepted]] = "accept"
    return table.assign(study_verdict=words), study


def rating_doubts(output: Path, scans: Sequence[BidsScan]) -> list[str]:
    """Sentences on the ratings of a folder of derivatives that cannot be used, or only in part.

    Args:
        output: folder of derivatives.
        scans: those whose ratings are read.
    """
    judged = []
    for scan in scans:
        record = read_record(output, scan.name)
        with suppress(InputError, StopIteration):
            name = next(name for name in (record.files if record else ()) if name.endswith(ASSESSMENT_SUFFIX))
            judged.append((name, read_assessment(output / name).judged_mask))
    return doubtful_ratings(output, judged)


def describe_study(output: Path, table: pd.DataFrame) -> dict[str, Any]:
    """What holds for all scans: wanted Dice, coverage, calibration, version; and whether it does hold for all.

    Args:
        output: folder of derivatives.
        table: from :func:`tabulate`.
    """
    judged = table[table["status"] == "done"]
    records = [read_record(output, scan) for scan in judged["scan"]]
    settings = {record.settings for record in records if record}
    facts: dict[str, Any] = {"version": __version__, "settings_differ": len(settings) > 1}
    for record in records:
        with suppress(InputError, StopIteration):
            name = next(name for name in (record.files if record else ()) if name.endswith(ASSESSMENT_SUFFIX))
            first = read_assessment(output / name)
            # A Dice that a second expert would reach is another for each scan.
            needed = None if first.model.get("for_load_ml") is not None else first.model.get("min_dice")
            facts |= {"min_dice": needed, "coverage": first.coverage, "target": first.task.target}
            facts["limits"] = {name: first.model.get(name) for name in ("min_dice", "max_missed", "max_wasted", "max_gross")}
            if first.calibration is not None:
                facts["calibration"] = first.calibration.model_dump()
            break
    return facts


def without_shared_warnings(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Notice]]:
    """The table without what is said of every judged scan, and that apart: it would hide what is said of one."""
    each = [set(notices) for notices in table["warnings"].dropna()]
    shared = set.intersection(*each) if len(each) > 1 else set()
    left = [
        _none_or(notices, lambda said: tuple(notice for notice in said if notice not in shared))
        for notices in table["warnings"]
    ]
    return table.assign(warnings=pd.Series(left, table.index, dtype=object)), sorted(shared)


def as_text(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the warnings of each scan as one text."""
    texts = [_none_or(notices, lambda said: "; ".join(notice.text for notice in said)) for notices in table["warnings"]]
    return table.assign(warnings=pd.Series(texts, table.index, dtype=object))


def _none_or(value: Any, change: Callable[[Any], Any]) -> Any:
    return change(value) if isinstance(value, tuple) else None


def known_values(calibration: CalibrationSet, table: pd.DataFrame, min_dice: float) -> list[dict[str, Any]]:
    """How many masks of the calibration set are bad, by their predicted Dice, and how many scans of the study lie there.

    Args:
        calibration: cases with a known truth.
        table: from :func:`tabulate`.
        min_dice: Dice below which a mask is bad.

    Returns:
        Rows of ``low`` and ``high`` predicted Dice, ``masks``, ``bad``, ``share`` with its 95 % interval ``share_low`` and
        ``share_high`` (Wilson), ``scans``.
    """
    predicted, bad = np.array(calibration.predicted), np.array(calibration.dice) < min_dice
    study = table["predicted_dice"].astype(float).to_numpy()
    rows = []
    for low, high in pairwise(BINS):
        inside, scans = ((values >= low) & ((values < high) | (high == 1)) for values in (predicted, study))
        row = {
            "low": low,
            "high": high,
            "masks": int(inside.sum()),
            "bad": int((inside & bad).sum()),
            "scans": int(scans.sum()),
        }
        if row["masks"]:
            test = binomtest(int(row["bad"]), int(row["masks"]))
            interval = test.proportion_ci(method="wilson")
            row |= {"share": test.statistic, "share_low": float(interval.low), "share_high": float(interval.high)}
        rows.append(row)
    return rows


def expected_failures(table: pd.DataFrame) -> pd.DataFrame:
    """What looking at the top of the worklist is expected to find, and what it leaves.

    Args:
        table: from :func:`tabulate`; a scan that could not be judged counts as a failure.

    Returns:
        Rows of ``looks``, ``share`` of all scans, ``failures_found``, ``failures_left``, ``share_left`` of the scans that
        nobody looked at, ``fewest`` (whether this is the least that leaves at most 5 %).
    """
    chances = table["failure_probability"].astype(float).where(table["status"] == "done", 1.0).fillna(0.5).to_numpy()
    count = len(chances)
    found = np.concatenate([[0.0], np.cumsum(chances)])
    left = found[-1] - found
    rest = count - np.arange(count + 1)
    share_left = np.divide(left, rest, out=np.zeros(count + 1), where=rest > 0)
    fewest = int(np.argmax(share_left <= TOLERATED))
    looks = sorted({0, fewest, count, *LOOKS, *(round(share * count) for share in SHARES)} & set(range(count + 1)))
    return pd.DataFrame(
        {
            "looks": looks,
            "share": [look / max(count, 1) for look in looks],
            "failures_found": found[looks],
            "failures_left": left[looks],
            "share_left": share_left[looks],
            "fewest": [look == fewest for look in looks],
        }
    )


def write_tables(output: Path, table: pd.DataFrame) -> Path:
    """``veridice.tsv`` with its dictionary and the files that make ``output`` a data set of derivatives; the TSV's path.

    Raises:
        OutputError: they cannot be written.
    """
    with written(output):
        safe = as_text(table).assign(known=table["known"].map({True: "yes", False: "no"})).map(neutral_cell)
        text = safe.to_csv(sep="\t", index=False, float_format="%.6g", na_rep="n/a", lineterminator="\n")
        write_text(output / "veridice.tsv", text)
        meanings = {
            name: {"Description": (measure := MEASURES[name]).meaning, **({"Units": measure.unit} if measure.unit else {})}
            for name in STUDY_COLUMNS
        }
        write_json(output / "veridice.json", meanings)
        write_dataset_files(output)
    return output / "veridice.tsv"
