"""Quality as a class: what a network tells, against the classes that predicted Dice imply. No torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import confusion_matrix

from veridice.experiment.results.resampling import Weights, draw_weights, ratio
from veridice.quality.quality_classes import CLASSES, class_of
from veridice.types import Array, Numbers

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
            said = np.eye(len(CLASSES))[class_of(found["predicted_dice"].to_numpy(), limits)]
        rows.append({"method": method, **_measures(said, class_of(first["dice"].to_numpy(), limits), first["patient"])})
        if method != NETWORK:
            rows[-1]["brier"] = np.nan
    return pd.DataFrame(rows).sort_values(["kappa", "method"], ascending=[False, True], ignore_index=True)


def confusion(chances: pd.DataFrame, judged: pd.DataFrame, limits: Sequence[float]) -> pd.DataFrame:
    """Test cases by true class (rows) and by the likeliest class of the network."""
    truth = judged[judged["method"] == NETWORK].set_index(["fold", "case"])
    said = chances.set_index(["fold", "case"]).loc[truth.index, list(CLASSES)].to_numpy().argmax(axis=1)
    counts = confusion_matrix(class_of(truth["dice"].to_numpy(), limits), said, labels=range(len(CLASSES)))
    return pd.DataFrame(counts, columns=[f"said_{name}" for name in CLASSES]).assign(true=CLASSES)


def _measures(said: Array, truth: Array, people: pd.Series) -> dict[str, float]:
    chosen = said.argmax(axis=1)
    drawn = weighted_kappas(truth, chosen, draw_weights(people, RESAMPLES))
    told = drawn[np.isfinite(drawn)]
    low, high = np.quantile(told, [0.025, 0.975]) if len(told) else (np.nan, np.nan)
    return {
        "kappa": float(weighted_kappas(truth, chosen, np.ones((1, len(truth))))[0]),
        "kappa_low": float(low),
        "kappa_high": float(high),
        "right": float((chosen == truth).mean()),
        "brier": float(((said - np.eye(len(CLASSES))[truth]) ** 2).sum(axis=1).mean()),
    }


def weighted_kappas(truth: Array, chosen: Array, weights: Weights) -> Numbers:
    """Quadratically weighted kappa (Cohen 1968) in every resample (resamples,); NaN where all cases are of one class and told
    so.
    """
    classes = np.arange(len(CLASSES))
    penalty = (classes[:, None] - classes) ** 2.0
    true, told = (weights @ (values[:, None] == classes) for values in (truth, chosen))
    expected = np.einsum("ra,rb,ab->r", true, told, penalty) / weights.sum(axis=1)
    return 1 - ratio(weights @ penalty[truth, chosen], expected)
