"""How well a score finds failures: every measure against an independent source."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import precision_score, recall_score

from veridice.metrics import failure_detection as fd

CASES = st.lists(st.tuples(st.integers(0, 6), st.floats(0, 1)), min_size=1, max_size=6)


def columns(cases: list[tuple[int, float]]) -> tuple[fd.Numbers, fd.Numbers]:
    score, dice = np.array(cases, float).T
    return score, dice


def area_of_order(risks: list[float]) -> float:
    return float(np.mean([np.mean(risks[: k + 1]) for k in range(len(risks))]))


@given(CASES)
def test_aurc_is_the_mean_over_all_orders_that_respect_the_score(cases: list[tuple[int, float]]) -> None:
    score, dice = columns(cases)
    orders = [o for o in permutations(range(len(cases))) if all(score[a] >= score[b] for a, b in pairwise(o))]
    curve = fd.risk_coverage(score, dice)
    assert curve.area == pytest.approx(np.mean([area_of_order([1 - dice[i] for i in order]) for order in orders]), abs=1e-9)
    assert curve.optimal == pytest.approx(min(area_of_order(list(1 - dice[list(o)])) for o in permutations(range(len(cases)))))
    assert curve.coverage[-1] == 1 and curve.risk[-1] == pytest.approx(1 - dice.mean())


def test_normalised_aurc_has_its_bounds() -> None:
    dice = np.random.default_rng(0).random(50)
    assert fd.risk_coverage(dice, dice).normalised == pytest.approx(0)
    assert fd.risk_coverage(np.zeros(50), dice).normalised == pytest.approx(1)
    assert fd.risk_coverage(-dice, dice).normalised > 1
    assert np.isnan(fd.risk_coverage(dice, np.full(50, 0.8)).normalised)


def test_aurc_by_hand() -> None:
    # Accepted first: Dice 0.9, then 0.5, then 0.7; risks 0.1, 0.5, 0.3.
    curve = fd.risk_coverage(np.array([2.0, 1.0, 3.0]), np.array([0.5, 0.7, 0.9]))
    assert curve.risk == pytest.approx([0.1, 0.3, 0.3])
    assert curve.area == pytest.approx(0.7 / 3)
    assert curve.excess == pytest.approx(0.7 / 3 - (0.1 + 0.2 + 0.3) / 3)


@given(CASES)
def test_review_share_against_brute_force(cases: list[tuple[int, float]]) -> None:
    score, dice = columns(cases)
    failed = dice < 0.75
    shares = [1.0]
    for threshold in range(8):
        kept = score >= threshold
        if kept.any() and failed[kept].sum() <= 0.05 * kept.sum():
            shares.append(1 - kept.mean())
    assert fd.review_share(score, failed) == pytest.approx(min(shares))


def test_auroc_is_the_chance_of_the_right_order() -> None:
    generator = np.random.default_rng(1)
    score, failed = generator.integers(0, 9, 40).astype(float), generator.random(40) < 0.4
    pairs = [(a < b) + 0.5 * (a == b) for a in score[failed] for b in score[~failed]]
    assert fd.failure_auroc(score, failed) == pytest.approx(np.mean(pairs))
    assert np.isnan(fd.failure_auroc(score, np.zeros(40, bool)))


def test_both_conventions_of_precision_and_recall() -> None:
    generator = np.random.default_rng(2)
    rejected, failed = generator.random(30) < 0.3, generator.random(30) < 0.4
    found = fd.detection(rejected, failed)
    assert found.failures == pytest.approx((precision_score(failed, rejected), recall_score(failed, rejected)))
    assert found.acceptable == pytest.approx((precision_score(~failed, ~rejected), recall_score(~failed, ~rejected)))


def test_the_papers_row_that_rejects_nothing() -> None:
    """21 cases, 4 of them failed, none rejected: precision 17/21, recall 1, which the paper prints the other way round."""
    failed = np.arange(21) < 4
    found = fd.detection(np.zeros(21, bool), failed)
    assert found.acceptable == pytest.approx((17 / 21, 1.0))
    assert np.isnan(found.failures[0]) and found.failures[1] == 0


def test_correlations_are_those_of_the_formulas() -> None:
    generator = np.random.default_rng(3)
    score = generator.random(25)
    dice = score + generator.random(25)
    assert fd.pearson(score, dice).r == pytest.approx(np.corrcoef(score, dice)[0, 1])
    assert fd.spearman(score, dice).r == pytest.approx(np.corrcoef(stats.rankdata(score), stats.rankdata(dice))[0, 1])
    t = fd.pearson(score, dice).r * np.sqrt(23 / (1 - fd.pearson(score, dice).r ** 2))
    assert fd.pearson(score, dice).p == pytest.approx(2 * stats.t.sf(abs(t), 23))
    assert np.isnan(fd.pearson(np.ones(25), dice).r)


@given(CASES)
def test_the_worst_share_are_the_worst(cases: list[tuple[int, float]]) -> None:
    _, dice = columns(cases)
    worst = fd.worst_share(dice)
    assert worst.sum() == max(1, round(0.2 * len(dice)))
    assert worst.all() or dice[worst].max() <= dice[~worst].min()


@pytest.mark.parametrize("direction", [1, -1])
def test_a_map_to_dice_is_monotone_and_stays_in_bounds(direction: int) -> None:
    generator = np.random.default_rng(4)
    dice = generator.random(60)
    score = direction * dice * 100 + generator.normal(0, 3, 60)
    predict = fd.fit_dice_map(score, dice)
    predicted = predict(direction * np.linspace(-500, 500, 50))
    assert (np.diff(predicted) >= -1e-12).all() and predicted.min() >= 0 and predicted.max() <= 1
    assert np.abs(predict(score) - dice).mean() < 0.05
    assert predict(np.array([np.nan])) == pytest.approx(dice.mean())
    assert fd.fit_dice_map(np.full(60, np.nan), dice)(score) == pytest.approx(np.full(60, dice.mean()))


def test_a_bootstrap_interval_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(5).normal(3, 2, 400)
    found = fd.bootstrap(lambda x: float(x.mean()), values)
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.03)
    assert found.high == pytest.approx(values.mean() + half, abs=0.03)


def test_clusters_are_drawn_whole() -> None:
    """Ten copies of each case know no more than one copy."""
    values = np.random.default_rng(6).normal(0, 1, 40)
    single = fd.bootstrap(lambda x: float(x.mean()), values)
    copied = fd.bootstrap(lambda x: float(x.mean()), np.repeat(values, 10), clusters=np.repeat(np.arange(40), 10))
    assert (copied.low, copied.high) == pytest.approx((single.low, single.high))
    naive = fd.bootstrap(lambda x: float(x.mean()), np.repeat(values, 10))
    assert naive.high - naive.low < 0.5 * (copied.high - copied.low)


def test_a_statistic_without_a_value_has_no_interval() -> None:
    assert np.isnan(fd.bootstrap(lambda _: np.nan, np.arange(5.0), resamples=10).low)
