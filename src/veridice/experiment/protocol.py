"""What an experiment is made of: its settings, its cases, and who is in which split of which fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Literal, Self, get_args

import numpy as np
import pandas as pd
from pydantic import Field, field_validator, model_validator
from sklearn.model_selection import StratifiedKFold, train_test_split

from veridice.case import Case
from veridice.config import LARGEST_SEED, Settings, load_settings
from veridice.errors import InputError
from veridice.io.datasets import LAYOUTS, read_dataset, read_manifest
from veridice.metrics.scores import SCORES
from veridice.simulate.cohorts import COHORTS
from veridice.training.settings import RegressorInput, load_training_settings

Objects = np.ndarray[tuple[int], np.dtype[np.object_]]
Integers = np.ndarray[tuple[int], np.dtype[np.int64]]
GENERATORS = {"generated": "generator", "generated_plain": "generator-plain"}
"""What is made from a mask, and the network that makes it: with a discriminator, and without."""
REGRESSED = {
    f"regressor-{pair}-{targets}": f"regressor_{pair}{'' if targets == 'own' else '_out_of_fold'}"
    for pair in (*get_args(RegressorInput), *GENERATORS)
    for targets in ("own", "out-of-fold")
}
"""Stage of each regression network, by input pair and training targets, and its method."""
PROBABILISTIC = ("probabilistic_unet", "probabilistic_entropy_sum")
"""Scores of the samples of a probabilistic U-net."""
BASELINES = ("volume", "training_mean")
"""Always there: what nobody may skip."""
METHODS = (
    *BASELINES,
    *(name for name in SCORES if name != "sample_agreement"),  # says what pairwise Dice says
    "true_error_sum",
    "true_absolute_error_sum",
    "test_time_augmentation",
    "ensemble",
    *PROBABILISTIC,
    *(f"{name}_error_sum" for name in GENERATORS),
    "class_network",
    *REGRESSED.values(),
    "reverse_classification",
    "reverse_classification_retrieved",
    "feature_distance",
    "random_forest",
    "combination",
    "veridice",  # what check predicts
)


class Source(Settings):
    """One data set."""

    layout: str = Field(description="wmh2017, isbi2015, msseg2016, lesjak2017, bids or manifest")
    folder: str = Field(description="the unpacked data set; the files' root for a manifest")
    manifest: str = Field("", description="CSV, for layout manifest")
    dataset: str = Field("", description="what a manifest's cases are called whose data set it does not name; else as the file")


class ExperimentSettings(Settings):
    """One experiment."""

    name: str = Field(description="name of the results")
    cohort: str = Field("", description="simulated cohort that is made first, such as paper-sim")
    sources: tuple[Source, ...] = Field((), description="data sets, beside the cohort or alone")
    training: str = Field("default", description="training configuration: a shipped one or a TOML file")
    start: str = Field("", description="weights to start from: a folder, 'bundled' (those that ship), or none")
    folds: int = Field(5, ge=2)
    validation_share: float = Field(16 / 84, gt=0, le=0.5, description="of the patients that are not in the test split")
    inner_folds: int = Field(3, ge=2, description="segmenters trained without a part of the training split")
    passes: int = Field(20, ge=2, description="stochastic passes")
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="of all passes; auto: what the first machine does best"
    )
    test_time_augmentations: int = Field(8, ge=2)
    atlas_references: int = Field(8, ge=1, le=8, description="training cases that reverse classification registers to")
    segmenter_steps: int = Field(200, ge=1)
    inner_steps: int = Field(120, ge=1)
    reconstructor_steps: int = Field(60, ge=1)
    generator_steps: int = Field(400, ge=1, description="of networks that make an image from a mask")
    regressor_steps: int = Field(300, ge=1)
    refit_steps: int = Field(150, ge=1, description="of regressors without one scanner, in the last fold")
    patients: int = Field(0, ge=0, description="of the simulated cohort; 0: all of it")
    methods: tuple[str, ...] = Field((), description="of the ladder; none: all. volume and training_mean are always there")
    calibration: str = Field("", description="case table of another experiment whose validation cases stand in for its own")
    class_limits: tuple[float, float] = Field((0.5, 0.75), description="Dice from which on quality is fair, and good")
    failure_dice: float = Field(0.75, gt=0, lt=1, description="a segmentation below this failed (paper: 0.75)")
    seed: int = Field(0, ge=0, le=LARGEST_SEED)

    @field_validator("methods")
    @classmethod
    def _known_methods(cls, methods: tuple[str, ...]) -> tuple[str, ...]:
        """In one order, each once, with the baselines."""
        if unknown := sorted(set(methods) - set(METHODS)):
            raise ValueError(f"method '{unknown[0]}' is unknown; use some of {', '.join(METHODS)}")
        return tuple(name for name in METHODS if name in {*methods, *BASELINES}) if methods else ()

    @model_validator(mode="after")
    def _has_data(self) -> Self:
        if not self.cohort and not self.sources:
            raise ValueError("name a simulated cohort, sources, or both")
        if self.cohort and self.cohort not in COHORTS:
            raise ValueError(f"cohort '{self.cohort}' is unknown; use one of {', '.join(COHORTS)}")
        for source in self.sources:
            if source.layout not in (*LAYOUTS, "manifest"):
                raise ValueError(f"layout '{source.layout}' is unknown; use one of {', '.join(LAYOUTS)}, manifest")
        return self

    def wants(self, *methods: str) -> bool:
        """Whether any of these methods is one of those that were asked for."""
        return not self.methods or any(method in self.methods for method in methods)

    def wants_generated(self, name: str) -> bool:
        """Whether any method needs the image that is made from a mask in this way (:data:`GENERATORS`)."""
        return self.wants(f"{name}_error_sum", f"regressor_{name}", f"regressor_{name}_out_of_fold")

    def for_results(self) -> Self:
        """With the last part alone of every path that leads out of the working folder: results name no folders of a machine."""
        sources = tuple(
            source.model_copy(update={"folder": _last_part(source.folder), "manifest": _last_part(source.manifest)})
            for source in self.sources
        )
        paths = {name: _last_part(getattr(self, name)) for name in ("training", "start", "calibration")}
        return self.model_copy(update={**paths, "sources": sources})


def _last_part(path: str) -> str:
    given = Path(path)
    return given.name if given.is_absolute() or ".." in given.parts else path


def load_experiment(name: str, data: Path | None = None, methods: Sequence[str] = ()) -> ExperimentSettings:
    """Read experiment settings: a shipped profile (``laptop``, ``paper``) or a TOML file.

    Args:
        name: profile or file.
        data: what the folders of sources are relative to; the working folder when absent.
        methods: instead of those that the settings name.

    Raises:
        ConfigError: not there, not TOML, or a setting is wrong.
    """
    overrides = {"methods": tuple(methods)} if methods else {}
    settings = load_settings(ExperimentSettings, name, files("veridice") / "configs" / "experiments", **overrides)
    load_training_settings(settings.training)
    if data is None:
        return settings
    sources = tuple(source.model_copy(update={"folder": str(data / source.folder)}) for source in settings.sources)
    return settings.model_copy(update={"sources": sources})


def read_cases(settings: ExperimentSettings, cohort_folder: Path) -> tuple[list[Case], list[str]]:
    """Labelled cases of all sources, and one line for each case that was left out.

    Args:
        settings: names the sources.
        cohort_folder: where the simulated cohort lies, if it is one.

    Raises:
        InputError: a source cannot be read, or two cases have one name.
    """
    task = load_training_settings(settings.training).data.task
    cases: list[Case] = []
    left_out: list[str] = []
    if settings.cohort:
        scanner = participants(cohort_folder)["scanner"]
        simulated = read_dataset("bids", cohort_folder, task)
        cases += [replace(case, dataset=str(scanner[case.id])) for case in simulated.cases]
        left_out += simulated.left_out
    for source in settings.sources:
        if source.layout == "manifest":
            rows = read_manifest(Path(source.manifest), Path(source.folder), splits=False)
            name = source.dataset or Path(source.manifest).stem
            known = [case for case in rows if getattr(case, task.truth)]
            cases += [replace(case, dataset=case.dataset or name) for case in known]
            left_out += [f"{case.id}: no {task.truth}" for case in rows if case not in known]
        else:
            reading = read_dataset(source.layout, Path(source.folder), task)
            alone = len(settings.sources) == 1 and not settings.cohort
            cases += reading.cases if alone else [_prefixed(case) for case in reading.cases]
            left_out += reading.left_out
    if len({case.id for case in cases}) < len(cases):
        raise InputError("two cases have the same name; give each data set's cases names of their own")
    return cases, left_out


def _prefixed(case: Case) -> Case:
    """With the data set in its names, where several may have a ``sub-01``."""
    if case.id.startswith(case.dataset.split("-")[0]):
        return case
    return replace(case, id=f"{case.dataset}-{case.id}", patient=f"{case.dataset}-{case.patient}")


def participants(cohort_folder: Path) -> pd.DataFrame:
    """Severity, scanner and donors of a simulated cohort's patients, by ``participant_id``."""
    table = pd.read_csv(cohort_folder / "participants.tsv", sep="\t", dtype=str, keep_default_na=False)
    return table.set_index("participant_id")


