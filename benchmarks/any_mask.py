"""How well is the Dice of any mask predicted for people who were left out? From the tables of ``veridice train predictor``.

``python benchmarks/any_mask.py results/judge`` (or ``runs/default/predictor``): each real person is predicted by a judge that
learnt from all others, each simulated validation patient by one that learnt from the training rows; beside it the judge without
parts of its evidence or without the people whom no network saw, and what single numbers say.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import roc_auc_score

from veridice.assessment.decide import agreement_of
from veridice.metrics.failure_detection import bootstrap
from veridice.quality.calibration import CalibrationSet, dice_intervals
from veridice.quality.decision import AGREEMENT_WEIGHT
from veridice.quality.mask_features import BORDER
from veridice.quality.predictor import FEATURES, evidence_in, fit_predictor
from veridice.quality.single_lesions import Lesion, fit_lesion_model
from veridice.simulate.donors import all_donors
from veridice.training.assessed_masks import UNSEEN, WITH, masks_to_learn, stored_masks
from veridice.training.people import people_masks

SINGLE = {"panel overlap": "agreement_mean", "expected Dice": "expected_dice", "volume": "log_volume"}
RESAMPLES, COVERAGE = 1000, 0.9
AUTOMATIC = ("own", "other network", "other level", "one pass", "threshold", "mixture", "clusters", "grown region")
"""Kinds of masks that need no truth."""
FEWEST_RANKED = 3
EVIDENCE = {
    "the three regression networks": tuple(name for name in FEATURES if name.startswith("predicted_dice")),
    "the evidence of borders": BORDER,
}


def predictions(known: pd.DataFrame, asked: pd.DataFrame, apart: pd.DataFrame) -> pd.DataFrame:
    """Of the judge with the ends of its interval, of single numbers as they are or by an isotonic map, and of a constant."""
    fitted = fit_predictor(known)
    dice, spread = fitted.predict(asked)
    low, high = dice_intervals(CalibrationSet.of(*fitted.predict(apart), apart, "", simulated=True), dice, spread, COVERAGE).T
    made = {"judge": dice, "low": low, "high": high}
    for name, left_out in EVIDENCE.items():
        rest = [feature for feature in fitted.features if feature not in left_out]
        if len(rest) < len(fitted.features):
            made[f"judge without {name}"] = fit_predictor(known, features=rest).predict(asked)[0]
    seen = known[known["group"] >= 0]
    if len(seen) < len(known):
        made["judge without unseen people"] = fit_predictor(seen.reset_index(drop=True)).predict(asked)[0]
    for name, score in SINGLE.items():
        isotonic = IsotonicRegression(out_of_bounds="clip", increasing="auto")
        made[f"{name}, mapped"] = isotonic.fit(known[score].fillna(0), known["dice"]).predict(asked[score].fillna(0))
        if score != "log_volume":
            made[name] = asked[score].to_numpy()
    made["constant"] = np.full(len(asked), known["dice"].mean())
    return pd.DataFrame(made, index=asked.index)


def without_person(rows: pd.DataFrame, person: str) -> pd.DataFrame:
    """Rows that say nothing of a person: neither theirs nor of simulated patients who may have their lesions."""
    theirs = rows["person"] == person
    if person in {donor.person for donor in all_donors()}:
        theirs |= rows["simulated"] & (rows["group"] == rows.loc[theirs, "group"].iloc[0])
    return rows[~theirs]


def report(title: str, asked: pd.DataFrame, predicted: pd.DataFrame) -> list[str]:
    """Spearman and mean absolute error with intervals over resampled people, the judge's paired gains, its coverage."""
    dice, people = asked["dice"].to_numpy(), asked["person"].to_numpy()
    counts = f"{len(asked)} masks of {asked['scan'].nunique()} scans of {len(set(people))} people"
    lines = [f"{title}: {counts}; mean Dice {dice.mean():.2f}"]

    def resampled(statistic: Callable[..., float], *columns: np.ndarray) -> str:
        found = bootstrap(statistic, *columns, clusters=people, resamples=RESAMPLES)
        return f"{statistic(*columns):.3f} ({found.low:.3f} to {found.high:.3f})"

    def rank(values: np.ndarray, truth: np.ndarray) -> float:
        return float(stats.spearmanr(values, truth).statistic) if np.ptp(values) and np.ptp(truth) else 0.0

    quality_model = predicted["judge"].to_numpy()
    for name in predicted.columns.drop(["low", "high"]):
        values = predicted[name].to_numpy()
        error = np.abs(values - dice)
        lines.append(f"  {name:42s} Spearman {rank(values, dice):.3f}, MAE {resampled(lambda e: float(e.mean()), error)}")
        if name != "judge":
            gain = resampled(lambda a, b: float((a - b).mean()), error, np.abs(quality_model - dice))
            ranks = resampled(lambda a, b, d: rank(a, d) - rank(b, d), quality_model, values, dice)
            lines.append(f"  {'':42s} judge better by {ranks} and {gain}")
    covered = ((dice >= predicted["low"]) & (dice <= predicted["high"])).to_numpy(float)
    width = (predicted["high"] - predicted["low"]).mean()
    lines.append(f"  {COVERAGE:.0%} interval: holds {resampled(lambda c: float(c.mean()), covered)}, mean width {width:.3f}")
    return lines


