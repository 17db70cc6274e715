"""From the case table to results: fitted on validation, judged on test, per fold, pooled and by group. No torch.

The case table has one row for each fold, split, case and method; :data:`COLUMNS` says what it holds. Only
:func:`judge` and :func:`choose_on_validation` see validation rows, and neither looks at the truth of a test row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from veridice.errors import InputError
from veridice.experiment.results.resampling import Pool, draw_weights, point, replicate
from veridice.experiment.results.rules import KINDS, Rule, fit_rule
from veridice.metrics import failure_detection as fd

COLUMNS = {
    "fold": "number or name",
    "split": "validation or test",
    "case": "name",
    "patient": "whose scan; drawn as a whole when resampling",
    "dataset": "scanner group",
    "severity": "how hard a simulated scan was made; empty for a real one",
    "donor": "known: the fold trained on lesions of this simulated patient's donors; new: it did not; none: nobody's; or empty",
    "load_ml": "true lesion volume",
    "dice": "true hard Dice on the cube",
    "dice_native": "true hard Dice in the scan's own grid",
    "method": "name",
    "score": "raw number of the method; empty where it has none",
    "kind": "dice: the score is a predicted Dice; score: anything else",
}
ORDER = ["fold", "split", "case", "method"]
BASELINES = ("volume", "pairwise_dice")
COMPARED = ("normalised_aurc", "mae")
"""Measures of which lower is better, by which methods are compared on the same resamples."""
CHOSEN = "chosen_on_validation"
UNSEEN = "_unseen_scanner"
"""Ends the name of a method that was fitted anew without the judged case's data set."""


def check_cases(cases: pd.DataFrame) -> pd.DataFrame:
    """The case table in a row order that depends on its content alone.

    Raises:
        InputError: a column or a split is missing, or cases are doubled, leak between splits, or differ between methods.
    """
    if missing := [name for name in COLUMNS if name not in cases]:
        raise InputError(f"case table: no column {', '.join(missing)}")
    table = cases[list(COLUMNS)].sort_values(ORDER, kind="stable", ignore_index=True)
    table["score"] = pd.to_numeric(table["score"]).astype(float).replace([np.inf, -np.inf], np.nan)
    dice = table["dice"].to_numpy(float)
    _refuse(table, ~table["split"].isin(["validation", "test"]), "split is neither validation nor test")
    _refuse(table, ~table["kind"].isin(KINDS), "kind is neither dice nor score")
    _refuse(table, ~((dice >= 0) & (dice <= 1)), "true Dice is not between 0 and 1")
    named = table[[*ORDER, "patient"]]
    _refuse(table, (named.isna() | (named == "")).any(axis=1), "has no name of fold, case, patient or method")
    _refuse(table, table.duplicated(ORDER), "is there twice")
    test = table["split"] == "test"
    _refuse(table, test & (table.groupby(["split", "case"])["fold"].transform("nunique") > 1), "is tested in two folds")
    _refuse(table, table.groupby(["fold", "patient"])["split"].transform("nunique") > 1, "has a patient in both splits")
    _refuse(table, table.groupby(["fold", "method"])["kind"].transform("nunique") > 1, "has a method of both kinds")
    _refuse(table, table.groupby(["fold", "method"])["split"].transform("nunique") < 2, "has a method in one split only")
    methods = table["method"].nunique()
    _refuse(table, table.groupby(["fold", "split", "case"])["method"].transform("nunique") < methods, "lacks a method")
    return table


def _refuse(table: pd.DataFrame, wrong: Any, why: str) -> None:
    where = np.flatnonzero(np.asarray(wrong, bool))
    if len(where):
        row = table.iloc[where[0]]
        place = f"fold {row['fold']}, {row['split']} case {row['case']!r}, method {row['method']!r}"
        raise InputError(f"case table, {place}: {why}; run the folds again")


def with_validation_of(cases: pd.DataFrame, others: pd.DataFrame) -> pd.DataFrame:
    """The case table with the validation cases of another experiment, all its folds', in place of its own in every fold.

    For data of so few people that their own validation cases would say nothing.

    Raises:
        InputError: see :func:`check_cases`; as when the other one lacks a method.
    """
    known = others[(others["split"] == "validation") & others["method"].isin(cases["method"])]
    known = known.assign(case="fold " + known["fold"].astype(str) + ": " + known["case"])
    parts = [cases[cases["split"] == "test"], *(known.assign(fold=fold) for fold in sorted(cases["fold"].unique()))]
    return check_cases(pd.concat(parts, ignore_index=True))