def lesion_donors(cohort_folder: Path) -> dict[str, str]:
    """The first person whose lesions each simulated patient has, by patient; "" for grown lesions alone."""
    donors = participants(cohort_folder)["donors"].str.split()
    return {str(patient): names[1] if len(names) > 1 else "" for patient, names in donors.items()}


def assign_folds(cases: list[Case], settings: ExperimentSettings, donors: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Who is in which split of which fold: columns ``case``, ``patient``, ``dataset`` and ``fold-0`` ... with the split.

    By patient, seeded, stratified by data set. Data sets with fewer patients than folds are one stratum together.

    Args:
        cases: of all data sets.
        settings: number and seed of the folds.
        donors: whose lesions a simulated patient has, by patient; those of one donor are tested in one fold as far as
            the sizes of the strata allow.

    Raises:
        InputError: fewer patients than twice the folds.
    """
    table = pd.DataFrame([{"case": c.id, "patient": c.patient or c.id, "dataset": c.dataset} for c in cases])
    people = table.drop_duplicates("patient").sort_values("patient", ignore_index=True)
    if len(people) < 2 * settings.folds:
        raise InputError(f"{len(people)} patients are too few for {settings.folds} folds; name more data or fewer folds")
    strata = _strata(people["dataset"], settings.folds)
    tested = _test_folds(strata, [(donors or {}).get(patient, "") for patient in people["patient"]], settings)
    for number in range(settings.folds):
        rest = np.flatnonzero(tested != number)
        split = np.full(len(people), "train", dtype=object)
        split[tested == number], split[_validation(rest, strata, settings, number)] = "test", "validation"
        table[f"fold-{number}"] = table["patient"].map(dict(zip(people["patient"], split, strict=True)))
    return table


def _test_folds(strata: Objects, donors: list[str], settings: ExperimentSettings) -> Integers:
    """The fold in which each patient is tested: sizes as scikit-learn's, then patients of one donor swapped together."""
    splitter = StratifiedKFold(settings.folds, shuffle=True, random_state=settings.seed)
    tested = np.zeros(len(strata), np.int64)
    for number, (_, test) in enumerate(splitter.split(strata, strata)):
        tested[test] = number
    names = sorted({name for name in donors if name})
    order = np.random.default_rng([settings.seed, 9]).permutation(len(names))
    home = {names[place]: number % settings.folds for number, place in enumerate(order)}
    for here in range(len(donors)):
        wanted = home.get(donors[here], tested[here])
        if tested[here] == wanted:
            continue
        # A swap within a stratum keeps all sizes; only with somebody who is not at home there.
        for there in np.flatnonzero((strata == strata[here]) & (tested == wanted)):
            if home.get(donors[there], -1) != wanted:
                tested[here], tested[there] = tested[there], tested[here]
                break
    return tested


def _strata(datasets: pd.Series[str], smallest: int) -> Objects:
    counts = datasets.value_counts()
    strata = datasets.where(datasets.map(counts) >= smallest, "others")
    if (strata == "others").sum() < smallest:
        strata = strata.replace("others", counts.index[0] if counts.iloc[0] >= smallest else "all")
    return strata.to_numpy(dtype=object)


def _validation(rest: Integers, strata: Objects, settings: ExperimentSettings, number: int) -> Integers:
    count = max(1, round(settings.validation_share * len(rest)))
    labels = strata[rest]
    stratified = count >= len(set(labels)) and min(np.unique(labels, return_counts=True)[1]) >= 2
    groups = labels if stratified else None
    return np.asarray(train_test_split(rest, test_size=count, random_state=settings.seed + number, stratify=groups)[1])


def inner_folds(train: list[Case], settings: ExperimentSettings, fold: int) -> list[list[Case]]:
    """Parts of the training split, by patient; a segmenter is trained without each, so that it can predict that part."""
    people = np.array(sorted({case.patient or case.id for case in train}), dtype=object)
    order = np.random.default_rng([settings.seed, fold, 7]).permutation(len(people))
    parts = [set(people[order[number :: settings.inner_folds]]) for number in range(settings.inner_folds)]
    return [[case for case in train if (case.patient or case.id) in part] for part in parts]
