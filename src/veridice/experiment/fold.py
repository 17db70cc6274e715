"""One fold, stage by stage; a stage that is finished is not done again, one that was interrupted goes on."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
from torch import nn

from veridice.case import Case
from veridice.config import InferenceSettings
from veridice.errors import InputError
from veridice.experiment.cases import KnownCase, Panel, analyse_cases, read_numbers, stored_name
from veridice.experiment.claim import Start
from veridice.experiment.figure1 import choose_loads, store_slices
from veridice.experiment.methods import (
    Numbers,
    as_served,
    combination,
    feature_distances,
    forest_on_simple_features,
    retrieved,
    reverse_classification,
)
from veridice.experiment.protocol import GENERATORS, METHODS, PROBABILISTIC, REGRESSED, ExperimentSettings, inner_folds
from veridice.experiment.regress import class_table, classify_all, fit_and_predict, refit_without_scanners
from veridice.experiment.results.evaluation import UNSEEN
from veridice.experiment.results.tables import REFITS, write_cases, write_csv
from veridice.inference.passes import choose_backend
from veridice.inference.weights import load_network
from veridice.io.atomic import write_json, write_text
from veridice.io.weight_cards import bundled_weights
from veridice.networks.image_generator import ImageGenerator
from veridice.networks.probabilistic_unet import ProbabilisticUnet
from veridice.progress import counted
from veridice.training import unets
from veridice.training.generative import train_image_generator, train_probabilistic_unet
from veridice.training.settings import CHANNELS, TrainingSettings, on_whole_cubes, with_steps

ATLAS, DISTANCE, CLASS_NETWORK = "reverse_classification", "feature_distance", "class_network"
CLASS_CHANCES = "classes.csv"
"""Chance of each class of quality of the judged cases."""
ANALYSES, OUT_OF_FOLD, SCORES, SLICES, STAGES = "analyses", "analyses-out-of-fold", "scores.csv", "figure1.npz", "stages"
LAST_STAGE = "scores"


@dataclass(frozen=True)
class Fold:
    """One fold of an experiment.

    Args:
        number: counted from 0.
        folder: of everything that belongs to it.
        cases: all, each with its ``split`` in this fold.
        settings: of the experiment.
        training: of the networks, from :func:`for_folds`.
        inference: how they are run.
        start: where they begin from.
    """

    number: int
    folder: Path
    cases: tuple[Case, ...]
    settings: ExperimentSettings
    training: TrainingSettings
    inference: InferenceSettings
    start: Start

    def of(self, split: str) -> list[Case]:
        """Cases of one split."""
        return [case for case in self.cases if case.split == split]

    @property
    def weights(self) -> Path:
        return self.folder / "weights"

    def require_enough_patients(self) -> None:
        """Every inner segmenter needs somebody to learn from and somebody to be asked about.

        Raises:
            InputError: there are too few.
        """
        people, count = {case.patient or case.id for case in self.of("train")}, self.settings.inner_folds
        if len(people) < count or not self.of("validation"):
            raise InputError(f"fold {self.number} would train on {len(people)} patients, too few for {count} inner folds")

    @property
    def judged(self) -> list[Case]:
        """Cases of the splits by whose scores methods are fitted and tested."""
        return [*self.of("validation"), *self.of("test")]

    def do(self, name: str, work: Callable[[], object]) -> None:
        """Do the work of a stage, unless it is finished; note its seconds, over all sittings."""
        folder = self.folder / STAGES
        marker, partial_time = folder / f"{name}.json", folder / f".{name}.seconds"
        if marker.exists():
            return
        folder.mkdir(parents=True, exist_ok=True)
        before = float(partial_time.read_text() or 0) if partial_time.exists() else 0.0
        begin = time.perf_counter()
        try:
            work()
        except BaseException:
            partial_time.write_text(str(before + time.perf_counter() - begin))
            raise
        write_json(marker, {"seconds": round(before + time.perf_counter() - begin, 1)})
        partial_time.unlink(missing_ok=True)


def run_fold(fold: Fold) -> None:
    """Everything of one fold up to its table of scores, ``scores.csv``."""
    settings = fold.settings
    fold.do("segmenter", lambda: _train(fold, "segmenter", fold.cases, fold.folder, settings.segmenter_steps))
    parts = inner_folds(fold.of("train"), settings, fold.number)
    for number, part in enumerate(parts):
        others, folder = [case for case in fold.cases if case not in part], fold.folder / f"inner-{number}"
        fold.do(f"inner-{number}", partial(_train, fold, "segmenter", others, folder, settings.inner_steps))
    fold.do("reconstructor", lambda: _train(fold, "reconstructor", fold.cases, fold.folder, settings.reconstructor_steps))
    if settings.wants(*PROBABILISTIC):
        fold.do("probabilistic", lambda: _train_probabilistic(fold))
    for name, network in GENERATORS.items():
        if settings.wants_generated(name):
            fold.do(network, partial(_train_generator, fold, network))
    fold.do("analyses", lambda: _analyse(fold, parts))
    for targets, analyses in (("own", ANALYSES), ("out-of-fold", OUT_OF_FOLD)):
        for pair in CHANNELS:
            if settings.wants(REGRESSED[name := f"regressor-{pair}-{targets}"]):
                fold.do(name, partial(_regress, fold, pair, targets, analyses))
    if settings.wants(CLASS_NETWORK):
        fold.do("class-network", lambda: _classify(fold))
    for method in ATLASES:
        if settings.wants(method):
            fold.do(method.replace("reverse_classification", "atlas"), partial(_atlas, fold, method))
    if fold.number == 0:
        fold.do("figure1", lambda: _keep_slices(fold))
    if fold.number == settings.folds - 1:
        fold.do("refits", lambda: _refit(fold))
    fold.do(LAST_STAGE, lambda: write_cases(fold.folder / SCORES, score_table(fold)))


def _train(fold: Fold, network: str, cases: Sequence[Case], output: Path, steps: int) -> None:
    settings = with_steps(fold.training, network, steps)
    recipe = unets.train_segmenter if network == "segmenter" else unets.train_reconstructor
    recipe(settings, cases, output / network, output / "weights", fold.start.of(network))


def _train_probabilistic(fold: Fold) -> None:
    """From the same start as the segmenters, as far as the layers are the same."""
    settings = with_steps(fold.training, "segmenter", fold.settings.segmenter_steps)
    start = fold.start.of("segmenter")
    train_probabilistic_unet(settings, fold.cases, fold.folder / "probabilistic", fold.weights, start)


def _train_generator(fold: Fold, name: str) -> None:
    settings = with_steps(fold.training, "reconstructor", fold.settings.generator_steps)
    train_image_generator(settings, fold.cases, fold.folder / name, fold.weights, adversarial=name == "generator")


def _analyse(fold: Fold, parts: Sequence[Sequence[Case]]) -> None:
    """Own segmentations of all cases; beside it those of training cases by segmenters that never saw them."""
    segmenter = load_network(fold.weights, "segmenter")[0]
    members = [load_network(fold.folder / f"inner-{n}" / "weights", "segmenter")[0] for n in range(len(parts))]
    reconstructor = load_network(fold.weights, "reconstructor")[0]
    settings = fold.settings
    backend = choose_backend(fold.inference)
    pool, data = fold.training.regressor.pool, fold.training.data
    finder = brain_finder()
    inner = {case.id: members[number] for number, part in enumerate(parts) for case in part}
    probabilistic = load_network(fold.weights, "probabilistic")[0] if settings.wants(*PROBABILISTIC) else None
    wanted = {name: network for name, network in GENERATORS.items() if settings.wants_generated(name)}
    generators = {name: cast(ImageGenerator, load_network(fold.weights, network)[0]) for name, network in wanted.items()}

    def panel(network: nn.Module, ensemble: Sequence[nn.Module]) -> Panel:
        # The combination is made of all scores.
        augmented = settings.wants("test_time_augmentation") or settings.wants("combination")
        augmentations = settings.test_time_augmentations if augmented else 0
        return Panel(
            segmenter=network,
            members=ensemble,
            reconstructor=reconstructor,
            brain_finder=finder,
            backend=backend,
            probabilistic=cast(ProbabilisticUnet | None, probabilistic),
            generators=generators,
            passes=settings.passes,
            augmentations=augmentations,
            mirrored_fraction=data.mirrored_fraction,
            seed=settings.seed,
        )

    train = fold.of("train")
    with counted(f"fold {fold.number}: scans", len(fold.cases) + len(train)) as on_step:
        ensemble = members if settings.wants("ensemble") else ()
        analyse_cases(fold.cases, lambda _case: panel(segmenter, ensemble), data, pool, fold.folder / ANALYSES, on_step)
        # Its members know the case, so that an ensemble would be no fair evidence there.
        analyse_cases(train, lambda case: panel(inner[case.id], ()), data, pool, fold.folder / OUT_OF_FOLD, on_step)


def brain_finder() -> tuple[nn.Module, int]:
    """The brain network that ships: it knows no lesions, and no fold trains one."""
    network, card = load_network(bundled_weights(), "brain")
    return network, card.grid


def _keep_slices(fold: Fold) -> None:
    loads = {case.id: read_numbers(fold.folder / ANALYSES, case)["load_ml"] for case in fold.of("test")}
    known = {case.id: partial(KnownCase.read, case, fold.training.data) for case in fold.of("test")}
    chosen = {name: (known[case](), f"{name}: {loads[case]:.1f} ml") for name, case in choose_loads(loads).items()}
    segmenter, reconstructor = (load_network(fold.weights, name)[0] for name in ("segmenter", "reconstructor"))
    settings = fold.settings
    backend = choose_backend(fold.inference)
    panel = Panel(segmenter, (), reconstructor, brain_finder(), backend, None, {}, settings.passes, 0, 0.0, settings.seed)
    store_slices(chosen, panel, fold.folder / SLICES)


def _files(fold: Fold, cases: Sequence[Case], folder: str) -> dict[str, Path]:
    return {case.id: fold.folder / folder / f"{stored_name(case)}.npz" for case in cases}


def _regress(fold: Fold, pair: str, targets: str, folder: str) -> None:
    settings = with_steps(fold.training, "regressor", fold.settings.regressor_steps)
    files = {
        "train": list(_files(fold, fold.of("train"), folder).values()),
        "validation": list(_files(fold, fold.of("validation"), ANALYSES).values()),
    }
    judged = _files(fold, fold.judged, ANALYSES)
    predicted = fit_and_predict(pair, files, judged, settings, fold.folder / f"regressor-{targets}" / pair)
    _store(fold, f"regressor-{pair}-{targets}", predicted)


def _classify(fold: Fold) -> None:
    """The class of quality by a network, from maps of segmenters that never saw the case; its chances are kept."""
    settings, pair = with_steps(fold.training, "regressor", fold.settings.regressor_steps), "uncertainty"
    files = {
        "train": list(_files(fold, fold.of("train"), OUT_OF_FOLD).values()),
        "validation": list(_files(fold, fold.of("validation"), ANALYSES).values()),
    }
    judged = _files(fold, fold.judged, ANALYSES)
    limits = fold.settings.class_limits
    chances = classify_all(pair, files, judged, limits, settings, fold.folder / "class-network")
    write_csv(fold.folder / CLASS_CHANCES, class_table(fold.judged, chances), digits=17)
    # What is expected when poor counts 0, fair one half and good 1.
    _store(fold, CLASS_NETWORK, {name: float(each @ np.linspace(0, 1, len(each))) for name, each in chances.items()})


def _refit(fold: Fold) -> None:
    # Where the regressor is no method that was asked for, nothing is refitted.
    train = fold.of("train") if fold.settings.wants("regressor_uncertainty_out_of_fold") else []
    validation = fold.of("validation")
    known, checks = _files(fold, train, OUT_OF_FOLD), _files(fold, validation, ANALYSES)
    settings = with_steps(fold.training, "regressor", fold.settings.refit_steps)
    table = refit_without_scanners(train, validation, known, checks, settings, fold.folder / "regressor-refits")
    write_csv(fold.folder / REFITS, table, digits=17)


def _stored(fold: Fold, case: Case, *names: str) -> dict[str, np.ndarray]:
    """Some of the stored maps of a case, under the segmenter of the fold."""
    with np.load(fold.folder / ANALYSES / f"{stored_name(case)}.npz") as maps:
        return {name: maps[name].astype(np.float32) for name in names}


def _atlas(fold: Fold, method: str) -> None:
    """Reverse classification against a few training cases that have the target: the same for all, or the most alike."""
    train, count, seed = fold.of("train"), fold.settings.atlas_references, fold.settings.seed
    order = np.random.default_rng([seed, fold.number, 8]).permutation(len(train))
    read = partial(_stored, fold)
    atlases = (read(train[number], "flair", "truth", "features") for number in order)
    known = [maps for maps in atlases if (maps["truth"] >= 0.5).any()]
    features = np.stack([maps["features"] for maps in known]) if known else np.zeros((0, 1))
    predicted = {}
    with counted(f"fold {fold.number}: atlases", len(fold.judged)) as on_step:
        for case in fold.judged:
            maps = read(case, "flair", "segmentation", "features")
            chosen = range(min(count, len(known))) if method == ATLAS else retrieved(maps["features"], features, count)
            references = [(known[number]["flair"], known[number]["truth"] >= 0.5) for number in chosen]
            predicted[case.id] = reverse_classification(maps["flair"], maps["segmentation"], references, seed)
            on_step()
    _store(fold, method, predicted)


def _store(fold: Fold, method: str, predicted: dict[str, float]) -> None:
    folder = fold.folder / "predictions"
    folder.mkdir(exist_ok=True)
    write_text(folder / f"{method}.json", json.dumps(predicted, indent=1) + "\n")


def _predicted(fold: Fold, method: str) -> dict[str, float]:
    found: dict[str, float] = json.loads((fold.folder / "predictions" / f"{method}.json").read_text(encoding="utf-8"))
    return found


ATLASES = (ATLAS, "reverse_classification_retrieved")
LEARNT = ("random_forest", "combination", "veridice")
FEWEST_PEOPLE = 3
DESCRIPTIONS = ("dice", "dice_native", "load_ml")


def score_table(fold: Fold) -> pd.DataFrame:
    """One row a validation or test case and method: what evaluation reads."""
    own = {case.id: read_numbers(fold.folder / ANALYSES, case) for case in fold.cases}
    learnt = {case.id: read_numbers(fold.folder / OUT_OF_FOLD, case) for case in fold.of("train")}
    predictions = {
        name: _predicted(fold, stored)
        for stored, name in (REGRESSED | dict(zip(ATLASES, ATLASES, strict=True))).items()
        if fold.settings.wants(name)
    }
    mean = float(np.mean([numbers["dice"] for numbers in learnt.values()]))
    predictions["training_mean"] = dict.fromkeys([case.id for case in fold.judged], mean)
    predictions |= _learnt(fold, learnt, own)
    far = _distances(fold) if fold.settings.wants(DISTANCE) else {}
    expected = _predicted(fold, CLASS_NETWORK) if fold.settings.wants(CLASS_NETWORK) else {}
    rows = []
    for case in fold.judged:
        names = {"case": case.id, "patient": case.patient or case.id, "dataset": case.dataset}
        described = {name: own[case.id][name] for name in DESCRIPTIONS}
        shared = {"fold": fold.number, "split": case.split, "severity": "", "donor": "", **names, **described}
        scores = {name: value for name, value in own[case.id].items() if name in METHODS and fold.settings.wants(name)}
        scores |= {DISTANCE: far[case.id]} if far else {}
        scores |= {CLASS_NETWORK: expected[case.id]} if expected else {}
        rows += [{**shared, "method": name, "score": value, "kind": "score"} for name, value in scores.items()]
        rows += [{**shared, "method": name, "score": each[case.id], "kind": "dice"} for name, each in predictions.items()]
    return pd.DataFrame(rows)


def _distances(fold: Fold) -> dict[str, float]:
    """How far each judged case is from the training cases in the features of the segmenter."""
    known, judged = ([_stored(fold, case, "features")["features"] for case in part] for part in (fold.of("train"), fold.judged))
    found = feature_distances(np.stack(judged), np.stack(known))
    return dict(zip([case.id for case in fold.judged], found.tolist(), strict=True))


def _learnt(fold: Fold, known: Mapping[str, Numbers], own: Mapping[str, Numbers]) -> dict[str, dict[str, float]]:
    """Predicted Dice of the methods that learn from the training cases' scores; also of such as saw no case of the scanner."""
    datasets = sorted({case.dataset for case in fold.cases})
    predictions = _learnt_from(fold, fold.of("train"), fold.judged, known, own)
    for dataset in datasets if len(datasets) > 1 else ():
        others = [case for case in fold.of("train") if case.dataset != dataset]
        ours = [case for case in fold.judged if case.dataset == dataset]
        for name, predicted in _learnt_from(fold, others, ours, known, own).items() if ours else ():
            predictions.setdefault(f"{name}{UNSEEN}", {}).update(predicted)
    return predictions


