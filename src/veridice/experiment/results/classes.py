"""Quality as a class: what a network tells, against the classes that predicted Dice imply. No torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from veridice.experiment.results.resampling import draw_weights
from veridice.types import Array, Numbers

CLASSES = ("poor", "fair", "good")
NETWORK = "class_network"
RESAMPLES = 1000


def class_report(chances: pd.DataFrame, judged: pd.DataFrame, limits: Sequence[float]) -> pd.DataFrame:
    """A row a method: quadratically weighted kappa with the true class (Cohen 1968), its 95 % bootstrap interval by patient,
    the share that is right, and for the network, which has chances, the Brier score.

    Args:
        chances: of the classes of each test case: ``fold``, ``case`` and :data:`CLASSES`.
        judged: test rows with ``predicted_dice``, of :func:`veridice.experiment.results.evaluation.judge`.
        limits: Dice from which on quality is fair, and good.
    """
    first = judged[judged["method"] == judged["method"].iloc[0]].set_index(["fold", "case"])
    rows = []
    for method, table in judged.groupby("method", sort=True):
        found = table.set_index(["fold", "case"]).loc[first.index]
        if method == NETWORK:
            said = chances.set_index(["fold", "case"]).loc[first.index, list(CLASSES)].to_numpy()
        else:
            said = np.eye(len(CLASSES))[class_of(found["predicted_dice"], limits)]
        rows.append({"method": method, **_measures(said, class_of(first["dice"], limits), first["patient"])})
        if method != NETWORK:
            rows[-1]["brier"] = np.nan
    return pd.DataFrame(rows).sort_values(["kappa", "method"], ascending=[False, True], ignore_index=True)


def class_of(dice: pd.Series, limits: Sequence[float]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The place in :data:`CLASSES` of each Dice."""
    return np.searchsorted(list(limits), dice.to_numpy(np.float64), side="right")


def confusion(chances: pd.DataFrame, judged: pd.DataFrame, limits: Sequence[float]) -> pd.DataFrame:
    """Test cases by true class (rows) and by the likeliest class of the network."""
    truth = judged[judged["method"] == NETWORK].set_index(["fold", "case"])
    said = chances.set_index(["fold", "case"]).loc[truth.index, list(CLASSES)].to_numpy().argmax(axis=1)
    counts = confusion_matrix(class_of(truth["dice"], limits), said, labels=range(len(CLASSES)))
    return pd.DataFrame(counts, columns=[f"said_{name}" for name in CLASSES]).assign(true=CLASSES)


def _measures(said: Array, truth: Array, people: pd.Series) -> dict[str, float]:
    chosen = said.argmax(axis=1)
    drawn = [_kappa(truth, chosen, weights) for weights in draw_weights(people, RESAMPLES)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return {
        "kappa": _kappa(truth, chosen, np.ones(len(truth))),
        "kappa_low": float(low),
        "kappa_high": float(high),
        "right": float((chosen == truth).mean()),
        "brier": float(((said - np.eye(len(CLASSES))[truth]) ** 2).sum(axis=1).mean()),
    }


def _kappa(truth: Array, chosen: Array, weights: Numbers) -> float:
    """NaN where all cases are of one class and are told to be."""
    with np.errstate(invalid="ignore", divide="ignore"):
        labels = list(range(len(CLASSES)))
        return float(cohen_kappa_score(truth, chosen, labels=labels, weights="quadratic", sample_weight=weights))
