"""Does the interval keep its promise? On simulated patients of reserved people who calibrated nothing, masks of all kinds.

    python benchmarks/coverage.py -o runs/coverage
    python benchmarks/coverage.py --table results/judge/people-coverage-masks.csv.gz

The first judges our own mask and two of other kinds of every patient with the weights that ship (hours; interrupt, give it
again) and keeps a table, the second reads it. Both say how often the true Dice lies in the interval, of which masks and scans,
how wide it is. What is decided is measured by ``benchmarks/decisions.py``.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from veridice.assessment.models import load_models
from veridice.config import InferenceSettings
from veridice.inference.weights import load_network
from veridice.io.weight_cards import bundled_weights
from veridice.metrics.failure_detection import bootstrap
from veridice.progress import progress_bar
from veridice.quality.calibration import dice_intervals
from veridice.quality.model import QualityModel, load_quality_model
from veridice.simulate.cohorts import COHORTS
from veridice.simulate.donors import people_of
from veridice.training.assessed_masks import ScanToJudge, assess_all, has_t1, other_patients, patient_name, simulated_scan
from veridice.training.settings import load_training_settings

DONORS = "lesjak-06,lesjak-08,lesjak-24,lesjak-25,lesjak-27,lesjak-28,lesjak-29,lesjak-30"
SEED, MASKS = 6000, 2
LOADS, THICKNESSES = (0, 3, 10, 30, np.inf), (0, 1.5, 3.5, np.inf)


def evidence(folder: Path, patients: int, others: list[Path], jobs: int) -> pd.DataFrame:
    """Masks with their true Dice, all scores and the unfamiliarity of their scan; files that are there are kept."""
    taught = people_of(load_training_settings("default").predictor.calibration_donors)
    if set(taught) & set(people_of(DONORS)):
        raise SystemExit("these people calibrated the interval")
    models = load_models(bundled_weights())
    cohort = replace(
        COHORTS["test"], name="coverage", donors=DONORS, seed=SEED, severity_shares=COHORTS["training"].severity_shares
    )
    segmenters = [load_network(folder, "segmenter")[0] for folder in others]
    plans = [cohort.plan(index) for index in range(patients)]
    tasks = [
        ScanToJudge(patient_name(plan), partial(simulated_scan, plan, -1, has_t1(plan)), models, segmenters) for plan in plans
    ]
    with progress_bar() as progress:
        bar = progress.add_task("patients", total=patients, note="")
        on_step = partial(progress.advance, bar)
        shapes = other_patients(models.grid_shape[0])
        rows = assess_all(tasks, shapes, MASKS, SEED, InferenceSettings(), folder / "patients", jobs, on_step)
    ood = load_quality_model(bundled_weights()).ood
    appearances = {row.scan: ood.unfamiliarity(row.descriptors, np.array(row.features)) for row in rows.scans.itertuples()}
    masks = rows.masks.assign(unfamiliarity=rows.masks["scan"].map(appearances))
    replace(rows, masks=masks).write(folder, "coverage")
    return masks


def judged(masks: pd.DataFrame, quality_model: QualityModel, coverage: float) -> pd.DataFrame:
    """With prediction and interval as ``check`` gives them; empty masks, which have no interval, are left out."""
    masks = masks[masks["lesion_count"] > 0].reset_index(drop=True)
    masks = masks.assign(known=(masks["unfamiliarity"] <= 1) & (masks["doubts"] == 0))
    predicted, spread = quality_model.predictor.predict(masks)
    low, high = dice_intervals(quality_model.calibration, predicted, spread, coverage).T
    return masks.assign(predicted=predicted, low=low, high=high, covered=masks["dice"].between(low, high))


def share(table: pd.DataFrame, column: str) -> str:
    """Mean of a column of truths with its interval over resampled patients."""
    values, people = table[column].to_numpy(float), table["person"].to_numpy()
    found = bootstrap(lambda v: float(v.mean()), values, clusters=people, resamples=2000)
    return f"{100 * values.mean():5.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f})"


def report(table: pd.DataFrame) -> list[str]:
    """What is said of the intervals."""
    error = np.abs(table["predicted"] - table["dice"])
    rank = stats.spearmanr(table["predicted"], table["dice"]).statistic
    lines = [
        f"{len(table)} masks of {table['person'].nunique()} simulated patients; Spearman {rank:.3f}, error {error.mean():.3f}",
        f"coverage {share(table, 'covered')}; width {(table['high'] - table['low']).mean():.3f}; "
        f"{(table['dice'] > table['high']).sum()} are better than was said, {(table['dice'] < table['low']).sum()} worse",
    ]
    groups = {
        "kind": table["kind"],
        "severity": table["severity"],
        "load, ml": pd.cut(table["load_ml"], LOADS, right=False).astype(str),
        "slices, mm": pd.cut(table["slice_thickness"], THICKNESSES, right=False).astype(str),
        "whole head": table["whole_head"].astype(str),
        "T1w": table["t1"].astype(str),
        "known": table["known"].astype(str),
        "predicted Dice": pd.cut(table["predicted"], (-0.01, 0.25, 0.5, 0.75, 1)).astype(str),
    }
    for title, group in groups.items():
        for name, rows in table.groupby(group):
            width = (rows["high"] - rows["low"]).mean()
            lines.append(f"  {title} {name!s:14s} n {len(rows):4d}  coverage {share(rows, 'covered')}  width {width:.3f}")
    ordinary = table[table["severity"] == "ordinary"]
    lines.append(warned(ordinary))
    lines.append(own_masks(table, ordinary))
    return lines


def warned(ordinary: pd.DataFrame) -> str:
    """How many good scans raise a doubt, or look unknown, although nothing is wrong with them."""
    scans = ordinary.drop_duplicates("scan")
    with_t1 = scans[scans["t1"]]
    doubted, odd = (with_t1["doubts"] > 0).sum(), (scans["unfamiliarity"] > 1).sum()
    return f"ordinary scans: {doubted} of {len(with_t1)} with a T1w raise a doubt, {odd} of {len(scans)} look unknown"


def own_masks(table: pd.DataFrame, ordinary: pd.DataFrame) -> str:
    """How good our own masks are, and what is said of them."""
    own, good = (rows[rows["kind"] == "own"] for rows in (table, ordinary))
    error = (own["predicted"] - own["dice"]).mean()
    true, most = good["dice"].mean(), good["predicted"].max()
    return f"own masks: predicted minus true {error:+.3f}; ordinary: true {true:.3f}, predicted at most {most:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/coverage"))
    parser.add_argument("--table", type=Path, help="of an earlier run: nothing is judged anew")
    parser.add_argument("-n", type=int, default=504, help="one in 500 has nothing but empty masks")
    parser.add_argument("--others", type=Path, nargs="*", default=[Path(f"resume/fold-{n}") for n in range(3)])
    parser.add_argument("--coverage", type=float, default=0.9)
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    if options.table:
        masks = pd.read_csv(options.table, keep_default_na=False, na_values=[""])
    else:
        masks = evidence(options.output, options.n, options.others, options.jobs)
    table = judged(masks, load_quality_model(bundled_weights()), options.coverage)
    sys.stdout.write("\n".join(report(table)) + "\n")


if __name__ == "__main__":
    main()
