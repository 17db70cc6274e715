"""From a case table to results: rules from validation only, measures against slow references, files bit for bit."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import mean_absolute_error, precision_score, recall_score, roc_auc_score

from veridice.errors import InputError
from veridice.experiment.results import evaluation, figures, paper, tables
from veridice.experiment.results.resampling import Pool, draw_weights, point, replicate
from veridice.experiment.results.rules import fit_rule, youden_threshold
from veridice.metrics import failure_detection as fd

PATIENTS, FOLDS = 24, 3
METHODS = [*paper.PAPER_METHODS, "volume", "pairwise_dice", "training_mean"]
HOSTILE = ["=cmd()", "</script><img onerror=alert(1)>", "a|b\nc", "$x_{", "+1", "007"]


def case_rows(fold: int, split: str, number: int, dice: float) -> list[dict[str, Any]]:
    draw = np.random.default_rng([fold, number]).normal(size=len(METHODS))
    names = {"case": f"sub-{number:02d}", "patient": f"p{number // 2:02d}", "dataset": f"scanner {number % 3}"}
    truth = {"severity": "hard" if number % 4 else "", "donor": "", "load_ml": 5.0 + number, "dice": dice, "dice_native": dice}
    scores = {
        "entropy_sum": 1000 * dice + 80 * draw[0],
        "error_sum": -1e5 * dice + 1e4 * draw[1],
        **{f"regressor_{name}": dice + 0.1 * draw[i] for i, name in enumerate(("image", "uncertainty", "error"), 2)},
        "volume": float(number),
        "pairwise_dice": np.nan if number == 3 else np.round(np.sqrt(dice) + 0.05 * draw[6], 2),
        "training_mean": 0.7 + 0.02 * fold,
    }
    kinds = {name: "dice" if name.startswith(("regressor", "training")) else "score" for name in scores}
    return [
        {"fold": fold, "split": split, **names, **truth, "method": name, "score": scores[name], "kind": kinds[name]}
        for name in METHODS
    ]


def make_cases(seed: int = 0) -> pd.DataFrame:
    dice, size, rows = np.random.default_rng(seed).beta(6, 2, PATIENTS), PATIENTS // FOLDS, []
    for fold in range(FOLDS):
        for number in range(PATIENTS):
            place = (number - fold * size) % PATIENTS
            if place < 2 * size:
                rows += case_rows(fold, "test" if place < size else "validation", number, float(dice[number]))
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def cases() -> pd.DataFrame:
    return make_cases()


@pytest.fixture(scope="module")
def judged(cases: pd.DataFrame) -> pd.DataFrame:
    return evaluation.judge(cases)


pytestmark = pytest.mark.usefixtures("quick_pictures")
FITTED = ["predicted_dice", "confidence", "rejected"]


def test_nothing_of_the_test_split_moves_a_rule(cases: pd.DataFrame, judged: pd.DataFrame) -> None:
    changed = cases.copy()
    test = changed["split"] == "test"
    changed.loc[test, "dice"] = 1 - changed.loc[test, "dice"]
    pd.testing.assert_frame_equal(evaluation.judge(changed)[FITTED], judged[FITTED])
    one = test & (changed["case"] != "sub-05")
    changed.loc[one, "score"] = changed.loc[one, "score"] * 3 + 1
    alone = judged["case"] == "sub-05"
    pd.testing.assert_frame_equal(evaluation.judge(changed)[FITTED][alone], judged[FITTED][alone])


def test_validation_moves_the_rules_of_scores_and_not_of_predictions(cases: pd.DataFrame, judged: pd.DataFrame) -> None:
    changed = cases.copy()
    validation = changed["split"] == "validation"
    changed.loc[validation, "dice"] = 0.5 * changed.loc[validation, "dice"]
    again = evaluation.judge(changed)
    moved = again["predicted_dice"] != judged["predicted_dice"]
    assert moved[again["method"] == "entropy_sum"].all()
    assert not moved[again["kind"] == "dice"].any()


def test_row_order_does_not_matter(cases: pd.DataFrame, judged: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(evaluation.judge(cases.sample(frac=1, random_state=1)), judged)
    shuffled = judged.sample(frac=1, random_state=1)
    for results in (evaluation.ladder, evaluation.paired_gains):
        pd.testing.assert_frame_equal(results(shuffled, resamples=20), results(judged, resamples=20))


def test_measures_of_a_fold_against_scikit_learn_and_scipy(judged: pd.DataFrame) -> None:
    table = evaluation.fold_table(judged).set_index(["fold", "method"])
    assert len(table) == FOLDS * len(METHODS)
    for key, row in table.iterrows():
        test = judged[(judged["fold"] == key[0]) & (judged["method"] == key[1])]  # type: ignore[index]
        failed, rejected = test["dice"] < 0.75, test["rejected"]
        assert row["n"] == len(test) and row["rejected"] == rejected.sum()
        assert row["mae"] == pytest.approx(mean_absolute_error(test["dice"], test["predicted_dice"]))
        assert row["dice_median_before"] == pytest.approx(test["dice"].median())
        assert row["dice_mean_after"] == pytest.approx(test["dice"][~rejected].mean(), nan_ok=True)
        assert row["precision_failures"] == pytest.approx(precision_score(failed, rejected, zero_division=np.nan), nan_ok=True)
        assert row["recall_acceptable"] == pytest.approx(recall_score(~failed, ~rejected, zero_division=np.nan), nan_ok=True)
        assert row["auroc_failure"] == pytest.approx(roc_auc_score(failed, -test["confidence"]))
        scored = test.dropna(subset=["score"])
        if scored["score"].nunique() > 1:
            assert row["score_pearson_r"] == pytest.approx(stats.pearsonr(scored["score"], scored["dice"]).statistic)
            assert row["score_spearman"] == pytest.approx(stats.spearmanr(scored["score"], scored["dice"]).statistic)


def test_direction_comes_from_validation(judged: pd.DataFrame) -> None:
    table = evaluation.ladder(judged, resamples=50).set_index("method")
    folds = evaluation.fold_table(judged).set_index("method")
    assert (folds.loc["error_sum", "score_spearman"] < 0).all()
    assert table.loc["error_sum", "spearman"] > 0.5 and table.loc["error_sum", "auroc_failure"] > 0.7


def test_ties_of_the_map_are_ordered_by_the_score_and_predictions_never_swap() -> None:
    generator = np.random.default_rng(0)
    score, dice = generator.normal(size=16) * 1e4, generator.random(16)
    for direction in (1, -1):
        rule = fit_rule(direction * score, np.sort(dice)[stats.rankdata(score).astype(int) - 1], "score")
        new = direction * np.linspace(-5e4, 5e4, 200)
        confidence, predicted = rule.confidence(new), rule.predicted_dice(new)
        assert rule.direction == direction
        assert (np.diff(confidence) > 0).all()
        assert np.abs(confidence - predicted).max() < 2e-6


def test_threshold_against_brute_force() -> None:
    generator = np.random.default_rng(1)
    for _ in range(25):
        confidence, failed = generator.integers(0, 6, 12).astype(float), generator.random(12) < 0.4
        threshold = youden_threshold(confidence, failed)
        if failed.all() or not failed.any():
            assert threshold is None
            continue
        gains = []
        for candidate in np.arange(-0.5, 7):
            rejected = confidence < candidate
            gains.append(recall_score(failed, rejected) + recall_score(~failed, ~rejected) - 1)
        assert threshold is not None
        rejected = confidence < threshold
        assert recall_score(failed, rejected) + recall_score(~failed, ~rejected) - 1 == pytest.approx(max(gains))


def test_threshold_by_hand() -> None:
    threshold = youden_threshold(np.array([1.0, 2.0, 4.0, 5.0]), np.array([True, True, False, False]))
    assert threshold == pytest.approx(3.0)
    assert youden_threshold(np.array([5.0, 4.0]), np.array([True, False])) == -np.inf


def test_a_case_without_a_score_gets_the_mean_and_comes_last_among_equals() -> None:
    dice = np.array([0.9, 0.8, 0.6, 0.5])
    for kind in ("dice", "score"):
        rule = fit_rule(np.array([0.9, 0.7, 0.7, np.nan]), dice, kind)  # type: ignore[arg-type]
        new = np.array([np.nan, dice.mean() if kind == "dice" else 0.7])
        assert rule.predicted_dice(new)[0] == pytest.approx(0.7)
        assert rule.rejected(new)[0]
        assert rule.confidence(new)[0] == rule.predicted_dice(new)[0]
    empty = fit_rule(np.full(4, np.nan), dice, "score")
    assert empty.predicted_dice(np.array([1.0, np.nan])) == pytest.approx([0.7, 0.7])


@pytest.mark.parametrize(("level", "rejects"), [(0.9, False), (0.3, True)])
def test_validation_without_failures_or_with_nothing_else(level: float, rejects: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rule = fit_rule(np.arange(8.0), np.linspace(level - 0.04, level + 0.04, 8), "score")
        assert rule.threshold is None
        assert (rule.rejected(np.array([-100.0, 3.0, 100.0, np.nan])) == rejects).all()
        constant = fit_rule(np.ones(8), np.linspace(0.2, 0.9, 8), "score")
        assert constant.predicted_dice(np.array([1.0, 2.0])) == pytest.approx([0.55, 0.55])


def test_constants_know_nothing_even_when_each_fold_has_its_own(judged: pd.DataFrame) -> None:
    row = evaluation.ladder(judged, resamples=100).set_index("method").loc["training_mean"]
    assert np.isnan([row["pearson_r"], row["pearson_p"], row["spearman"], row["pearson_r_low"], row["spearman_high"]]).all()
    assert row["normalised_aurc"] == pytest.approx(1) and row["auroc_failure"] == 0.5
    assert row["normalised_aurc_low"] == pytest.approx(1) and row["normalised_aurc_high"] == pytest.approx(1)
    assert row["mae_low"] < row["mae"] < row["mae_high"]


def test_pooled_table_counts_every_case_once_and_is_best_first(judged: pd.DataFrame) -> None:
    table = evaluation.ladder(judged, resamples=50)
    assert (table["n"] == PATIENTS).all() and (table["patients"] == PATIENTS // 2).all()
    assert set(table["method"]) == set(METHODS)
    assert table["normalised_aurc"].is_monotonic_increasing
    assert table.set_index("method").loc["pairwise_dice", "unscored"] == 1
    mae = judged[judged["method"] == "error_sum"].eval("abs(predicted_dice - dice)").mean()
    assert table.set_index("method").loc["error_sum", "mae"] == pytest.approx(mae)


def random_pool(seed: int, cases: int = 30) -> tuple[Pool, np.ndarray]:
    generator = np.random.default_rng(seed)
    dice = np.round(generator.beta(6, 2, cases), 2)
    prediction = np.round(dice + 0.15 * generator.normal(size=cases), 1)
    pool = Pool(
        prediction, prediction, prediction - dice, prediction < 0.7, dice, dice < 0.75, np.isin(dice, np.sort(dice)[:6])
    )
    return pool, generator.integers(0, 12, cases)


def slow_auroc(confidence: np.ndarray, failed: np.ndarray) -> float:
    return roc_auc_score(~failed, confidence) if 0 < failed.sum() < len(failed) else np.nan


def slow_excess(confidence: np.ndarray, dice: np.ndarray) -> float:
    return fd.risk_coverage(confidence, dice).area - fd.risk_coverage(dice, dice).area


def slow_normalised(confidence: np.ndarray, dice: np.ndarray) -> float:
    room = 1 - dice.mean() - fd.risk_coverage(dice, dice).area
    return slow_excess(confidence, dice) / room if room > 1e-12 else np.nan


def slow_review_share(confidence: np.ndarray, failed: np.ndarray) -> float:
    shares = [1.0]
    for threshold in confidence:
        kept = confidence >= threshold
        if failed[kept].sum() <= 0.05 * kept.sum():
            shares.append(1 - kept.mean())
    return min(shares)


def slow_share(share: Any) -> Any:
    return lambda found, wanted: float(share(wanted, found, zero_division=np.nan))


def test_the_papers_row_that_rejects_nothing() -> None:
    """21 cases, 4 of them failed, none rejected: precision 17/21, recall 1, which the paper prints the other way round."""
    dice, none = np.where(np.arange(21) < 4, 0.5, 0.9), np.zeros(21, bool)
    found = point(Pool(dice, dice, dice - dice, none, dice, dice < 0.75, dice < 0.6))
    assert (found["precision_acceptable"], found["recall_acceptable"]) == pytest.approx((17 / 21, 1.0))
    assert np.isnan(found["precision_failures"]) and found["recall_failures"] == 0


@pytest.mark.parametrize("seed", [0, 1])
def test_resampled_measures_are_those_of_slow_code(seed: int) -> None:
    pool, clusters = random_pool(seed)
    drawn = replicate(pool, draw_weights(clusters, 60, seed))

    slow = {
        "pearson_r": (lambda c, d: fd.pearson(c, d).r, pool.prediction, pool.dice),
        "spearman": (lambda c, d: fd.spearman(c, d).r, pool.confidence, pool.dice),
        "mae": (mean_absolute_error, pool.prediction, pool.dice),
        "auroc_failure": (slow_auroc, pool.confidence, pool.failed),
        "auroc_worst_fifth": (slow_auroc, pool.confidence, pool.worst),
        "aurc": (lambda c, d: fd.risk_coverage(c, d).area, pool.confidence, pool.dice),
        "excess_aurc": (slow_excess, pool.confidence, pool.dice),
        "normalised_aurc": (slow_normalised, pool.confidence, pool.dice),
        "review_share": (slow_review_share, pool.confidence, pool.failed),
        "dice_mean_after": (lambda d, r: d[~r].mean() if not r.all() else np.nan, pool.dice, pool.rejected),
        "precision_failures": (slow_share(precision_score), pool.rejected, pool.failed),
        "recall_failures": (slow_share(recall_score), pool.rejected, pool.failed),
        "precision_acceptable": (slow_share(precision_score), ~pool.rejected, ~pool.failed),
        "recall_acceptable": (slow_share(recall_score), ~pool.rejected, ~pool.failed),
    }
    assert set(slow) == set(drawn)
    for name, (statistic, *columns) in slow.items():
        wanted = fd.bootstrap(statistic, *columns, clusters=clusters, resamples=60, seed=seed)
        found = fd.percentiles(drawn[name])
        assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-9), name


def test_gains_are_paired(judged: pd.DataFrame) -> None:
    gains = evaluation.paired_gains(judged, resamples=80).set_index(["baseline", "measure", "method"])
    assert len(gains) == 2 * 2 * (len(METHODS) - 1)
    tables_of = {m: judged[judged["method"] == m].sort_values("case") for m in ("volume", "regressor_uncertainty")}
    base, better = tables_of["volume"], tables_of["regressor_uncertainty"]

    def gain(a: fd.Numbers, b: fd.Numbers, dice: fd.Numbers) -> float:
        return slow_normalised(a, dice) - slow_normalised(b, dice)

    wanted = fd.bootstrap(gain, base["confidence"], better["confidence"], base["dice"], clusters=base["patient"], resamples=80)
    row = gains.loc[("volume", "normalised_aurc", "regressor_uncertainty")]
    assert (row["low"], row["high"]) == pytest.approx((wanted.low, wanted.high), abs=1e-9)
    assert row["low"] <= row["gain"] <= row["high"] and row["gain"] > 0
    same = pd.concat([judged, base.assign(method="copy")])
    copies = evaluation.paired_gains(same, ["volume", "absent"], resamples=80).set_index("method").loc["copy"]
    assert (copies[["gain", "low", "high"]] == 0).all(axis=None)


def test_groups(judged: pd.DataFrame) -> None:
    table = evaluation.by_group(judged)
    known = judged[(judged["method"] == "volume") & (judged["severity"] == "hard")]
    row = table[(table["grouping"] == "severity") & (table["method"] == "volume")]
    assert list(row["group"]) == ["hard"]
    assert row["n"].item() == len(known) and row["failures"].item() == (known["dice"] < 0.75).sum()
    assert row["dice_mean"].item() == pytest.approx(known["dice"].mean())
    datasets = table[(table["grouping"] == "dataset") & (table["method"] == "volume")]
    assert datasets["n"].sum() == PATIENTS and len(datasets) == 3


def test_a_group_of_one_case_a_fold_keeps_its_order(judged: pd.DataFrame) -> None:
    rare = judged.groupby("fold")["case"].transform("min") == judged["case"]
    one_each = judged.assign(severity=np.where(rare, "rare", ""), dice=np.where(rare, 0.6 + judged["fold"] / 10, 0.9))
    table = evaluation.by_group(one_each, ["severity"]).set_index("method")
    rows = one_each[rare & (one_each["method"] == "entropy_sum")]
    wanted = roc_auc_score(rows["dice"] >= 0.75, rows["confidence"])
    assert table.loc["entropy_sum", "n"] == FOLDS and table.loc["entropy_sum", "auroc_failure"] == wanted != 0.5
    assert table.loc["training_mean", "auroc_failure"] == 0.5


def test_table1_is_medians_over_folds_beside_the_papers(judged: pd.DataFrame) -> None:
    folds = evaluation.fold_table(judged)
    table = paper.table1(folds).set_index(["measure", "source"])
    entropy = folds[folds["method"] == "entropy_sum"]
    assert table.loc[("Pearson r", "here"), "entropy_sum"] == pytest.approx(entropy["score_pearson_r"].median())
    assert table.loc[("N rejected", "here"), "entropy_sum"] == pytest.approx(entropy["rejected"].mean())
    assert table.loc[("Pearson r", "paper"), "regressor_error"] == 0.7329
    assert np.isnan(table.loc[("MAE", "paper"), "entropy_sum"])
    few = paper.table1(folds[folds["method"] == "entropy_sum"])
    assert few[few["source"] == "here"]["error_sum"].isna().all()


def test_validation_cases_of_another_experiment(cases: pd.DataFrame) -> None:
    """They make the rules; what is judged, and how many, stays as it was."""
    test = cases[cases["split"] == "test"]
    test = test.assign(case="r" + test["case"], patient="r" + test["patient"])
    table = evaluation.with_validation_of(test, cases)
    validation = cases["split"] == "validation"
    per_fold = table[table["split"] == "validation"].groupby("fold").size()
    assert set(per_fold) == {validation.sum()}
    judged = evaluation.judge(table)
    assert set(judged["case"]) == set(test["case"])
    by_score = judged[judged["kind"] == "score"].groupby(["method", "score"])["predicted_dice"].nunique()
    assert (by_score == 1).all()
    with pytest.raises(InputError, match="in one split only"):
        evaluation.with_validation_of(test, cases[cases["method"] != "volume"])


def test_rules_for_an_unseen_data_set(cases: pd.DataFrame, judged: pd.DataFrame) -> None:
    unseen = evaluation.judge_unseen_groups(cases)
    names = ["fold", "case", "method", "score"]
    scored = judged[judged["kind"] == "score"].reset_index(drop=True)
    pd.testing.assert_frame_equal(unseen[names], scored[names])
    group, fold = "scanner 1", 2
    rows = cases[(cases["fold"] == fold) & (cases["method"] == "volume")]
    known = rows[(rows["split"] == "validation") & (rows["dataset"] != group)]
    rule = fit_rule(known["score"].to_numpy(), known["dice"].to_numpy(), "score")
    asked = unseen[(unseen["fold"] == fold) & (unseen["method"] == "volume") & (unseen["dataset"] == group)]
    assert np.allclose(asked["predicted_dice"], rule.predicted_dice(asked["score"].to_numpy()))
    table = evaluation.shift_table(judged, unseen, resamples=100)
    assert set(table["method"]) == set(scored["method"])
    anew = cases[cases["method"] == "training_mean"].assign(method="regressor_image_unseen_scanner")
    refitted = evaluation.judge_unseen_groups(pd.concat([cases, anew]))
    refitted = refitted[refitted["method"] == "regressor_image"]
    assert refitted["predicted_dice"].tolist() == refitted["score"].tolist() and len(refitted) == len(judged) / len(METHODS)
    assert (table[table["method"] == "volume"]["loss"] != 0).any()
    alone = cases[cases["dataset"] == group]
    assert evaluation.shift_table(judged, evaluation.judge_unseen_groups(alone)).empty


def test_refits_are_judged_as_predictions() -> None:
    rng = np.random.default_rng(4)
    dice = rng.random(30)
    names = {"case": [f"c{n}" for n in range(30)], "patient": [f"p{n // 2}" for n in range(30)], "dataset": "a"}
    refits = pd.DataFrame({**names, "dice": dice, "seen": dice, "unseen": dice + rng.normal(0, 0.3, 30)})
    table = evaluation.shift_table(*evaluation.judged_refits(refits, "again"), resamples=100).set_index("measure")
    assert table.loc["mae", "seen"] == 0
    assert table.loc["mae", "unseen"] == pytest.approx(np.abs(refits["unseen"].clip(0, 1) - dice).mean())
    assert (table["low"] > 0).all() and (table["method"] == "again").all()


def test_choice_on_validation(cases: pd.DataFrame) -> None:
    table = evaluation.choose_on_validation(cases, ["volume", "regressor_uncertainty", "absent"])
    chosen = evaluation.judge(table)
    chosen = chosen[chosen["method"] == evaluation.CHOSEN].reset_index(drop=True)
    for fold, rows in chosen.groupby("fold"):
        validation = cases[(cases["fold"] == fold) & (cases["split"] == "validation")]
        areas = {}
        for method in ("volume", "regressor_uncertainty"):
            known = validation[validation["method"] == method]
            rule = fit_rule(known["score"].to_numpy(), known["dice"].to_numpy(), known["kind"].iloc[0])
            areas[method] = fd.risk_coverage(rule.confidence(known["score"].to_numpy()), known["dice"].to_numpy()).area
        best = min(areas, key=lambda name: areas[name])
        source = cases[(cases["fold"] == fold) & (cases["split"] == "test") & (cases["method"] == best)]
        assert sorted(rows["score"]) == sorted(source["score"])
    with pytest.raises(InputError, match="no method absent"):
        evaluation.choose_on_validation(cases, ["absent"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="score"), "no column score"),
        (lambda t: pd.concat([t, t.iloc[:1]]), "twice"),
        (lambda t: t.iloc[1:], "lacks a method"),
        (lambda t: t.assign(dice=t["dice"] + 1), "not between 0 and 1"),
        (lambda t: t.assign(patient="one"), "both splits"),
        (lambda t: t.assign(patient=""), "no name"),
        (lambda t: t.assign(kind="other"), "neither dice nor score"),
        (lambda t: t.assign(split=t["split"].replace("test", "training")), "neither validation nor test"),
        (lambda t: t[t["split"] == "test"], "one split only"),
        (lambda t: t.assign(fold=t["fold"] % 2), "twice|both splits"),
    ],
)
def test_damaged_tables_are_refused(cases: pd.DataFrame, change: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluation.judge(change(cases))


def test_a_case_tested_in_two_folds_is_refused(cases: pd.DataFrame) -> None:
    doubled = cases[(cases["fold"] == 0)].assign(fold=9)
    with pytest.raises(InputError, match="tested in two folds"):
        evaluation.judge(pd.concat([cases, doubled]))


def hostile_cases(cases: pd.DataFrame) -> pd.DataFrame:
    names = {f"sub-{number:02d}": name for number, name in enumerate(HOSTILE)}
    datasets = {f"scanner {number}": name for number, name in enumerate(HOSTILE[:3])}
    return cases.assign(case=cases["case"].replace(names), dataset=cases["dataset"].replace(datasets))


def test_stored_case_table_comes_back_whole(cases: pd.DataFrame, tmp_path: Path) -> None:
    hostile = hostile_cases(cases).assign(patient=lambda t: t["patient"].replace("p03", "NA"))
    tables.write_cases(tmp_path / "cases.csv", hostile)
    again = tables.read_cases(tmp_path / "cases.csv")
    pd.testing.assert_frame_equal(again, hostile[list(evaluation.COLUMNS)], check_dtype=False)
    text = (tmp_path / "cases.csv").read_text(encoding="utf-8")
    assert "'=cmd()" in text and ",=cmd()" not in text and ",+1" not in text
    pd.testing.assert_frame_equal(evaluation.judge(again), evaluation.judge(hostile), check_dtype=False)


@pytest.mark.parametrize("content", ["", "fold,case\n0,a\n", "fold,load_ml,dice,dice_native,score\n0,a,b,c,d\n"])
def test_no_case_table(content: str, tmp_path: Path) -> None:
    (tmp_path / "cases.csv").write_text(content, encoding="utf-8")
    for path in (tmp_path / "cases.csv", tmp_path / "absent.csv"):
        with pytest.raises(InputError, match="not a case table"):
            tables.read_cases(path)


def write_everything(cases: pd.DataFrame, folder: Path) -> dict[str, bytes]:
    judged = evaluation.judge(cases)
    folds = evaluation.fold_table(judged)
    results = {
        "judged": judged,
        "folds": folds,
        "ladder": evaluation.ladder(judged, resamples=100),
        "gains": evaluation.paired_gains(judged, resamples=100),
        "groups": evaluation.by_group(judged),
        "table1": paper.table1(folds),
    }
    for name, table in results.items():
        tables.write_csv(folder / f"{name}.csv", table)
        tables.write_markdown(folder / f"{name}.md", table)
    figures.figure2(judged, folder)
    figures.figure3(judged, folder)
    figures.risk_coverage(judged, folder, METHODS)
    figures.calibration(judged, folder, ["regressor_uncertainty", "training_mean"])
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_the_same_cases_give_the_same_files_bit_for_bit(cases: pd.DataFrame, tmp_path: Path) -> None:
    hostile = hostile_cases(cases)
    tables.write_cases(tmp_path / "cases.csv", hostile)
    first = write_everything(hostile.sample(frac=1, random_state=2), tmp_path / "first")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = write_everything(tables.read_cases(tmp_path / "cases.csv"), tmp_path / "second")
    assert len(first) == 2 * 6 + 2 * 4
    assert first == second
    for name in ("figure2", "figure3", "risk-coverage", "calibration"):
        assert first[f"{name}.png"].startswith(b"\x89PNG")
        assert b"<dc:date>" not in first[f"{name}.svg"] and b"<img" not in first[f"{name}.svg"]
    assert b"<img" not in first["judged.md"] and b"\n=" not in first["judged.csv"] and b",=" not in first["judged.csv"]
    assert first["ladder.md"].count(b"\n") == 2 + len(METHODS)


def test_figures_of_other_looks_are_not_touched_by_settings_around(judged: pd.DataFrame, tmp_path: Path) -> None:
    import matplotlib as mpl

    figures.figure2(judged, tmp_path / "plain")
    with mpl.rc_context({"font.size": 30, "svg.hashsalt": None}):
        figures.figure2(judged, tmp_path / "around")
    assert (tmp_path / "plain" / "figure2.svg").read_bytes() == (tmp_path / "around" / "figure2.svg").read_bytes()


def test_absent_methods_give_no_figure(judged: pd.DataFrame, tmp_path: Path) -> None:
    volume = judged[judged["method"] == "volume"]
    figures.figure2(volume, tmp_path)
    figures.figure3(volume, tmp_path)
    figures.risk_coverage(volume, tmp_path, ["absent"])
    figures.calibration(volume, tmp_path, ["absent"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("score", [1.0, np.nan])
def test_figure2_of_constant_or_absent_scores(score: float, judged: pd.DataFrame, tmp_path: Path) -> None:
    figures.figure2(judged.assign(score=score), tmp_path)
    assert (tmp_path / "figure2.png").exists()


def test_one_test_case_a_fold(cases: pd.DataFrame, tmp_path: Path) -> None:
    first = cases[cases["split"] == "test"].groupby("fold")["case"].transform("first")
    few = cases[(cases["split"] == "validation") | (cases["case"] == first.reindex(cases.index))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        judged = evaluation.judge(few)
        folds = evaluation.fold_table(judged)
        assert (folds["n"] == 1).all() and folds["pearson_r"].isna().all() and folds["normalised_aurc"].isna().all()
        assert (evaluation.ladder(judged, resamples=30)["n"] == FOLDS).all()
        assert len(evaluation.by_group(judged)) and len(evaluation.paired_gains(judged, resamples=30))
        figures.calibration(judged, tmp_path, METHODS[:2])
        figures.risk_coverage(judged, tmp_path, METHODS[:2])


def test_regression_band_against_the_textbook() -> None:
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    x, y = np.array([1.0, 2.0, 4.0, 5.0, 7.0]), np.array([0.3, 0.5, 0.4, 0.8, 0.9])
    figures._regression(axes, x, y)
    design = np.column_stack([np.ones(5), x])
    solution, squares, *_ = np.linalg.lstsq(design, y, rcond=None)
    at = np.array([1.0, 1.0])  # the intercept and the lowest x
    half = stats.t.ppf(0.975, 3) * np.sqrt(squares[0] / 3 * at @ np.linalg.inv(design.T @ design) @ at)
    corner = axes.collections[0].get_paths()[0].vertices
    ends = np.asarray(corner)[np.isclose(np.asarray(corner)[:, 0], 1.0), 1]
    assert (ends.min(), ends.max()) == pytest.approx((at @ solution - half, at @ solution + half))


def test_calibration_bins_hold_every_case_once_and_never_part_equals() -> None:
    generator = np.random.default_rng(3)
    predicted = generator.choice([0.2, 0.5, 0.8, 0.9], 40)
    rows = pd.DataFrame({"predicted_dice": predicted, "dice": generator.random(40), "patient": np.arange(40)})
    bins = figures.calibration_bins(rows, resamples=200)
    assert bins["n"].sum() == 40
    for row in bins.itertuples():
        assert row.low <= row.true <= row.high
    assert (rows["dice"].mean(), predicted.mean()) == pytest.approx(
        ((bins["true"] * bins["n"]).sum() / 40, (bins["predicted"] * bins["n"]).sum() / 40)
    )
    assert len(figures.calibration_bins(rows.assign(predicted_dice=0.7), resamples=50)) == 1


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", " =1", "\t=1", "\r1", "\n1"])
def test_formulas_become_text(text: str) -> None:
    assert tables.neutralised(text) == f"'{text}"
    assert tables.neutralised(f"a{text}") == f"a{text}"


def test_markdown_and_csv_cells(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"=name": ["a|b", "<b>`x`", "[l](javascript:1)"], "value": [np.nan, -0.00001, 0.12345], "n": [1, 2, 3]}
    )
    lines = tables.markdown(table).splitlines()
    assert lines[1] == "| --- | ---: | ---: |"
    assert lines[2] == "| a\\|b | – | 1 |"
    assert lines[3] == "| &lt;b&gt;\\`x\\` | 0.000 | 2 |"
    assert lines[4] == "| \\[l\\](javascript:1) | 0.123 | 3 |"
    tables.write_csv(tmp_path / "deep" / "t.csv", table.assign(value=[np.nan, -0.0, 1 / 3]))
    assert (tmp_path / "deep" / "t.csv").read_text(encoding="utf-8").splitlines()[0] == "'=name,value,n"
    assert [line.split(",")[-2] for line in (tmp_path / "deep" / "t.csv").read_text().splitlines()[1:]] == ["", "0", "0.333333"]
    assert [file.name for file in (tmp_path / "deep").iterdir()] == ["t.csv"]


def test_results_need_no_torch() -> None:
    code = (
        "import sys, veridice.experiment.results.figures, veridice.experiment.results.paper; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
