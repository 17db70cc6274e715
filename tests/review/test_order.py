"""The order of looks and what is promised of the rest, against slow oracles and simulated studies."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit

from veridice.quality.decision import PValues, decide_study
from veridice.review.order import ENOUGH, SHIFT, SITE, SLOPE, Worklist, standing, updated_chances, updated_gain


def worklist(chance: np.ndarray, site: np.ndarray | None = None, p_bad: np.ndarray | None = None) -> Worklist:
    count = len(chance)
    p = chance / 2 if p_bad is None else p_bad
    return Worklist(chance, chance / 4, p, np.full(count, 0.001), np.zeros(count, int) if site is None else site)


def test_few_ratings_are_only_counted() -> None:
    made = worklist(np.linspace(0.05, 0.95, 60))
    seen = np.arange(60) >= 60 - (ENOUGH - 1)
    chances, changed = updated_chances(made, seen, np.arange(60) % 2 == 0)
    assert not changed
    assert np.array_equal(chances, made.chance)
    all_good, changed = updated_chances(made, np.arange(60) < 40, np.zeros(60, bool))
    assert not changed
    assert np.array_equal(all_good, made.chance)


def test_ratings_move_the_chances_where_the_greatest_posterior_density_is() -> None:
    rng = np.random.default_rng(0)
    made = worklist(rng.uniform(0.05, 0.9, 200), rng.integers(0, 3, 200))
    bad = rng.random(200) < expit(logit(made.chance) + np.array([1.5, 0, -1])[made.site])
    seen = np.arange(200) < 120
    chances, changed = updated_chances(made, seen, bad)

    def loss(values: np.ndarray) -> float:
        prior = (values[0] / SHIFT) ** 2 + ((values[1] - 1) / SLOPE) ** 2 + ((values[2:] / SITE) ** 2).sum()
        total = 0.5 * prior
        for n in np.flatnonzero(seen):
            p = expit(values[0] + values[1] * logit(made.chance[n]) + values[2 + made.site[n]])
            total -= np.log(p if bad[n] else 1 - p)
        return float(total)

    found = minimize(loss, [0, 1, 0, 0, 0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9, "maxiter": 20000}).x
    slow = expit(found[0] + found[1] * logit(made.chance) + found[2:][made.site])
    assert changed
    assert np.allclose(chances, slow, atol=2e-3)
    by_site = [(chances - made.chance)[made.site == site].mean() for site in range(3)]
    assert by_site[0] > by_site[1] > by_site[2]


def test_the_gain_follows_the_chance() -> None:
    made = worklist(np.array([0.2, 0.5]))
    assert np.allclose(updated_gain(made, np.array([0.4, 0.25])), [0.1, 0.0625])


def test_the_share_is_that_of_the_decision_on_the_whole_study() -> None:
    """Where all that is left is just what the study would accept unseen, the desk stops; one scan earlier it does not."""
    p = np.concatenate([np.linspace(0.0005, 0.003, 60), np.linspace(0.2, 0.99, 20)])
    made = worklist(np.linspace(0.01, 0.95, 80), p_bad=p)
    tests = PValues(p, made.p_gross, np.ones(80))
    accepted = decide_study(tests, 0.05).accepted
    assert 0 < accepted.sum() < 80
    bad = np.zeros(80, bool)
    now = standing(made, ~accepted, bad, 0.05, witnesses=200)
    assert not now.worth_it
    assert now.bad_share == pytest.approx(decide_study(tests, 0.05).expected_bad)
    earlier = ~accepted
    earlier[np.flatnonzero(~accepted)[0]] = False
    assert standing(made, earlier, bad, 0.05, witnesses=200).worth_it


def test_a_scan_that_could_not_be_tested_is_always_worth_a_look() -> None:
    made = worklist(np.full(30, 0.02), p_bad=np.append(np.full(29, 0.001), np.nan))
    nobody = np.zeros(30, bool)
    now = standing(made, nobody, nobody, 0.2, witnesses=200)
    assert now.worth_it
    assert now.bad_share is None
    assert now.at_most is not None
    assert now.at_most >= 1
    looked = np.arange(30) == 29
    assert not standing(made, looked, looked, 0.2, witnesses=200).worth_it


def test_the_end_of_a_study_promises_what_was_seen() -> None:
    made = worklist(np.linspace(0.1, 0.9, 10))
    everyone = np.ones(10, bool)
    now = standing(made, everyone, np.arange(10) > 6, 0.05, witnesses=200)
    assert (now.seen, now.bad, now.unseen, now.expected_bad, now.at_most, now.worth_it) == (10, 3, 0, 0, 0, False)


def test_without_the_calibration_nothing_is_bounded() -> None:
    made = worklist(np.linspace(0.1, 0.9, 10))
    assert standing(made, np.zeros(10, bool), np.zeros(10, bool), 0.05, witnesses=None).at_most is None


def broken_bound(seed: int) -> bool:
    """Whether somewhere on the way more bad masks are left than was said."""
    rng = np.random.default_rng(seed)
    bad, witnesses = rng.random(50) < 0.4, 200
    score = np.where(bad, rng.random(50), rng.random(50) ** 4)
    p = (1 + np.searchsorted(np.sort(rng.random(witnesses)), score)) / (witnesses + 1)
    made = worklist(np.clip(p, 0.01, 0.99), p_bad=p)
    order = np.argsort(-score + 0.2 * rng.normal(size=50))
    for looks in range(0, 50, 10):
        seen = np.isin(np.arange(50), order[:looks])
        now = standing(made, seen, bad, 0.05, witnesses)
        assert now.at_most is not None
        assert now.at_most <= now.unseen
        if now.at_most < (bad & ~seen).sum():
            return True
    return False


def test_the_bound_holds_for_looks_that_follow_what_was_seen() -> None:
    """The p-values of bad masks are uniform: in at most one study of twenty it breaks, with room for chance."""
    assert np.mean([broken_bound(seed) for seed in range(300)]) <= 0.08