def _learnt_from(
    fold: Fold, train: Sequence[Case], judged: Sequence[Case], known: Mapping[str, Numbers], own: Mapping[str, Numbers]
) -> dict[str, dict[str, float]]:
    numbers, asked = [known[case.id] for case in train], {case.id: own[case.id] for case in judged}
    people = [case.patient or case.id for case in train]
    seed = fold.settings.seed
    wanted = [name for name in LEARNT if fold.settings.wants(name)]
    if len(set(people)) < FEWEST_PEOPLE:  # too little to learn from
        return {name: dict.fromkeys(asked, np.nan) for name in wanted}
    learners = {
        "random_forest": lambda: forest_on_simple_features(numbers, asked, seed),
        "combination": lambda: combination(numbers, people, asked, seed),
        "veridice": lambda: as_served(numbers, people, asked, seed),
    }
    return {name: learners[name]() for name in wanted}


def for_folds(training: TrainingSettings, settings: ExperimentSettings, folder: Path, start: Start) -> TrainingSettings:
    """The configuration for networks that train on an experiment's cases alone.

    Weights that others trained are gone on with on whole cubes.
    """
    alone = {"simulated_patients": 0, "simulated_validation": 0, "simulated_fraction": 0.0, "donor_groups": ("training",)}
    read = {"cubes": str(folder / "cubes"), "resample_t1": training.data.resample_t1 or bool(settings.cohort)}
    data = training.data.model_copy(update={**alone, **read})
    training = training.model_copy(update={"data": data, "seed": settings.seed})
    for network in start.cards:
        training = on_whole_cubes(training, network)
    return training


def make_fold(
    number: int,
    cases: Sequence[Case],
    table: pd.DataFrame,
    folder: Path,
    settings: ExperimentSettings,
    training: TrainingSettings,
    inference: InferenceSettings,
    start: Start,
) -> Fold:
    """A fold whose cases carry the split that ``table`` gives them."""
    split = dict(zip(table["case"], table[f"fold-{number}"], strict=True))
    placed = tuple(replace(case, split=split[case.id]) for case in cases)
    return Fold(number, folder / f"fold-{number}", placed, settings, training, inference, start)