def by_kind(asked: pd.DataFrame, predicted: pd.DataFrame) -> str:
    """Mean absolute error of the judge, and share of the intervals that hold, for each kind of mask."""
    covered = (asked["dice"] >= predicted["low"]) & (asked["dice"] <= predicted["high"])
    table = asked.assign(error=np.abs(predicted["judge"] - asked["dice"]), covered=covered)
    means = {name: (name, "mean") for name in ("dice", "error", "covered")}
    groups = table.groupby("kind").agg(n=("dice", "size"), **means)
    return groups.round(3).to_string()


def thickness(known: pd.DataFrame, real: pd.DataFrame) -> str:
    """Why the slice thickness is no evidence: a judge of simulated patients alone, on real scans, without it and with it."""
    simulated, errors = known[known["simulated"]], []
    evidence = evidence_in(simulated)
    for features in (evidence, (*evidence, "slice_thickness")):
        predicted = fit_predictor(simulated, features=features).predict(real)[0]
        errors.append(float(np.abs(predicted - real["dice"]).mean()))
    return f"  learnt from simulated patients alone: MAE {errors[0]:.3f}, with the slice thickness {errors[1]:.3f}"


def ranking(asked: pd.DataFrame, predicted: pd.DataFrame) -> str:
    """How well masks of automatic kinds are put in order within each scan, by the predicted Dice and with their agreement."""
    taus, losses = [], []
    table = asked.assign(predicted=predicted["judge"])
    for _, masks in table[table["kind"].isin(AUTOMATIC)].groupby("scan"):
        if len(masks) < FEWEST_RANKED:
            continue
        kinds = list(masks["kind"])
        with_earlier = masks.reindex(columns=[f"{WITH}{kind}" for kind in kinds]).to_numpy(float)
        overlaps = np.fmax(with_earlier, with_earlier.T)
        alone = masks["predicted"].to_numpy()
        values = (alone, alone + AGREEMENT_WEIGHT * agreement_of(overlaps, alone))
        true = masks["dice"].to_numpy()
        taus.append([stats.kendalltau(value, true).statistic for value in values])
        losses.append([true.max() - true[np.argmax(value)] for value in values])
    (tau, with_tau), (loss, with_loss) = np.nanmean(taus, axis=0), np.mean(losses, axis=0)
    return (
        f"  automatic masks of a scan in order ({len(taus)} scans): Kendall's tau {tau:.3f}, with agreement {with_tau:.3f}; "
        f"Dice lost by taking the first {loss:.3f}, {with_loss:.3f}"
    )


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
    known, checks = masks_to_learn(folder), stored_masks(folder, "validation")
    apart = people_masks(folder, "calibration")
    rows = [pd.read_csv(folder / f"{name}-lesions.csv.gz", keep_default_na=False, na_values=[""]) for name in ("train", UNSEEN)]
    lesions = pd.concat(rows, ignore_index=True)
    lesions = lesions.drop_duplicates(["scan", "kind", "dice", "number"])
    lesions = lesions.merge(known[["scan", "simulated"]].drop_duplicates(), on="scan")
    real = known[~known["simulated"]]
    parts, confidence, truths = [], [], []
    for person in sorted(real["person"].unique()):
        parts.append(predictions(without_person(known, person), real[real["person"] == person], apart))
        of_person = lesion_auroc(without_person(lesions, person), lesions[lesions["person"] == person])
        confidence.append(of_person[0])
        truths.append(of_person[1])
    predicted = pd.concat(parts).loc[real.index]
    found = predictions(known, checks, apart)
    every, truth = np.concatenate(confidence), np.concatenate(truths)
    lines = [
        *report("Real scans, the person left out", real, predicted),
        ranking(real, predicted),
        thickness(known, real),
        by_kind(real, predicted),
        f"lesions: {len(truth)}, real {truth.mean():.2f}; AUROC of the confidence {roc_auc_score(truth, every):.3f}",
        *report("Simulated patients of other people", checks, found),
        ranking(checks, found),
    ]
    print("\n".join(lines))  # noqa: T201


if __name__ == "__main__":
    main()
