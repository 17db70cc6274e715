"""How well is the Dice of any mask predicted for people who were left out? From the tables of ``veridice train predictor``.

``python benchmarks/any_mask.py results/judge`` (or ``runs/default/predictor``): each real person is predicted by a judge that
learnt from all others, each simulated validation patient by one that learnt from the training rows; beside it what single
numbers say.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score

from veridice.failure_detection import bootstrap
from veridice.lesions import Lesion, fit_lesion_model
from veridice.predictor import fit_predictor

SINGLE = {"panel overlap": "agreement_mean", "expected Dice": "expected_dice", "volume": "log_volume"}
RESAMPLES = 1000


def read_rows(folder: Path, split: str, table: str) -> pd.DataFrame:
    """One table of a split."""
    rows = pd.read_csv(folder / f"{split}-{table}.csv.gz", keep_default_na=False, na_values=[""])
    if table == "masks":
        rows = rows[rows["lesion_count"] > 0]  # an empty one is decided upon without a prediction
    # The same mask of a scan counts once.
    return rows.drop_duplicates(["scan", "kind", "dice", *(["agreement_mean"] if table == "masks" else ["number"])])


def predictions(known: pd.DataFrame, asked: pd.DataFrame) -> pd.DataFrame:
    """Of the judge, of single numbers as they are or by an isotonic map, and of a constant."""
    made = {"judge": fit_predictor(known).predict(asked)[0]}
    for name, score in SINGLE.items():
        isotonic = IsotonicRegression(out_of_bounds="clip", increasing="auto")
        made[f"{name}, mapped"] = isotonic.fit(known[score].fillna(0), known["dice"]).predict(asked[score].fillna(0))
        if score != "log_volume":
            made[name] = asked[score].to_numpy()
    made["constant"] = np.full(len(asked), known["dice"].mean())
    return pd.DataFrame(made, index=asked.index)


def report(title: str, asked: pd.DataFrame, predicted: pd.DataFrame) -> list[str]:
    """Spearman and mean absolute error with intervals over resampled people, and the judge's paired gain."""
    dice, people = asked["dice"].to_numpy(), asked["person"].to_numpy()
    counts = f"{len(asked)} masks of {asked['scan'].nunique()} scans of {len(set(people))} people"
    lines = [f"{title}: {counts}; mean Dice {dice.mean():.2f}"]
    judge = np.abs(predicted["judge"].to_numpy() - dice)
    for name in predicted:
        values = predicted[name].to_numpy()
        error = np.abs(values - dice)
        rank = stats.spearmanr(values, dice).statistic if np.ptp(values) else np.nan
        own = bootstrap(lambda e: float(e.mean()), error, clusters=people, resamples=RESAMPLES)
        gain = bootstrap(lambda a, b: float((a - b).mean()), error, judge, clusters=people, resamples=RESAMPLES)
        line = f"  {name:22s} Spearman {rank:.3f}, MAE {error.mean():.3f} ({own.low:.3f} to {own.high:.3f})"
        if name != "judge":
            line += f"; judge better by {(error - judge).mean():.3f} ({gain.low:.3f} to {gain.high:.3f})"
        lines.append(line)
    return lines


def by_kind(asked: pd.DataFrame, predicted: pd.DataFrame) -> str:
    """Mean absolute error of the judge for each kind of mask."""
    table = asked.assign(error=np.abs(predicted["judge"] - asked["dice"]))
    groups = table.groupby("kind").agg(n=("dice", "size"), dice=("dice", "mean"), error=("error", "mean"))
    return groups.round(3).to_string()


def lesion_auroc(known: pd.DataFrame, asked: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Confidence in each asked lesion, and whether it is real."""
    columns = list(Lesion.__dataclass_fields__)
    model = fit_lesion_model(known)
    confidence = model.confidence([Lesion(**row) for row in asked[columns].to_dict("records")])
    return np.array(confidence), asked["real"].to_numpy(bool)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=Path, help="folder of the tables")
    folder = parser.parse_args().rows
    known, checks = read_rows(folder, "train", "masks"), read_rows(folder, "validation", "masks")
    lesions = read_rows(folder, "train", "lesions")
    real = known[~known["simulated"]]
    parts, confidence, truths = [], [], []
    for person in sorted(real["person"].unique()):
        others = known[known["person"] != person]
        parts.append(predictions(others, real[real["person"] == person]))
        of_person = lesions["person"] == person
        found = lesion_auroc(lesions[~of_person], lesions[of_person])
        confidence.append(found[0])
        truths.append(found[1])
    predicted = pd.concat(parts).loc[real.index]
    every, truth = np.concatenate(confidence), np.concatenate(truths)
    lines = [
        *report("Real scans, the person left out", real, predicted),
        by_kind(real, predicted),
        f"lesions: {len(truth)}, real {truth.mean():.2f}; AUROC of the confidence {roc_auc_score(truth, every):.3f}",
        *report("Simulated patients of other people", checks, predictions(known, checks)),
    ]
    print("\n".join(lines))  # noqa: T201


if __name__ == "__main__":
    main()
