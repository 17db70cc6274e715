"""Does a decision keep its promise that hospitals make of sorted scores? On simulated people who calibrated nothing.

python benchmarks/federated_decision.py [--min-dice 0.75] [--weights FOLDER]

The 319 people of the calibration and the 600 of the coverage set are dealt to hospitals: by lot, or by the kind of their
scans. Three decisions are tried on each hospital's people of the coverage set: its own, from its own calibration people; the
common one; and the common one from 20 quantiles. The table has the share of the bad masks that is accepted, and of those
better by 0.03 than needed (power), with 95 % intervals over people. It says which hospitals are told to differ. A twin of the
last hospital has a judge that says 0.1 too much: it has to be told.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from veridice.io.weight_cards import bundled_weights
from veridice.metrics.failure_detection import bootstrap
from veridice.quality.calibration import CalibrationSet
from veridice.quality.common_scores import SiteScores, joined_scores, share_scores
from veridice.quality.decision import GROSS, MAX_MISSED, p_values
from veridice.quality.model import load_quality_model
from veridice.quality.site_reports import site_reports
from veridice.training.people import people_calibration

RESULTS = Path("results/judge")
SIZES = (20, 20, 20, 5, 5, 5, 30)
"""Parts that the hospitals of a lot have: the scanner groups of the paper's Table 3."""
BETTER, QUANTILES, TOO_MUCH, TWIN = 0.03, 20, 0.1, "twin"


def main() -> int:
    """Print one table a way of dealing people to hospitals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--min-dice", type=float, default=0.75)
    parser.add_argument("--weights", type=Path, default=bundled_weights())
    options = parser.parse_args()
    predictor = load_quality_model(options.weights).predictor
    tables = {}
    for name in ("calibration", "coverage"):
        table = pd.read_csv(RESULTS / f"people-{name}-masks.csv.gz", keep_default_na=False, na_values=[""])
        table = table[table["lesion_count"] > 0].reset_index(drop=True)
        predicted, spread = predictor.predict(table)
        tables[name] = table.assign(predicted=predicted, spread=spread)
    for way, deal in WAYS.items():
        known, new = (table.assign(hospital=deal(table)) for table in tables.values())
        sets = {str(name): people_calibration(predictor, part, 20) for name, part in known.groupby("hospital")}
        new = new[(new["unfamiliarity"] <= 1) & (new["doubts"] == 0)].reset_index(drop=True)
        print_table(way, sets, new, options.min_dice)
    return 0


def by_lot(table: pd.DataFrame) -> pd.Series:
    """Hospitals of the sizes of the scanner groups, people dealt by lot."""
    people = table["person"].unique()
    rng = np.random.default_rng(0)
    drawn = dict(zip(people, rng.choice(len(SIZES), len(people), p=np.divide(SIZES, sum(SIZES))), strict=True))
    return table["person"].map(drawn).map("hospital {}".format)


def by_slices(table: pd.DataFrame) -> pd.Series:
    """Hospitals that take slices of other thickness."""
    return pd.cut(table["slice_thickness"], [0, 1.5, 3.5, np.inf], labels=["to 1.5 mm", "to 3.5 mm", "thicker"]).astype(str)


def by_severity(table: pd.DataFrame) -> pd.Series:
    """Hospitals whose scans are of other quality."""
    return table["severity"]


WAYS = {"by lot": by_lot, "by slice thickness": by_slices, "by quality of scans": by_severity}


def print_table(way: str, sets: dict[str, CalibrationSet], new: pd.DataFrame, needed: float) -> None:
    """Error rate and power of the three decisions at each hospital and over all."""
    shared = {name: share_scores(own, needed, GROSS) for name, own in sets.items()}
    rough = {name: share_scores(own, needed, GROSS, QUANTILES) for name, own in sets.items()}
    deciding = {
        "alone": sets,
        "common": with_common(sets, list(shared.values())),
        f"{QUANTILES} quantiles": with_common(sets, list(rough.values())),
    }
    accepted = {name: accepted_by(which, new, needed) for name, which in deciding.items()}
    last = list(sets)[-1]
    reports = site_reports({**shared, TWIN: share_scores(praised(sets[last]), needed, GROSS)}, MAX_MISSED, len(shared) + 1)
    without_twin = site_reports(shared, MAX_MISSED, len(shared))
    heads = [f"{name}: bad accepted | power" for name in deciding]
    sys.stdout.write(f"\n{way}, needed Dice {needed:g}\n| hospital | people, with bad masks | {' | '.join(heads)} | told |\n")
    for name in [*sets, "all"]:
        here = np.ones(len(new), bool) if name == "all" else (new["hospital"] == name).to_numpy()
        masks = new[here]
        found = " | ".join(rates(masks, yes[here], needed) for yes in accepted.values())
        people = f"{masks['person'].nunique()}, {masks.loc[masks['dice'] < needed, 'person'].nunique()}"
        told = "" if name == "all" else "differs" if without_twin[name].differs else "no"
        sys.stdout.write(f"| {name} | {people} | {found} | {told} |\n")
    twin = reports[TWIN]
    said = "is told" if twin.differs else "is not told"
    sys.stdout.write(
        f"the {TWIN} of '{last}': {twin.accepted_bad:.0%} of its bad masks are accepted by the others; it {said}\n"
    )


def with_common(sets: dict[str, CalibrationSet], scores: list[SiteScores]) -> dict[str, CalibrationSet]:
    """The calibrations of hospitals with the decision of all."""
    common = joined_scores(scores)
    return {name: own.model_copy(update={"common": (common,)}) for name, own in sets.items()}


def praised(own: CalibrationSet) -> CalibrationSet:
    """A hospital whose masks are predicted too well."""
    return own.model_copy(update={"predicted": tuple(value + TOO_MUCH for value in own.predicted)})


def accepted_by(sets: dict[str, CalibrationSet], masks: pd.DataFrame, needed: float) -> np.ndarray:
    """Which masks each one's hospital accepts (masks,)."""
    accepted = np.zeros(len(masks), bool)
    for name, calibration in sets.items():
        here = (masks["hospital"] == name).to_numpy()
        predicted, spread = (masks.loc[here, column].to_numpy() for column in ("predicted", "spread"))
        accepted[here] = p_values(calibration, predicted, spread, needed).acceptable(MAX_MISSED)
    return accepted


def rates(masks: pd.DataFrame, accepted: np.ndarray, needed: float) -> str:
    """Of the bad masks the share that is accepted, and power, with intervals over people."""
    told = []
    for among in (masks["dice"] < needed, masks["dice"] >= needed + BETTER):
        values = accepted[among].astype(float)
        if not len(values):
            told.append("none")
            continue
        found = bootstrap(lambda v: float(v.mean()), values, clusters=masks.loc[among, "person"].to_numpy(), resamples=1000)
        told.append(f"{values.mean():.1%} ({found.low:.1%} to {found.high:.1%})")
    return " | ".join(told)


if __name__ == "__main__":
    raise SystemExit(main())
