"""Claims of the paper against slow, independent numbers on made-up cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from veridice.experiment.results.findings import CLAIMS, Claim, findings
from veridice.metrics import failure_detection as fd
from veridice.metrics import scores

CASES = 30


@pytest.fixture(scope="module")
def judged() -> pd.DataFrame:
    """From the uncertainty the Dice is predicted well, from the error map too low, from the image not at all."""
    rng = np.random.default_rng(2)
    dice = rng.beta(4, 2, CASES)
    predicted = {
        "regressor_uncertainty": dice + 0.02 * rng.normal(size=CASES),
        "regressor_error": dice - 0.15 + 0.02 * rng.normal(size=CASES),
        "regressor_image": rng.uniform(size=CASES),
        "entropy_sum": np.full(CASES, dice.mean()) + 1e-3 * dice,
        "error_sum": rng.uniform(size=CASES),
        "non_boundary_entropy": rng.uniform(size=CASES),
    }
    score = predicted | {
        "entropy_sum": 1000 * dice + 500,
        "non_boundary_entropy": np.full(CASES, 50 / np.prod(scores.SUM_GRID)),
    }
    names = {"fold": 0, "case": [f"c{n:02d}" for n in range(CASES)], "patient": [f"p{n // 2}" for n in range(CASES)]}
    tables = [
        pd.DataFrame({**names, "dice": dice, "method": method, "score": score[method], "predicted_dice": values})
        for method, values in predicted.items()
    ]
    table = pd.concat(tables, ignore_index=True)
    return table.assign(confidence=table["predicted_dice"], rejected=table["predicted_dice"] < 0.6, failure_dice=0.75)


def test_each_claim_gets_its_word(judged: pd.DataFrame) -> None:
    table = findings(judged.sample(frac=1, random_state=1), resamples=300)
    assert len(table) == len(CLAIMS) and (table["n"] == CASES).all()
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()
    words = dict(zip(table["paper"], table["here"], strict=True))
    for claim in (
        "Uncertainty is mostly at",
        "The sum of the uncertainty goes",
        "Predictions from the error map are slightly too low",
    ):
        assert next(word for text, word in words.items() if text.startswith(claim)) == "confirmed"
    assert words["From the error map more failures are found than from the uncertainty"] == "confirmed"
    assert words["Predictions from the uncertainty are too high"] == "undecided"


def test_values_by_hand(judged: pd.DataFrame) -> None:
    values = findings(judged, resamples=20).set_index("paper")["value"]
    rows = dict(list(judged.groupby("method")))
    error, entropy = rows["regressor_error"], rows["entropy_sum"]
    assert values["Predictions from the error map are slightly too low"] == pytest.approx(
        (error["predicted_dice"] - error["dice"]).mean()
    )
    rise = error.loc[~error["rejected"], "dice"].mean() - error["dice"].mean()
    assert values["Sorting out by predictions from the error map raises the Dice (0.82 to 0.84)"] == pytest.approx(rise)
    assert values["Uncertainty is mostly at the borders"] == pytest.approx((1 - 50 / entropy["score"]).mean() - 0.5)


def test_what_accepts_nobody_has_no_interval(judged: pd.DataFrame) -> None:
    nobody = findings(judged.assign(rejected=judged["method"] == "error_sum"), resamples=20).set_index("paper")
    assert nobody.loc["Sorting out by the sum of the error map does not (0.819 to 0.817)", "here"] == "no interval"


def test_sums_are_compared_within_folds(judged: pd.DataFrame) -> None:
    """What differs between the segmenters of two folds is no relation."""
    moved = judged.assign(fold=(judged["case"] > "c14").astype(int))
    moved["score"] += 1e6 * moved["fold"]
    first = "The sum of the uncertainty goes with the Dice (r 0.52, 0.55)"
    assert findings(moved, resamples=20).set_index("paper").loc[first, "value"] == pytest.approx(1)


def normalised_area(confidence: np.ndarray, dice: np.ndarray) -> float:
    area, best = (fd.risk_coverage(order, dice).area for order in (confidence, dice))
    return (area - best) / (1 - dice.mean() - best)


def slow(judged: pd.DataFrame, methods: tuple[str, str], measure: Any) -> tuple[float, float, float]:
    one, two = (judged[judged["method"] == method].sort_values("case") for method in methods)
    columns = [part[name] for part in (one, two) for name in ("predicted_dice", "confidence", "rejected")]

    def difference(dice: Any, *drawn: Any) -> float:
        return float(measure(dice, *drawn[:3]) - measure(dice, *drawn[3:]))

    around = fd.bootstrap(difference, one["dice"], *columns, clusters=one["patient"], resamples=200)
    return difference(one["dice"].to_numpy(), *(column.to_numpy() for column in columns)), around.low, around.high


@pytest.mark.parametrize(
    ("measured", "methods", "measure"),
    [
        ("MAE from the image minus", ("regressor_image", "regressor_uncertainty"), lambda d, p, _c, _r: np.abs(p - d).mean()),
        ("r from the error map minus", ("regressor_error", "regressor_image"), lambda d, p, _c, _r: stats.pearsonr(p, d)[0]),
        ("mean Dice of the accepted, minus", ("regressor_error", "regressor_uncertainty"), lambda d, _p, _c, r: d[~r].mean()),
        (
            "share of the failures that is found",
            ("regressor_error", "regressor_uncertainty"),
            lambda d, _p, _c, r: r[d < 0.75].mean(),
        ),
        (
            "normalised AURC",
            ("entropy_sum", "regressor_uncertainty"),
            lambda d, _p, c, _r: normalised_area(c, d),
        ),
    ],
)
def test_numbers_are_those_of_a_slow_bootstrap(judged: pd.DataFrame, measured: str, methods: Any, measure: Any) -> None:
    table = findings(judged, resamples=200)
    row = table[table["measured"].str.startswith(measured)].iloc[0]
    assert (row["value"], row["low"], row["high"]) == pytest.approx(slow(judged, methods, measure), abs=1e-9)


def test_scores_are_taken_where_there_are_some(judged: pd.DataFrame) -> None:
    gone = judged.copy()
    gone.loc[(gone["method"] == "entropy_sum") & (gone["case"] == "c03"), "score"] = np.nan
    rows = gone[(gone["method"] == "entropy_sum") & gone["score"].notna()]
    value = findings(gone, resamples=20)["value"].iloc[0]
    assert value == pytest.approx(stats.pearsonr(rows["score"], rows["dice"]).statistic)


def test_claims_about_absent_methods_are_left_out(judged: pd.DataFrame) -> None:
    assert len(findings(judged[judged["method"] == "error_sum"], resamples=20)) == 2
    assert findings(judged.iloc[:0], resamples=20).empty
    assert findings(judged.assign(method="other"), resamples=20).empty


@pytest.mark.parametrize(
    ("side", "low", "high", "word"),
    [
        ("above", 0.1, 0.2, "confirmed"),
        ("above", -0.2, -0.1, "refuted"),
        ("above", -0.1, 0.1, "undecided"),
        ("below", -0.2, -0.1, "confirmed"),
        ("below", 0.1, 0.2, "refuted"),
        ("none", -0.1, 0.1, "not refuted"),
        ("none", 0.1, 0.2, "refuted"),
        ("bound", 0.1, 0.2, "confirmed"),
        ("bound", -0.2, -0.1, "undecided"),
        ("above", np.nan, np.nan, "no interval"),
    ],
)
def test_words(side: Any, low: float, high: float, word: str) -> None:
    assert Claim("", "", (), lambda _rows, _weights: np.zeros(1), side).word(low, high) == word