def judge(cases: pd.DataFrame, failure_dice: float = fd.FAILURE_DICE) -> pd.DataFrame:
    """Test rows with ``predicted_dice``, ``confidence`` and ``rejected`` by rules from the validation rows of their fold, and
    ``failure_dice``, below which a segmentation failed.

    See :func:`~veridice.experiment.results.rules.fit_rule` for what is fitted, and :meth:`Rule.confidence` for ties.

    Raises:
        InputError: see :func:`check_cases`.
    """
    parts = []
    for _, rows in check_cases(cases).groupby(["fold", "method"], sort=True):
        rule, test = _fit(rows, failure_dice), rows[rows["split"] == "test"]
        score = test["score"].to_numpy(float)
        verdict = {"confidence": rule.confidence(score), "rejected": rule.rejected(score)}
        parts.append(test.assign(predicted_dice=rule.predicted_dice(score), **verdict, failure_dice=failure_dice))
    return pd.concat(parts).sort_values(ORDER, kind="stable", ignore_index=True)


def judge_unseen_groups(cases: pd.DataFrame, failure_dice: float = fd.FAILURE_DICE) -> pd.DataFrame:
    """As :func:`judge`, but the rules for each data set's test cases come from the validation cases of the others alone.

    A method that learns from training cases is there where it was fitted anew without the data set (:data:`UNSEEN`), under its
    own name. What the segmenters learnt from stays as it is. Empty where there is one data set only.

    Raises:
        InputError: see :func:`check_cases`.
    """
    table = check_cases(cases)
    anew = table["method"].str.endswith(UNSEEN)
    table = table[anew | (table["kind"] == "score")].reset_index(drop=True)
    table["method"] = table["method"].str.removesuffix(UNSEEN)
    test, parts = table["split"] == "test", []
    for group in sorted(table["dataset"].unique()) if table["dataset"].nunique() > 1 else ():
        ours = table["dataset"] == group
        folds = set(table.loc[ours & test, "fold"]) & set(table.loc[~ours & ~test, "fold"])
        if folds:
            parts.append(judge(table[table["fold"].isin(folds) & (ours == test)], failure_dice))
    return pd.concat(parts).sort_values(ORDER, kind="stable", ignore_index=True) if parts else table.iloc[:0]


def _fit(rows: pd.DataFrame, failure_dice: float = fd.FAILURE_DICE) -> Rule:
    validation = rows[rows["split"] == "validation"]
    score, dice = validation["score"].to_numpy(float), validation["dice"].to_numpy(float)
    return fit_rule(score, dice, validation["kind"].iloc[0], failure_dice)


def choose_on_validation(cases: pd.DataFrame, candidates: Iterable[str]) -> pd.DataFrame:
    """The case table with one more method, ``chosen_on_validation``: in each fold the candidate of the lowest area under
    the risk-coverage curve of its validation cases.

    Leave out candidates that were fitted to the Dice of the validation cases: they look better there than they are.

    Raises:
        InputError: see :func:`check_cases`; no candidate is in the table.
    """
    table, names = check_cases(cases), set(candidates)
    if not names & set(table["method"]):
        raise InputError(f"no method {', '.join(sorted(names))} in the case table")
    chosen = []
    for _, fold in table[table["method"].isin(names)].groupby("fold", sort=True):
        methods = dict(list(fold.groupby("method", sort=True)))
        best = min(methods, key=lambda name: (round(_validation_area(methods[name]), 12), name))
        chosen.append(methods[best].assign(method=CHOSEN))
    return check_cases(pd.concat([table, *chosen]))


def _validation_area(rows: pd.DataFrame) -> float:
    validation = rows[rows["split"] == "validation"]
    confidence = _fit(rows).confidence(validation["score"].to_numpy(float))
    return fd.risk_coverage(confidence, validation["dice"].to_numpy(float)).area


