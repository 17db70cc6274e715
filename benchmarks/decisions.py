"""Are the promises of the decision kept? On simulated people who calibrated nothing, and on real ones who were left out.

python benchmarks/decisions.py [--results results/judge] [--weights FOLDER] [--max-missed 0.05]
python benchmarks/decisions.py --real [--weights FOLDER]
python benchmarks/decisions.py --brains-left-out [--weights FOLDER]

For each needed Dice: of the bad masks the share that is accepted, of the gross failures (worse by 0.10) too, of the good ones
the share that is rejected, and of those better by 0.03 the share that is accepted (power), with 95 % intervals over patients;
by kind, severity, load, slice thickness. Then whole studies of 100 masks, drawn 1,000 times, with 5, 20 and 50 % bad ones: how
many of the accepted are bad, power, gross failures accepted; and what the bound for all limits says of 200 studies. And whether
intervals hold, of all masks and of those for review.

``--real``: the masks of real people on whom the predictor was fitted, each predicted by a fit without that person and
calibrated as what ships is. Their segmenter never saw them. ``--brains-left-out``: masks of the calibration, each tested
against those of other brains; from them comes how much stricter a study is decided.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import GroupKFold

from veridice.cohort.other_limits import LEVELS
from veridice.config import InferenceSettings
from veridice.io.weight_cards import bundled_weights
from veridice.metrics.failure_detection import bootstrap
from veridice.quality.bad_bound import most_bad
from veridice.quality.calibration import CalibrationSet, dice_intervals
from veridice.quality.decision import (
    CAP,
    GROSS,
    MAX_MISSED,
    Limits,
    PValues,
    decide_study,
    intervals_for_review,
    p_values,
    people_with_bad_masks,
)
from veridice.quality.model import load_quality_model
from veridice.quality.predictor import Predictor, fit_predictor
from veridice.training.assessed_masks import FOREIGN, OWN_KIND, masks_to_learn
from veridice.training.people import people_calibration, people_masks

RESULTS = Path("results/judge")
COVERAGE = 0.9
BETTER = 0.03
"""A mask that is better by this much than it has to be should be accepted."""
LOADS, THICKNESSES = (0, 3, 10, 30, np.inf), (0, 1.5, 3.5, np.inf)
STUDIES, SIZE, BOUNDED = 1000, 100, 200


def read_masks(results: Path, predictor: Predictor) -> pd.DataFrame:
    """Masks of people who calibrated nothing, of scans that may be accepted at all, with prediction and spread."""
    masks = people_masks(results, "coverage")
    masks = masks[(masks["unfamiliarity"] <= 1) & (masks["doubts"] == 0)].reset_index(drop=True)
    predicted, spread = predictor.predict(masks)
    return masks.assign(predicted=predicted, spread=spread)


def judged_without(results: Path) -> list[tuple[pd.DataFrame, CalibrationSet]]:
    """Masks of each real person as a model that was fitted without the person predicts them, and its calibration."""
    known, people = masks_to_learn(results), people_masks(results, "calibration")
    found = []
    for person in known.loc[~known["simulated"].astype(bool), "person"].unique():
        predictor = fit_predictor(known[known["person"] != person].reset_index(drop=True))
        calibration = people_calibration(predictor, people, InferenceSettings().passes)
        masks = known[(known["person"] == person) & (known["doubts"] == 0)].reset_index(drop=True)
        predicted, spread = predictor.predict(masks)
        found.append((masks.assign(predicted=predicted, spread=spread), calibration))
    return found


def brains_left_out(predictor: Predictor, limits: Limits, results: Path) -> list[str]:
    """What comes of the masks of the calibration's people, without those of a sixth of the brains at a time."""
    masks = people_masks(results, "calibration")
    predicted, spread = predictor.predict(masks)
    masks = masks.assign(predicted=predicted, spread=spread)
    masks = masks.assign(acceptable=(masks["unfamiliarity"] <= 1) & (masks["doubts"] == 0))
    parts = []
    for known, left in GroupKFold(6, shuffle=True, random_state=0).split(masks, groups=masks["brain"]):
        rest = masks.iloc[known].reset_index(drop=True)
        calibration = CalibrationSet.of(rest["predicted"], rest["spread"], rest, "other brains", simulated=True)
        new = masks.iloc[left][masks["acceptable"].to_numpy()[left]].reset_index(drop=True)
        parts.append(new.assign(verdict=tested(new, calibration, limits.min_dice).verdicts(limits)))
    found = pd.concat(parts, ignore_index=True)
    title = (
        f"Dice {limits.min_dice}: {len(found)} masks of the calibration, {masks['brain'].nunique()} brains, left out by sixths"
    )
    return [title, *by_groups(groups_of(found), found, found["verdict"].to_numpy(), limits.min_dice)]


