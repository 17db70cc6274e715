"""The decision keeps its two promises, on drawn cases whose truth is known, and against slow code."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veridice.errors import InputError
from veridice.quality.calibration import CalibrationSet, joined
from veridice.quality.decision import (
    EMPTY_IS_WRONG_ML,
    Limits,
    PValues,
    conformal_p,
    decide_empty,
    decide_study,
    fewest_people,
    intervals_for_review,
    left_for_review,
    p_values,
    people_with_bad_masks,
)

MIN_DICE = 0.7


def drawn(people: int, seed: int, masks: int = 3) -> CalibrationSet:
    """Masks of people who differ: some are always judged too well."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), masks)
    dice = rng.uniform(0.3, 1.0, people * masks)
    spread = rng.uniform(0.03, 0.12, people * masks)
    predicted = dice + 0.5 * spread * rng.standard_normal(people)[person] + 0.8 * spread * rng.standard_normal(len(dice))
    return CalibrationSet(
        source="drawn",
        simulated=True,
        patients=people,
        predicted=tuple(predicted),
        spread=tuple(spread),
        dice=tuple(dice),
        person=tuple(map(int, person)),
    )


def verdicts(calibration: CalibrationSet, new: CalibrationSet, limits: Limits) -> np.ndarray:
    found = p_values(calibration, np.array(new.predicted), np.array(new.spread), limits.min_dice)
    return np.array(found.verdicts(limits))


@pytest.mark.parametrize("level", [0.05, 0.2])
def test_both_promises_hold_on_new_people(level: float) -> None:
    missed, wasted, accepted = [], [], []
    limits = Limits(MIN_DICE, level, level)
    for seed in range(40):
        new = drawn(60, 1000 + seed)
        given_, good = verdicts(drawn(150, seed), new, limits), np.array(new.dice) >= MIN_DICE
        missed.append((given_[~good] == "accept").mean())
        wasted.append((given_[good] == "reject").mean())
        accepted.append((given_[good] == "accept").mean())
    # One in a hundred bad masks is a gross failure more: the second test makes the first one stricter, never laxer.
    assert np.mean(missed) <= level * 1.15
    assert 0.5 * level <= np.mean(wasted) <= level * 1.15
    assert np.mean(accepted) > 0.5