def pool(rows: pd.DataFrame, whole: pd.DataFrame | None = None) -> Pool:
    """Columns of one method's test cases.

    One that is constant in every fold orders no cases: what differs is the fold, and where each fold's constant is the mean
    Dice of its other cases, that would even be a relation turned upside down.

    Args:
        rows: the cases.
        whole: all of the method's, where ``rows`` are some; these say what is constant.
    """
    dice, seen = rows["dice"].to_numpy(float), rows if whole is None else whole

    def levelled(column: str) -> Any:
        constant = (seen.groupby("fold")[column].nunique() <= 1).all()
        return np.zeros(len(rows)) if constant else rows[column].to_numpy(float)

    return Pool(
        prediction=levelled("predicted_dice"),
        confidence=levelled("confidence"),
        error=rows["predicted_dice"].to_numpy(float) - dice,
        rejected=rows["rejected"].to_numpy(bool),
        dice=dice,
        failed=dice < rows["failure_dice"].to_numpy(float),
        worst=fd.worst_share(dice),
    )


def _measures(known: Pool) -> dict[str, float | int]:
    kept, once = known.dice[~known.rejected], point(known)
    linear = fd.pearson(known.prediction, known.dice)
    return {
        "failures": int(known.failed.sum()),
        "rejected": int(known.rejected.sum()),
        "dice_deviation": float(known.dice.std(ddof=1)) if len(known.dice) > 1 else np.nan,
        "dice_mean_before": float(known.dice.mean()),
        "dice_mean_after": once["dice_mean_after"],
        "dice_median_before": float(np.median(known.dice)),
        "dice_median_after": float(np.median(kept)) if len(kept) else np.nan,
        **{name: once[name] for name in once if name.startswith(("precision", "recall"))},
        "pearson_r": linear.r,
        "pearson_p": linear.p,
        "spearman": fd.spearman(known.confidence, known.dice).r,
        **{name: once[name] for name in ("mae", "auroc_failure", "auroc_worst_fifth", "aurc")},
        "aurc_optimal": once["aurc"] - once["excess_aurc"],
        "aurc_random": 1 - float(known.dice.mean()),
        **{name: once[name] for name in ("excess_aurc", "normalised_aurc", "review_share")},
    }


def fold_table(judged: pd.DataFrame) -> pd.DataFrame:
    """Every measure for each fold and method.

    ``score_…`` are of the raw score, as the paper's, over the cases that have one; ``pearson_…`` and ``mae`` are of the
    predicted Dice, all others of the confidence.
    """
    rows = []
    for (fold, method), test in judged.groupby(["fold", "method"], sort=True):
        scored = test[test["score"].notna()]
        columns = scored["score"].to_numpy(float), scored["dice"].to_numpy(float)
        linear = fd.pearson(*columns)
        of_score = {"score_pearson_r": linear.r, "score_pearson_p": linear.p, "score_spearman": fd.spearman(*columns).r}
        counts = {"n": len(test), "unscored": len(test) - len(scored)}
        rows.append({"fold": fold, "method": method, **counts, **of_score, **_measures(pool(test))})
    return pd.DataFrame(rows)


def ladder(judged: pd.DataFrame, resamples: int = 2000) -> pd.DataFrame:
    """Every measure over the test cases of all folds, best normalised AURC first, with bootstrap intervals.

    ``_low`` and ``_high`` are 95 % percentile intervals over resampled patients. What was fitted on validation, the networks
    and who is in the lowest fifth stay as they are: the intervals are of the choice of test patients, not of training.
    """
    rows = []
    for method, test in by_method(judged):
        known = pool(test)
        drawn = replicate(known, draw_weights(test["patient"], resamples))
        counts = {"n": len(test), "patients": test["patient"].nunique(), "unscored": int(test["score"].isna().sum())}
        row: dict[str, Any] = {"method": method, "kind": test["kind"].iloc[0], **counts}
        for name, value in _measures(known).items():
            row[name] = value
            if name in drawn:
                interval = fd.percentiles(drawn[name])
                row |= {f"{name}_low": interval.low, f"{name}_high": interval.high}
        rows.append(row)
    table = pd.DataFrame(rows)
    # Rounded, so that the last bit of a sum does not decide the order of equals.
    key = table["normalised_aurc"].round(9)
    return table.assign(_key=key).sort_values(["_key", "method"], ignore_index=True).drop(columns="_key")


