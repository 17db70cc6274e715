"""Quality as a class: measures against scikit-learn, row by row."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss, cohen_kappa_score

from veridice.experiment.results.classes import CLASSES, class_report, confusion

LIMITS = (0.5, 0.75)


def test_measures_are_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    dice = rng.random(60)
    chances = rng.dirichlet([1, 1, 1], 60)
    predicted = (dice + rng.normal(0, 0.15, 60)).clip(0, 1)
    names = pd.DataFrame({"fold": np.repeat([0, 1], 30), "case": [f"c{n}" for n in range(60)], "patient": range(60)})
    judged = pd.concat(
        [names.assign(dice=dice, method=method, predicted_dice=predicted) for method in ("class_network", "pairwise_dice")]
    )
    table = pd.concat([names[["fold", "case"]], pd.DataFrame(chances, columns=list(CLASSES))], axis=1).sample(frac=1)
    report = class_report(table, judged, LIMITS).set_index("method")
    truth = [0 if d < 0.5 else 1 if d < 0.75 else 2 for d in dice]
    implied = [0 if d < 0.5 else 1 if d < 0.75 else 2 for d in predicted]
    kappa = cohen_kappa_score(truth, implied, weights="quadratic")
    assert report.loc["pairwise_dice", "kappa"] == pytest.approx(kappa)
    assert report.loc["pairwise_dice", "kappa_low"] < kappa < report.loc["pairwise_dice", "kappa_high"]
    assert np.isnan(report.loc["pairwise_dice", "brier"])
    brier = sum(brier_score_loss([t == n for t in truth], chances[:, n]) for n in range(3))
    assert report.loc["class_network", "brier"] == pytest.approx(brier)
    right = np.mean([t == int(row.argmax()) for t, row in zip(truth, chances, strict=True)])
    assert report.loc["class_network", "right"] == pytest.approx(right)
    counts = confusion(table, judged, LIMITS)
    assert counts.set_index("true").to_numpy().sum() == 60
    assert counts.set_index("true").to_numpy().trace() == pytest.approx(60 * right)
