"""Quality as a class (poor, fair, good): what the predicted Dice and its errors imply, against models that learn the classes.

python benchmarks/quality_classes.py

Learnt and calibrated on the stored masks of results/judge, judged on those of people who took no part (simulated): an ordered
logit (statsmodels), extremely randomised trees with the classes as target (scikit-learn), and the product's own way, which
learns nothing of the classes. Chances of the two models are calibrated nowhere. Intervals are over people.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import cohen_kappa_score, confusion_matrix
from sklearn.preprocessing import StandardScaler
from statsmodels.miscmodels.ordinal_model import OrderedModel

from veridice.io.weight_cards import bundled_weights
from veridice.quality.model import load_quality_model
from veridice.quality.quality_classes import CLASSES, LIMITS, class_chances, class_of
from veridice.training.assessed_masks import masks_to_learn
from veridice.types import Array

RESULTS = Path(__file__).resolve().parent.parent / "results" / "judge"
DRAWS = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--weights", type=Path, default=bundled_weights())
    options = parser.parse_args()
    model = load_quality_model(options.weights)
    features = list(model.predictor.features)
    learnt = masks_to_learn(options.results)
    judged = pd.read_csv(options.results / "people-coverage-masks.csv.gz", keep_default_na=False, na_values=[""])
    fill = learnt[features].median()
    inputs, target = learnt[features].fillna(fill), class_of(learnt["dice"].to_numpy())
    asked, truth = judged[features].fillna(fill), class_of(judged["dice"].to_numpy())
    predicted, spread = model.predictor.predict(judged)
    ways = {
        "implied by the predicted Dice": class_chances(model.calibration, predicted, spread),
        "ordered logit": ordered(inputs, target, asked),
        "trees": trees(inputs, target, asked),
    }
    sys.stdout.write(
        f"{len(learnt)} masks learnt from, {len(judged)} of {judged['person'].nunique()} people judged; limits {LIMITS}; "
        f"shares {np.round(np.bincount(truth, minlength=3) / len(truth), 2).tolist()}\n"
    )
    for name, chances in ways.items():
        tell(name, chances, truth, judged["person"])


def ordered(inputs: pd.DataFrame, target: Array, asked: pd.DataFrame) -> Array:
    scale = StandardScaler().fit(inputs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = OrderedModel(target, scale.transform(inputs), distr="logit").fit(method="lbfgs", maxiter=500, disp=False)
    return np.asarray(fitted.model.predict(fitted.params, exog=scale.transform(asked)))


def trees(inputs: pd.DataFrame, target: Array, asked: pd.DataFrame) -> Array:
    return np.asarray(ExtraTreesClassifier(200, min_samples_leaf=3, random_state=0).fit(inputs, target).predict_proba(asked))


def tell(name: str, chances: Array, truth: Array, person: pd.Series) -> None:
    """Print confusion matrix, weighted kappa, Brier score and reliability."""
    chosen, hit = chances.argmax(axis=1), np.eye(len(CLASSES))[truth]
    people = person.unique()
    rows = person.groupby(person.to_numpy()).indices
    rng, draws = np.random.default_rng(0), []
    for _ in range(DRAWS):
        drawn = np.concatenate([rows[one] for one in rng.choice(people, len(people))])
        draws.append(cohen_kappa_score(truth[drawn], chosen[drawn], weights="quadratic", labels=range(len(CLASSES))))
    low, high = np.quantile(draws, [0.025, 0.975])
    kappa = cohen_kappa_score(truth, chosen, weights="quadratic")
    brier, hits = ((chances - hit) ** 2).sum(axis=1).mean(), (chosen == truth).mean()
    sys.stdout.write(f"\n{name}: weighted kappa {kappa:.3f} ({low:.3f} to {high:.3f}), right {hits:.1%}, Brier {brier:.3f}\n")
    table = pd.DataFrame(confusion_matrix(truth, chosen), [f"true {c}" for c in CLASSES], [f"said {c}" for c in CLASSES])
    sys.stdout.write(f"{table.to_string()}\n")
    good = chances[:, -1]
    for start, end in zip(np.arange(0, 1, 0.2), np.arange(0.2, 1.2, 0.2), strict=True):
        inside = (good >= start) & ((good < end) | (end > 0.99))
        if inside.any():
            text = f"chance of good {start:.1f} to {end:.1f}: {inside.sum()} masks, said {good[inside].mean():.2f}, "
            text += f"true {hit[inside, -1].mean():.2f}\n"
            sys.stdout.write(text)


if __name__ == "__main__":
    main()
