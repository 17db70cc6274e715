"""How well a score finds failures: every measure against an independent source."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

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
    assert curve.coverage[-1] == 1 and curve.risk[-1] == pytest.approx(1 - dice.mean())


def test_aurc_by_hand() -> None:
    # Accepted first: Dice 0.9, then 0.5, then 0.7; risks 0.1, 0.5, 0.3.
    curve = fd.risk_coverage(np.array([2.0, 1.0, 3.0]), np.array([0.5, 0.7, 0.9]))
    assert curve.risk == pytest.approx([0.1, 0.3, 0.3])
    assert curve.area == pytest.approx(0.7 / 3)


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