def real(limits: Limits, judged: list[tuple[pd.DataFrame, CalibrationSet]]) -> list[str]:
    """What comes of the masks of real people; those of networks of other training (``scripts/assess_foreign.py``) apart."""
    decided = [(masks, tested(masks, known, limits.min_dice).verdicts(limits)) for masks, known in judged]
    masks = pd.concat([masks.assign(verdict=verdict) for masks, verdict in decided], ignore_index=True)
    groups = {"": pd.Series("all", masks.index), "masks": whose(masks)}
    groups["own"] = (masks["kind"] == OWN_KIND).map({True: "yes", False: "no"})
    groups["person"] = masks["person"].astype(str)
    title = f"Dice {limits.min_dice}: {len(masks)} masks of {masks['person'].nunique()} real people, each left out of the fit"
    return [title, *by_groups(groups, masks, masks["verdict"].to_numpy(), limits.min_dice)]


def whose(masks: pd.DataFrame) -> pd.Series:
    return masks["kind"].str.startswith(FOREIGN).map({True: "of other networks", False: "of other kinds"})


def groups_of(masks: pd.DataFrame) -> dict[str, pd.Series]:
    """By what masks are parted in the report."""
    easy = masks["severity"].isin(["easy", "ordinary"])
    return {
        "": pd.Series("all", masks.index),
        "scans": easy.map({True: "easy and ordinary", False: "hard and broken"}),
        "masks": whose(masks),
        "own": (masks["kind"] == OWN_KIND).map({True: "yes", False: "no"}),
        "T1w": masks["t1"].map({True: "yes", False: "no"}),
        "kind": masks["kind"],
        "load, ml": pd.cut(masks["load_ml"], LOADS, right=False).astype(str),
        "slices, mm": pd.cut(masks["slice_thickness"], THICKNESSES, right=False).astype(str),
    }


def by_groups(groups: dict[str, pd.Series], masks: pd.DataFrame, verdict: np.ndarray, min_dice: float) -> list[str]:
    lines = []
    for title, group in groups.items():
        for name in sorted(group.unique()):
            chosen = (group == name).to_numpy()
            lines.append(line(f"{title} {name}".strip(), masks[chosen].reset_index(drop=True), verdict[chosen], min_dice))
    return lines


def tested(masks: pd.DataFrame, calibration: CalibrationSet, min_dice: float) -> PValues:
    """p-values of every mask."""
    return p_values(calibration, masks["predicted"].to_numpy(), masks["spread"].to_numpy(), min_dice)


def share(happened: np.ndarray, among: pd.Series, people: pd.Series) -> str:
    """Of some masks the share with which something happened, with its interval over people."""
    values, clusters = happened[among].astype(float), people[among].to_numpy()
    if not len(values):
        return "none".rjust(24)
    found = bootstrap(lambda v: float(v.mean()), values, clusters=clusters, resamples=1000)
    return f"{100 * values.mean():5.1f} % ({found.low * 100:4.1f} to {found.high * 100:4.1f})"


def line(name: str, masks: pd.DataFrame, verdict: np.ndarray, min_dice: float) -> str:
    """One row of the report."""
    dice, people = masks["dice"], masks["person"]
    accepted, rejected = verdict == "accept", verdict == "reject"
    bad = dice < min_dice
    parts = [
        f"bad accepted {share(accepted, bad, people)}",
        f"gross {share(accepted, dice < min_dice - GROSS, people)}",
        f"power {share(accepted, dice >= min_dice + BETTER, people)}",
        f"good rejected {share(rejected, ~bad, people)}",
    ]
    return f"{name:26s} n {len(masks):5d}  {'  '.join(parts)}"


def by_person(masks: pd.DataFrame, verdict: np.ndarray, min_dice: float) -> str:
    """Shares that are accepted where each person counts once, as the promise has it."""
    accepted, dice = pd.Series(verdict == "accept"), masks["dice"]
    kinds = {"bad": dice < min_dice, "gross": dice < min_dice - GROSS}
    told = {kind: accepted[chosen].groupby(masks["person"][chosen]).mean().mean() for kind, chosen in kinds.items()}
    return "each person once: " + ", ".join(f"{kind} accepted {100 * share:.1f} %" for kind, share in told.items())


def single(masks: pd.DataFrame, calibration: CalibrationSet, limits: Limits) -> list[str]:
    """What comes of every mask by itself."""
    verdict = np.array(tested(masks, calibration, limits.min_dice).verdicts(limits))
    rows = by_groups(groups_of(masks), masks, verdict, limits.min_dice)
    return [*rows, by_person(masks, verdict, limits.min_dice), *intervals(masks, calibration, limits, verdict)]


