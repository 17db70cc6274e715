"""Regression networks of one fold, from stored maps; and again without one scanner, to see what a new one costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import GroupKFold
from torch import Tensor

from veridice.case import Case
from veridice.networks.regression_net import RegressionNet
from veridice.quality.quality_classes import CLASSES
from veridice.training.regressors import fit_classifier, fit_regressor, new_regressor
from veridice.training.settings import CHANNELS, TrainingSettings
from veridice.types import Numbers

Files = Mapping[str, Path]
"""Stored maps by name of the case."""
CONTROL_PARTS = 5
REFITTED = "uncertainty"
"""The pair that is refitted without a scanner: the one that the paper calls best."""


def fit_and_predict(
    pair: str,
    files: Mapping[str, Sequence[Path]],
    judged: Files,
    settings: TrainingSettings,
    run: Path,
) -> dict[str, float]:
    """Train one regression network, resumably, and predict the Dice of each judged case.

    Args:
        pair: what it sees.
        files: stored maps of ``train`` and ``validation``.
        judged: those of the cases that are asked about.
        settings: of its training.
        run: folder of its training.
    """
    network = new_regressor(pair, settings)
    fit_regressor(network, pair, files, settings, run)
    network.eval()
    return {name: float(said) for name, said in _ask(network, pair, judged)}


def classify_all(
    pair: str,
    files: Mapping[str, Sequence[Path]],
    judged: Files,
    limits: Sequence[float],
    settings: TrainingSettings,
    run: Path,
) -> dict[str, Numbers]:
    """The same of a network that tells classes of quality: chance of each class (classes,) of each judged case."""
    network = fit_classifier(pair, files, limits, settings, run)
    asked = _ask(network, pair, judged)
    return {name: torch.softmax(said.double().flatten(), 0).cpu().numpy() for name, said in asked}


def class_table(cases: Sequence[Case], chances: Mapping[str, Numbers]) -> pd.DataFrame:
    """Chances of the classes as a table: ``case``, ``split``, ``poor``, ``fair``, ``good``."""
    return pd.DataFrame([{"case": c.id, "split": c.split, **dict(zip(CLASSES, chances[c.id], strict=True))} for c in cases])


def _ask(network: RegressionNet, pair: str, judged: Files) -> Iterator[tuple[str, Tensor]]:
    """What a trained network says of each judged case."""
    network.eval()
    # Training leaves it where it was trained: on a GPU where there is one.
    device = next(network.parameters()).device
    for name, file in judged.items():
        with np.load(file) as maps, torch.inference_mode():
            stacked = np.stack([maps[channel] for channel in CHANNELS[pair]]).astype(np.float32)
            yield name, network(torch.from_numpy(stacked)[None].to(device))


def refit_without_scanners(
    train: Sequence[Case],
    validation: Sequence[Case],
    known: Files,
    checks: Files,
    settings: TrainingSettings,
    run: Path,
) -> pd.DataFrame:
    """Predicted Dice of every training case by a regressor that saw nobody of its scanner, and by one that saw some.

    Both learn from maps of segmenters that never saw the case. The one leaves out all cases of the data set, in training and
    validation; the control leaves out a fifth of the people, whoever they are. Segmenters stay as they are.

    Args:
        train, validation: cases of the fold.
        known, checks: their stored maps.
        settings: of the regressors' training, with the number of steps.
        run: folder of the trainings.

    Returns:
        Columns ``case``, ``patient``, ``dataset``, ``dice``, ``seen``, ``unseen``; without those whose data set alone holds
        all that there is to learn from or to stop by.
    """
    columns = ["case", "patient", "dataset", "dice", "seen", "unseen"]
    datasets = sorted({case.dataset for case in train})
    if len(datasets) < 2:
        return pd.DataFrame(columns=columns)

    def predict(left_out: Sequence[Case], held: Sequence[Case], name: str) -> dict[str, float]:
        out = {case.id for case in left_out}
        files = {
            "train": [known[case.id] for case in train if case.id not in out],
            "validation": [checks[case.id] for case in held],
        }
        return fit_and_predict(REFITTED, files, {case.id: known[case.id] for case in left_out}, settings, run / name)

    unseen: dict[str, float] = {}
    for number, dataset in enumerate(datasets):
        ours = [case for case in train if case.dataset == dataset]
        others = [case for case in validation if case.dataset != dataset]
        if others:
            unseen |= predict(ours, others, f"scanner-{number}")
    seen: dict[str, float] = {}
    people = [case.patient or case.id for case in train]
    parts = GroupKFold(min(CONTROL_PARTS, len(set(people))), shuffle=True, random_state=settings.seed)
    for number, (_, part) in enumerate(parts.split(people, groups=people)):
        seen |= predict([train[place] for place in part], validation, f"control-{number}")
    rows = []
    for case in (case for case in train if case.id in unseen):
        with np.load(known[case.id]) as maps:
            dice = float(maps["dice"])
        names = {"case": case.id, "patient": case.patient or case.id, "dataset": case.dataset}
        rows.append({**names, "dice": dice, "seen": seen[case.id], "unseen": unseen[case.id]})
    return pd.DataFrame(rows, columns=columns)