@given(st.integers(1, 30), st.integers(0, 99))
@settings(max_examples=40)
def test_p_values_are_those_of_the_definition(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    known, people = rng.integers(0, 6, count).astype(float), rng.integers(0, 5, count)
    new = rng.integers(0, 6, 4).astype(float)
    names = sorted(set(people.tolist()))
    slow = [(1 + sum((known[people == name] >= score).mean() for name in names)) / (1 + len(names)) for score in new]
    assert conformal_p(known, people, new) == pytest.approx(slow)


def test_people_count_by_their_weights() -> None:
    known, people, new = np.array([1.0, 2.0, 3.0]), np.array([0, 1, 1]), np.array([1.5, 2.5])
    alike = conformal_p(known, people, new, np.array([3.0, 3, 3]))
    assert alike == pytest.approx([2 / 3, 1 / 2])
    assert conformal_p(known, people, new) == pytest.approx(alike)
    # The second person counts three times, and so does a new one.
    assert conformal_p(known, people, new, np.array([1.0, 3, 3])) == pytest.approx([6 / 7, 4.5 / 7])


def test_a_site_is_added_to_what_ships() -> None:
    shipped, own = drawn(60, 0), drawn(10, 1).model_copy(update={"simulated": False, "source": "ours"})
    both = joined(shipped, own, 5.0)
    assert (both.n, both.patients, len(np.unique(both.people))) == (210, 70, 70)
    assert people_with_bad_masks(both, MIN_DICE) == pytest.approx(
        people_with_bad_masks(own, MIN_DICE) + people_with_bad_masks(shipped, MIN_DICE) / 5
    )
    with pytest.raises(InputError, match="other weights"):
        joined(shipped, own.model_copy(update={"passes": 9}), 5.0)


def test_nobody_known_allows_nothing() -> None:
    assert conformal_p(np.zeros(0), np.zeros(0, int), np.array([5.0])).tolist() == [1.0]
    few = drawn(8, 0)
    assert "accept" not in verdicts(few, drawn(50, 1), Limits(MIN_DICE, 0.05))
    assert people_with_bad_masks(few, MIN_DICE) < fewest_people(0.05) == 19
    assert [fewest_people(level) for level in (0.1, 0.01, 0.5)] == [9, 99, 1]


@given(st.floats(0.2, 0.95), st.floats(0.02, 0.2), st.floats(0, 0.3), st.sampled_from([0.0, 0.05, 0.5, 0.75]))
def test_a_better_mask_is_never_judged_worse(predicted: float, spread: float, more: float, min_dice: float) -> None:
    order = ["reject", "review", "accept"]
    found = p_values(drawn(100, 3), np.array([predicted, predicted + more]), np.array([spread, spread]), min_dice)
    worse, better = (order.index(verdict) for verdict in found.verdicts(Limits(min_dice)))
    assert worse <= better


def test_what_the_models_do_not_know_is_never_accepted_but_may_be_rejected() -> None:
    found = p_values(drawn(150, 0), np.array([0.99, 0.1]), np.array([0.03, 0.03]), MIN_DICE)
    assert found.verdicts(Limits(MIN_DICE)) == ["accept", "reject"]
    assert found.verdicts(Limits(MIN_DICE), known=False) == ["review", "reject"]


def test_no_mask_can_be_below_a_dice_of_zero() -> None:
    found = p_values(drawn(30, 0), np.array([0.01, np.nan]), np.array([0.1, 0.1]), 0.0)
    assert found.verdicts(Limits(0.0))[0] == "accept"


def test_no_number_is_for_a_person() -> None:
    found = p_values(drawn(150, 0), np.array([np.nan]), np.array([0.1]), MIN_DICE)
    assert found.verdicts(Limits(MIN_DICE)) == ["review"]


def test_gross_failures_have_a_promise_of_their_own() -> None:
    both = PValues(np.array([0.04, 0.04]), np.array([0.005, 0.02]), np.array([0.9, 0.9]))
    assert both.verdicts(Limits()) == ["accept", "review"]


def test_cases_that_could_never_be_accepted_are_no_witnesses() -> None:
    known = drawn(100, 0)
    unusable = known.model_copy(update={"acceptable": tuple(value >= MIN_DICE for value in known.dice)})
    assert people_with_bad_masks(unusable, MIN_DICE) == 0
    assert "accept" not in verdicts(unusable, drawn(50, 1), Limits(MIN_DICE))


@pytest.mark.parametrize("bad", [5, 20, 50])
def test_of_the_accepted_of_a_study_few_are_bad(bad: int) -> None:
    rates, found, expected = [], [], []
    calibration = drawn(200, 0)
    pool = drawn(2000, 1, masks=1)
    good = np.array(pool.dice) >= MIN_DICE
    tests = p_values(calibration, np.array(pool.predicted), np.array(pool.spread), MIN_DICE)
    rng = np.random.default_rng(2)
    for _ in range(200):
        chosen = np.concatenate([rng.choice(np.flatnonzero(~good), bad), rng.choice(np.flatnonzero(good), 100 - bad)])
        study = decide_study(PValues(tests.bad[chosen], tests.gross[chosen], tests.good[chosen]), 0.05)
        taken = good[chosen][study.accepted]
        rates.append((~taken).mean() if len(taken) else 0.0)
        found.append(len(taken) / (100 - bad))
        expected.append(study.expected_bad)
        assert tests.bad[chosen][study.accepted].max(initial=0) <= 0.05
    assert np.mean(rates) <= 0.05 and np.mean(found) > 0.3
    assert np.mean(rates) <= np.mean(expected) <= 0.05


def test_a_study_of_nothing() -> None:
    none = np.zeros(0)
    study = decide_study(PValues(none, none, none), 0.05)
    assert (len(study.accepted), study.expected_bad) == (0, 0.0)
    poor = np.full(20, 0.9)
    assert not decide_study(PValues(poor, poor, poor), 0.05).accepted.any()


def test_an_empty_mask() -> None:
    assert decide_empty(0.0) == "review"
    assert decide_empty(EMPTY_IS_WRONG_ML) == "reject"


def test_cases_left_for_review_are_those_that_the_other_people_leave() -> None:
    known, limits = drawn(130, 3), Limits(MIN_DICE, 0.03, 0.03)  # enough people for the level of gross failures
    slow = []
    for number, person in enumerate(known.person):
        others = known.only(np.array(known.person) != person)
        one = known.only(np.arange(known.n) == number)
        slow.append(verdicts(others, one, limits)[0] == "review")
    assert left_for_review(known, limits).tolist() == slow
    assert 0.05 < np.mean(slow) < 0.9


def test_intervals_of_what_is_left_for_review_hold_for_it() -> None:
    held = []
    limits = Limits(MIN_DICE, 0.02, 0.02)
    for seed in range(60):
        known, new = drawn(150, seed), drawn(60, 1000 + seed)
        left = verdicts(known, new, limits) == "review"
        predicted, spread = np.array(new.predicted)[left], np.array(new.spread)[left]
        ends = intervals_for_review(known, predicted, spread, 0.8, limits)
        assert ends is not None
        dice = np.array(new.dice)[left]
        held += ((ends[:, 0] <= dice) & (dice <= ends[:, 1])).tolist()
    assert np.mean(held) == pytest.approx(0.8, abs=0.02)


def test_too_few_cases_make_no_interval_for_review() -> None:
    assert intervals_for_review(drawn(3, 0, masks=1), np.array([0.7]), np.array([0.1]), 0.9, Limits(MIN_DICE)) is None


@pytest.mark.parametrize("people", range(20, 60))
def test_a_p_value_that_is_its_level_passes_however_it_was_rounded(people: int) -> None:
    # The shares of five masks of each of four people, added one by one, make a little more than four.
    known, of_person, new = np.arange(5.0 * people), np.repeat(np.arange(people), 5), np.array([5.0 * (people - 4)])
    bad = conformal_p(known, of_person, new)
    level = 5 / (people + 1)
    assert bad == pytest.approx(level)
    assert PValues(bad, np.zeros(1), np.ones(1)).verdicts(Limits(MIN_DICE, max_missed=level)) == ["accept"]
