"""From the stored case table to everything that a reader sees; made from nothing else, so that it can be made again."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pandas as pd

from veridice.experiment.results import evaluation, figures, paper, tables
from veridice.experiment.results.classes import class_report, confusion
from veridice.experiment.results.findings import findings
from veridice.experiment.results.intervals import interval_table
from veridice.metrics.failure_detection import FAILURE_DICE

CASES = "cases.csv"
CLASSES = "classes.csv"
"""Chances of the classes of quality of each test case, where a network told them."""
CLASS_TABLES = {"class-report": class_report, "class-confusion": confusion}
COMBINED, SERVED = "combination", "veridice"
SEES_VALIDATION = ("regressor_image", "regressor_uncertainty", "regressor_error")
"""Their training stops early on validation cases, so that validation would flatter them."""
NO_CANDIDATES = (COMBINED, SERVED, "training_mean", "true_error_sum", "true_absolute_error_sum")
"""No single method, no method at all, and two that need the truth."""
DRAWN = ("pairwise_dice", "volume", "entropy_sum", "regressor_uncertainty", COMBINED, SERVED, evaluation.CHOSEN)
REFITTED = "regressor_uncertainty_refitted"
"""Of one fold, with as many steps with the scanner as without it; so neither is the regressor of the ladder."""
CALIBRATED = ("regressor_uncertainty", "pairwise_dice", COMBINED, SERVED)


def write_results(folder: Path) -> None:
    """Tables (CSV, Markdown) and figures (PNG, SVG) of an experiment, from the case table and the refits in ``folder``.

    Raises:
        InputError: a table is damaged.
        OutputError: ``folder`` cannot be written.
    """
    judged = write_tables(folder)
    figures.figure2(judged, folder)
    figures.figure3(judged, folder)
    figures.risk_coverage(judged, folder, DRAWN)
    figures.calibration(judged, folder, CALIBRATED)


def stored_setting(folder: Path, name: str, otherwise: Any) -> Any:
    """One of the settings that stand beside the results."""
    stored = folder / "settings.toml"
    return tomllib.loads(stored.read_text(encoding="utf-8")).get(name, otherwise) if stored.exists() else otherwise


def write_tables(folder: Path) -> pd.DataFrame:
    """The tables alone; returns the judged test cases. Raises as :func:`write_results` does."""
    failure_dice = float(stored_setting(folder, "failure_dice", FAILURE_DICE))
    cases = evaluation.check_cases(tables.read_cases(folder / CASES))
    refits = tables.read_refits(folder / tables.REFITS)
    names = sorted(cases["method"].unique())
    single = [name for name in names if not name.startswith(SEES_VALIDATION) and not name.endswith(evaluation.UNSEEN)]
    candidates = [name for name in single if name not in NO_CANDIDATES]
    judged = evaluation.judge(evaluation.choose_on_validation(cases, candidates), failure_dice)
    folds = evaluation.fold_table(judged)
    shift = evaluation.shift_table(judged, evaluation.judge_unseen_groups(cases, failure_dice))
    if not refits.empty:
        regressors = evaluation.shift_table(*evaluation.judged_refits(refits, REFITTED, failure_dice))
        shift = pd.concat([shift, regressors], ignore_index=True)
    written = {
        "folds": folds,
        "ladder": evaluation.ladder(judged),
        "gains": evaluation.paired_gains(judged),
        "groups": evaluation.by_group(judged),
        "shift": shift,
        "intervals": interval_table(cases),
        "table1": paper.table1(folds),
        "findings": findings(judged),
        "judged": judged.drop(columns="failure_dice"),
    }
    shown = ["ladder", "table1", "findings", "groups", "intervals"]
    if (folder / CLASSES).exists():
        limits = stored_setting(folder, "class_limits", [0.5, 0.75])
        chances = tables.read_classes(folder / CLASSES)
        written |= {name: make(chances, judged, limits) for name, make in CLASS_TABLES.items()}
        shown += CLASS_TABLES
    for name, table in written.items():
        tables.write_csv(folder / f"{name}.csv", table)
    for name in shown:
        tables.write_markdown(folder / f"{name}.md", written[name])
    return judged
