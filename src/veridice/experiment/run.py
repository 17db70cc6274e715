"""A whole experiment: cohort, folds, case table, results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from veridice.case import Case
from veridice.config import to_toml
from veridice.errors import ConfigError
from veridice.experiment.figure1 import figure1
from veridice.experiment.protocol import (
    ExperimentSettings,
    assign_folds,
    lesion_donors,
    load_experiment,
    participants,
    read_cases,
)
from veridice.experiment.results import write_results
from veridice.experiment.stages import SCORES, SLICES, make_fold, run_fold
from veridice.experiment.summary import write_summary
from veridice.experiment.tables import read_cases as read_cases_table
from veridice.experiment.tables import write_cases, write_csv
from veridice.simulate.cohort import COHORTS, write_cohort
from veridice.training import progress_bar

SETTINGS, FOLDS, CASES, LEFT_OUT, RESULTS = "settings.toml", "folds.csv", "cases.csv", "left-out.txt", "results"
MAY_CHANGE = frozenset({"name"})


def run_experiment(settings: ExperimentSettings, folder: Path, jobs: int, say: Callable[[str], None]) -> Path:
    """Run or go on with an experiment in ``folder``; returns the folder of its results.

    Args:
        settings: what is done.
        folder: everything goes there; given again, finished stages are kept.
        jobs: processes that simulate.
        say: tells a person what goes on.

    Raises:
        ConfigError: another experiment was begun in ``folder``.
        InputError: the data cannot be used.
    """
    _claim(settings, folder)
    cases = _cases(settings, folder, jobs, say)
    table = assign_folds(cases, settings, lesion_donors(folder / "cohort") if settings.cohort else None)
    write_csv(folder / FOLDS, table)
    tables = []
    for number in range(settings.folds):
        fold = make_fold(number, cases, table, folder, settings)
        counts = ", ".join(f"{len(fold.of(split))} {split}" for split in ("train", "validation", "test"))
        say(f"fold {number}: {counts}")
        run_fold(fold)
        tables.append(read_cases_table(fold.folder / SCORES))
    write_cases(folder / CASES, _described(pd.concat(tables, ignore_index=True), settings, folder))
    write_results(folder / CASES, folder / RESULTS)
    figure1(folder / "fold-0" / SLICES, folder / RESULTS)
    write_summary(settings.name, _describe(cases, settings), folder / RESULTS)
    return folder / RESULTS


def _claim(settings: ExperimentSettings, folder: Path) -> None:
    stored = folder / SETTINGS
    if stored.exists():
        before, after = (each.model_dump(exclude=set(MAY_CHANGE)) for each in (load_experiment(str(stored)), settings))
        changed = [name for name in after if before[name] != after[name]]
        if changed:
            raise ConfigError(f"{folder}: was begun with another '{changed[0]}'; use another folder, or delete this one")
    folder.mkdir(parents=True, exist_ok=True)
    stored.write_text(to_toml(settings), encoding="utf-8")


def _cases(settings: ExperimentSettings, folder: Path, jobs: int, say: Callable[[str], None]) -> list[Case]:
    if settings.cohort:
        cohort = COHORTS[settings.cohort]
        count = settings.patients or cohort.patients
        with progress_bar() as progress:
            task = progress.add_task("simulated patients", total=count, note="")
            write_cohort(folder / "cohort", cohort, count, jobs, lambda: progress.advance(task))
    cases, left_out = read_cases(settings, folder / "cohort")
    for line in left_out:
        say(f"left out: {line}")
    temporary = folder / f".{LEFT_OUT}.tmp"
    temporary.write_text("".join(f"{line}\n" for line in left_out), encoding="utf-8")
    temporary.replace(folder / LEFT_OUT)
    return cases


def _describe(cases: list[Case], settings: ExperimentSettings) -> str:
    people = len({case.patient or case.id for case in cases})
    kind = "simulated patients" if settings.cohort else "patients"
    return f"{len(cases)} scans of {people} {kind}, {settings.folds} folds."


def _described(table: pd.DataFrame, settings: ExperimentSettings, folder: Path) -> pd.DataFrame:
    """With the severity of simulated patients."""
    if not settings.cohort:
        return table
    people = participants(folder / "cohort")
    return table.assign(severity=table["case"].map(people["severity"]))