def by_method(judged: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Test rows of each method, all in the same order of cases, so that resamples of two methods are of the same cases."""
    groups = judged.sort_values(["case"], kind="stable").groupby("method", sort=True)
    return [(str(method), rows.reset_index(drop=True)) for method, rows in groups]


def paired_gains(judged: pd.DataFrame, baselines: Sequence[str] = BASELINES, resamples: int = 2000) -> pd.DataFrame:
    """How much lower a measure is than the baseline's on the same resamples: above zero the method is better.

    Baselines that are not in the table are left out.
    """
    methods = by_method(judged)
    pools = {method: pool(test) for method, test in methods}
    weights = draw_weights(methods[0][1]["patient"], resamples)
    drawn = {method: replicate(known, weights) for method, known in pools.items()}
    points = {method: _measures(known) for method, known in pools.items()}
    rows = []
    for baseline in (name for name in baselines if name in pools):
        for measure in COMPARED:
            for method in (name for name in pools if name != baseline):
                ends = vars(fd.percentiles(drawn[baseline][measure] - drawn[method][measure]))
                gain = points[baseline][measure] - points[method][measure]
                rows.append({"method": method, "baseline": baseline, "measure": measure, "gain": gain, **ends})
    return pd.DataFrame(rows, columns=["method", "baseline", "measure", "gain", "low", "high"])


def shift_table(judged: pd.DataFrame, unseen: pd.DataFrame, resamples: int = 2000) -> pd.DataFrame:
    """What methods lose where nothing that they were fitted on was of the tested data set; see :func:`judge_unseen_groups`.

    ``loss`` is above zero where they are worse, with the 95 % interval over the same resampled patients.
    """
    rows = []
    others = dict(by_method(unseen)) if len(unseen) else {}
    for method, test in by_method(judged):
        if method not in others:
            continue
        both = test[test["case"].isin(others[method]["case"])]
        pools = [pool(both, test), pool(others[method])]
        weights = draw_weights(both["patient"], resamples)
        seen_draws, unseen_draws = (replicate(known, weights) for known in pools)
        points = [_measures(known) for known in pools]
        for measure in COMPARED:
            seen, alone = (point[measure] for point in points)
            ends = {"loss": alone - seen, **vars(fd.percentiles(unseen_draws[measure] - seen_draws[measure]))}
            rows.append({"method": method, "measure": measure, "n": len(both), "seen": seen, "unseen": alone, **ends})
    return pd.DataFrame(rows, columns=["method", "measure", "n", "seen", "unseen", "loss", "low", "high"])


def judged_refits(
    refits: pd.DataFrame, method: str, failure_dice: float = fd.FAILURE_DICE
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Predictions with and without the scanner seen, each as :func:`judge` gives them, for :func:`shift_table`.

    Args:
        refits: columns ``case``, ``patient``, ``dataset``, ``dice``, ``seen`` and ``unseen`` (predicted Dice).
        method: its name.
        failure_dice: a segmentation below it failed.
    """

    def judged(column: str) -> pd.DataFrame:
        predicted = refits[column].astype(float).clip(0, 1)
        failing = predicted < failure_dice
        known = refits.assign(method=method, fold=0, failure_dice=failure_dice)
        return known.assign(predicted_dice=predicted, confidence=predicted, rejected=failing)

    return judged("seen"), judged("unseen")


def by_group(judged: pd.DataFrame, groupings: Sequence[str] = ("dataset", "severity", "donor")) -> pd.DataFrame:
    """How well failures are found among the test cases of each data set, severity and kind of donor, all folds together."""
    rows, whole = [], {str(method): test for method, test in judged.groupby("method")}
    for grouping in groupings:
        known = judged[judged[grouping].notna() & (judged[grouping] != "")]
        for (group, method), test in known.groupby([grouping, "method"], sort=True):
            measures = _measures(pool(test, whole[str(method)]))
            wanted = ("failures", "rejected", "pearson_r", "mae", "auroc_failure", "precision_failures", "recall_failures")
            row = {"grouping": grouping, "group": group, "method": method, "n": len(test)}
            rows.append(row | {"dice_mean": measures["dice_mean_before"]} | {name: measures[name] for name in wanted})
    return pd.DataFrame(rows)