def intervals(masks: pd.DataFrame, calibration: CalibrationSet, limits: Limits, verdict: np.ndarray) -> list[str]:
    """Of how many masks the interval holds, by verdict; of those for review also the one that is made for them."""
    predicted, spread, dice = (masks[name].to_numpy() for name in ("predicted", "spread", "dice"))
    ends = {"interval": dice_intervals(calibration, predicted, spread, COVERAGE)}
    if (own := intervals_for_review(calibration, predicted, spread, COVERAGE, limits)) is not None:
        ends["interval for review"] = own
    lines = []
    for name, (low, high) in ((name, found.T) for name, found in ends.items()):
        holds = (low <= dice) & (dice <= high)
        for which in ("accept", "review", "reject"):
            among = pd.Series(verdict == which)
            width = f"width {(high - low)[among].mean():.2f}" if among.any() else ""
            lines.append(f"{name}, {which}: holds {share(holds, among, masks['person'])} {width}")
    return lines


def studies(masks: pd.DataFrame, calibration: CalibrationSet, limits: Limits, cap: float) -> list[str]:
    """What comes of studies that are drawn from the easy and ordinary scans."""
    rows = masks[masks["severity"].isin(["easy", "ordinary"])].reset_index(drop=True)
    dice, tests = rows["dice"].to_numpy(), tested(rows, calibration, limits.min_dice)
    bad = dice < limits.min_dice
    rng = np.random.default_rng(0)
    lines = []
    for percent in (5, 20, 50):
        found = []
        for _ in range(STUDIES):
            chosen = np.concatenate(
                [rng.choice(np.flatnonzero(bad), percent), rng.choice(np.flatnonzero(~bad), SIZE - percent)]
            )
            part = PValues(tests.bad[chosen], tests.gross[chosen], tests.good[chosen], tests.max_gross)
            study = decide_study(part, limits.max_missed, cap)
            true, taken = dice[chosen], study.accepted
            wanted, gross = true >= limits.min_dice + BETTER, true < limits.min_dice - GROSS
            found.append(
                (
                    bad[chosen][taken].mean() if taken.any() else 0.0,
                    taken[wanted].mean(),
                    taken[gross].mean() if gross.any() else 0.0,
                    study.expected_bad,
                )
            )
        rate, power, gross, expected = np.mean(found, axis=0)
        said = f"of the accepted bad {rate:.3f} (said: {expected:.3f})  power {power:.2f}  gross accepted {100 * gross:.1f} %"
        lines.append(f"studies with {percent:2d} % bad masks: {said}")
        lines.append(f"  {bounded(bad, tests, calibration, limits, percent)}")
    return lines


def bounded(bad: np.ndarray, tests: PValues, calibration: CalibrationSet, limits: Limits, percent: int) -> str:
    """How many accepted masks of drawn studies are bad, how many may be by the bound, and how often it is broken anywhere."""
    rng, witnesses = np.random.default_rng(1), int(people_with_bad_masks(calibration, limits.min_dice))
    place, found = LEVELS.index(MAX_MISSED), []
    for _ in range(BOUNDED):
        rows = np.concatenate([rng.choice(np.flatnonzero(bad), percent), rng.choice(np.flatnonzero(~bad), SIZE - percent)])
        part = PValues(tests.bad[rows], tests.gross[rows], tests.good[rows], tests.max_gross)
        choices = np.stack([part.acceptable(level) for level in LEVELS])
        most, true = most_bad(part.bad, choices, witnesses), (choices & bad[rows]).sum(axis=1)
        found.append((choices[place].sum(), true[place], most[place], (true > most).any()))
    accepted, true, most, broken = np.mean(found, axis=0)
    said = f"accepted at {MAX_MISSED:.0%} {accepted:.1f}, of them bad {true:.1f}, by the bound at most {most:.1f}"
    return f"{said}; broken at some limit in {100 * broken:.1f} % of studies"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=bundled_weights())
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the masks")
    parser.add_argument("--max-missed", type=float, default=MAX_MISSED)
    parser.add_argument("--cap", type=float, default=CAP)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--brains-left-out", action="store_true")
    options = parser.parse_args()
    model = load_quality_model(options.weights)
    judged = judged_without(options.results) if options.real else []
    for min_dice in (0.7, 0.75):
        limits = Limits(min_dice, options.max_missed)
        if options.real:
            lines = real(limits, judged)
        elif options.brains_left_out:
            lines = brains_left_out(model.predictor, limits, options.results)
        else:
            masks = read_masks(options.results, model.predictor)
            title = f"Dice {min_dice}: {len(masks)} masks of {masks['person'].nunique()} patients, {model.calibration.source}"
            lines = [title, *single(masks, model.calibration, limits), *studies(masks, model.calibration, limits, options.cap)]
        sys.stdout.write("\n".join(lines) + "\n\n")


if __name__ == "__main__":
    main()
