"""A whole experiment: cohort, folds, case table, results."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from veridice.case import Case
from veridice.config import to_toml
from veridice.errors import InputError
from veridice.experiment.claim import claim, refuse_known_people, usable_cases
from veridice.experiment.figure1 import figure1
from veridice.experiment.fold import CLASS_CHANCES, SCORES, SLICES, STAGES, Fold, for_folds, make_fold, run_fold
from veridice.experiment.protocol import ExperimentSettings, assign_folds, lesion_donors, participants, read_cases
from veridice.experiment.results.evaluation import with_validation_of
from veridice.experiment.results.summary import write_summary
from veridice.experiment.results.tables import REFITS, write_cases, write_csv
from veridice.experiment.results.tables import read_cases as read_case_table
from veridice.experiment.results.write import CASES, CLASSES, write_results
from veridice.io.atomic import held, write_text
from veridice.progress import counted
from veridice.simulate.cohorts import COHORTS, write_cohort
from veridice.simulate.donors import donors_by_name

SETTINGS, SPLITS, LEFT_OUT, RESULTS = "settings.toml", "splits.csv", "left-out.txt", "results"
TIMES = "times.csv"


def run_experiment(settings: ExperimentSettings, folder: Path, jobs: int, say: Callable[[str], None]) -> Path:
    """Run or go on with an experiment in ``folder``; returns the folder of its results.

    Args:
        settings: what is done.
        folder: everything goes there; given again, finished stages are kept.
        jobs: processes that simulate.
        say: tells a person what goes on.

    Raises:
        ConfigError: another experiment was begun in ``folder``, or its data changed.
        InputError: the data cannot be used.
        OutputError: ``folder`` cannot be used, or another process works there.
    """
    with held(folder):
        return _run(settings, folder, jobs, say)


def _run(settings: ExperimentSettings, folder: Path, jobs: int, say: Callable[[str], None]) -> Path:
    others = read_case_table(Path(settings.calibration)) if settings.calibration else None
    training, inference, start = claim(settings, folder)
    training = for_folds(training, settings, folder, start)
    write_text(folder / SETTINGS, to_toml(settings))
    if settings.cohort:
        _simulate(settings, folder, jobs)
    cases, unread = read_cases(settings, folder / "cohort")
    cases, unusable = usable_cases(cases, training, folder, say)
    write_text(folder / LEFT_OUT, "".join(f"{line}\n" for line in (*unread, *unusable)))
    refuse_known_people(start, _people(cases, settings, folder))
    table = assign_folds(cases, settings, lesion_donors(folder / "cohort") if settings.cohort else None)
    write_csv(folder / SPLITS, table)
    folds = [make_fold(number, cases, table, folder, settings, training, inference, start) for number in range(settings.folds)]
    for fold in folds:
        fold.require_enough_patients()
    try:
        tables = [_scores(fold, say) for fold in folds]
    except FileNotFoundError as error:
        gone = Path(str(error.filename)).name
        raise InputError(f"{folder}: {gone} is gone although its stage was finished; delete the fold's folder") from error
    table = pd.concat(tables, ignore_index=True)
    if settings.cohort:
        table = described(table, {fold.number: [case.id for case in fold.of("train")] for fold in folds}, folder / "cohort")
    results = folder / RESULTS
    results.mkdir(exist_ok=True)
    write_cases(results / CASES, table if others is None else with_validation_of(table, others))
    write_text(results / SETTINGS, to_toml(settings.for_results()))
    for path in (folder / SPLITS, folder / LEFT_OUT, folds[-1].folder / REFITS):
        shutil.copyfile(path, results / path.name)
    if all((fold.folder / CLASS_CHANCES).exists() for fold in folds):
        parts = [pd.read_csv(fold.folder / CLASS_CHANCES).assign(fold=fold.number) for fold in folds]
        chances = pd.concat(parts, ignore_index=True)
        write_csv(results / CLASSES, chances[chances["split"] == "test"].drop(columns="split"), digits=17)
    write_csv(results / TIMES, _times(folds))
    write_results(results)
    figure1(folder / "fold-0" / SLICES, results)
    data = f"{len(cases)} scans of {_who(cases, settings, folder)}, {settings.folds} folds."
    write_summary(settings.name, data, results, settings.failure_dice)
    return results


def _times(folds: list[Fold]) -> pd.DataFrame:
    """Seconds of every stage, over all sittings."""
    rows = [
        {"fold": fold.number, "stage": path.stem, "seconds": json.loads(path.read_text(encoding="utf-8"))["seconds"]}
        for fold in folds
        for path in sorted((fold.folder / STAGES).glob("*.json"))
    ]
    return pd.DataFrame(rows)


def _scores(fold: Fold, say: Callable[[str], None]) -> pd.DataFrame:
    counts = ", ".join(f"{len(fold.of(split))} {split}" for split in ("train", "validation", "test"))
    say(f"fold {fold.number}: {counts}")
    run_fold(fold)
    return read_case_table(fold.folder / SCORES)


def _simulate(settings: ExperimentSettings, folder: Path, jobs: int) -> None:
    cohort = COHORTS[settings.cohort]
    count = settings.patients or cohort.patients
    with counted("simulated patients", count) as on_step:
        write_cohort(folder / "cohort", cohort, count, jobs, on_step)


def _people(cases: list[Case], settings: ExperimentSettings, folder: Path) -> set[str]:
    """Everybody who is in the data, donors of simulated patients included."""
    people = {case.patient or case.id for case in cases}
    if not settings.cohort:
        return people
    table = participants(folder / "cohort")["donors"]
    return people - set(table.index) | {donors_by_name()[name].person for names in table for name in names.split()}


def _who(cases: Sequence[Case], settings: ExperimentSettings, folder: Path) -> str:
    """How many people there are, and how many of them are simulated."""
    people = {case.patient or case.id for case in cases}
    simulated = people & set(participants(folder / "cohort").index) if settings.cohort else set()
    counts = {"simulated patients": len(simulated), "patients": len(people) - len(simulated)}
    return " and ".join(f"{count} {kind}" for kind, count in counts.items() if count)


def described(table: pd.DataFrame, taught: Mapping[int, Sequence[str]], cohort_folder: Path) -> pd.DataFrame:
    """A case table with the severity of simulated patients, and whether their fold knew the lesions that they were given.

    Args:
        table: case table of all folds.
        taught: by fold, who is in its training split.
        cohort_folder: of the simulated cohort.
    """
    people = participants(cohort_folder)
    # The first donor gave the brain; only lesions are told as known or new.
    lesions = {str(patient): set(names.split()[1:]) for patient, names in people["donors"].items()}
    known = {fold: set().union(*(lesions.get(patient, set()) for patient in patients)) for fold, patients in taught.items()}

    def donor(fold: int, case: str) -> str:
        if case not in lesions:
            return ""  # a real patient
        return "none" if not lesions[case] else "known" if lesions[case] & known[fold] else "new"

    donors = [donor(fold, case) for fold, case in zip(table["fold"], table["case"], strict=True)]
    return table.assign(severity=table["case"].map(people["severity"]).fillna(""), donor=donors)
