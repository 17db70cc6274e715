"""A decision from the sorted scores of many sites is the one that all their masks together would have given."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from veridice.quality.calibration import CalibrationSet
from veridice.quality.common_scores import DIGITS, Scores, SiteScores, joined_scores, share_scores
from veridice.quality.decision import GROSS, fewest_people, p_values, people_with_bad_masks
from veridice.quality.site_reports import site_reports

NEEDED = 0.75


def site(seed: int, people: int = 30, masks: int = 3, praised: float = 0.0) -> CalibrationSet:
    """Masks of one site; with ``praised`` its masks are predicted so much too well."""
    rng = np.random.default_rng(seed)
    dice = rng.uniform(0.4, 0.95, people * masks)
    spread = rng.uniform(0.03, 0.1, people * masks)
    predicted = dice + spread * rng.standard_normal(people * masks) + praised
    return CalibrationSet(
        source="drawn",
        simulated=True,
        patients=people,
        predicted=tuple(predicted),
        spread=tuple(spread),
        dice=tuple(dice),
        person=tuple(map(int, np.repeat(np.arange(people), masks))),
    )


def pooled(sites: list[CalibrationSet]) -> CalibrationSet:
    """All masks in one place, as no federation has them."""
    person, before = [], 0
    for one in sites:
        person += [before + number for number in one.person]
        before += one.patients
    columns = {name: sum((getattr(one, name) for one in sites), ()) for name in ("predicted", "spread", "dice")}
    return CalibrationSet(source="pooled", simulated=True, patients=before, person=tuple(person), **columns)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.integers(1, 4), st.sampled_from([0.6, NEEDED, 0.9]))
def test_sites_together_give_the_p_values_of_all_masks_in_one_place(seed: int, count: int, needed: float) -> None:
    sites = [site(seed + number, people=5 + 7 * number) for number in range(count)]
    common = joined_scores([share_scores(one, needed, GROSS) for one in sites])
    new = site(seed + 99)
    predicted, spread = np.array(new.predicted), np.array(new.spread)
    expected = p_values(pooled(sites), predicted, spread, needed)
    told = sites[0].model_copy(update={"common": (common,)})
    found = p_values(told, predicted, spread, needed)
    # Shared scores are rounded up: p-values grow at most as if the new mask lay one digit lower, and seldom do.
    digit = 1.001 * 10.0**-DIGITS * spread
    lower, higher = (p_values(pooled(sites), predicted + way * digit, spread, needed) for way in (-1, 1))
    for kind, most in (("bad", lower), ("gross", lower), ("good", higher)):
        grown = getattr(found, kind) - getattr(expected, kind)
        assert grown.min() > -1e-9 and (getattr(found, kind) <= getattr(most, kind) + 1e-9).all()
        assert np.median(grown) < 1e-9
    assert found.max_gross == pytest.approx(expected.max_gross)
    assert people_with_bad_masks(told, needed) == people_with_bad_masks(pooled(sites), needed)


def test_for_another_needed_dice_the_own_masks_decide() -> None:
    own = site(1)
    told = own.model_copy(update={"common": (joined_scores([share_scores(site(2), NEEDED, GROSS)]),)})
    predicted, spread = np.array(own.predicted), np.array(own.spread)
    assert np.array_equal(p_values(told, predicted, spread, 0.6).bad, p_values(own, predicted, spread, 0.6).bad)
    assert not np.array_equal(p_values(told, predicted, spread, NEEDED).bad, p_values(own, predicted, spread, NEEDED).bad)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.integers(1, 40))
def test_quantiles_tell_less_and_never_promise_more(seed: int, quantiles: int) -> None:
    whole, few = (share_scores(site(seed), NEEDED, GROSS, number) for number in (0, quantiles))
    new = np.random.default_rng(seed).normal(0, 3, 200)
    for kind in ("bad", "gross", "good"):
        exact, rough = getattr(whole, kind), getattr(few, kind)
        assert len(rough.score) <= max(quantiles, 1)
        assert (rough.p_values(new) >= exact.p_values(new) - 1e-9).all()
        assert sum(rough.share) == pytest.approx(sum(exact.share), abs=1e-3)


def test_of_the_bad_masks_of_the_mixture_few_are_accepted() -> None:
    accepted = []
    for seed in range(200):
        sites = [site(1000 * seed + number) for number in range(3)]
        common = joined_scores([share_scores(one, NEEDED, GROSS) for one in sites])
        new = site(1000 * seed + 7, people=40, masks=1)
        bad = np.array(new.dice) < NEEDED
        margin = (np.array(new.predicted) - NEEDED) / np.array(new.spread)
        accepted.append(np.mean(common.bad.p_values(margin[bad]) <= 0.05))
    assert np.mean(accepted) <= 0.05


def test_a_site_that_differs_is_told() -> None:
    shared = {f"site {number}": share_scores(site(number), NEEDED, GROSS) for number in range(4)}
    shared["praised"] = share_scores(site(9, praised=0.25), NEEDED, GROSS)
    reports = site_reports(shared, 0.05, tests=len(shared))
    assert [name for name, report in reports.items() if report.differs] == ["praised"]
    assert reports["praised"].accepted_bad > 0.3
    assert "promised" in reports["praised"].in_words(NEEDED)


@pytest.mark.parametrize(("people", "masks", "quantiles"), [(60, 1, 0), (40, 6, 0), (60, 6, 20)])
def test_sites_that_are_alike_are_seldom_told_to_differ(people: int, masks: int, quantiles: int) -> None:
    told = []
    for seed in range(150):
        sites = {name: site(1000 * seed + number, people, masks) for number, name in enumerate(("first", "second"))}
        shared = {name: share_scores(own, NEEDED, GROSS, quantiles) for name, own in sites.items()}
        told += [any(report.differs for report in site_reports(shared, 0.05, 2, bool(quantiles)).values())]
    assert np.mean(told) <= 0.08


def test_an_invented_list_is_refused() -> None:
    for wrong in (
        {"score": [], "share": [], "people": 100_000},
        {"score": [1.0], "share": [0.5], "people": 1},
        {"score": [1.0, 2.0], "share": [1.0, 1.0], "people": 1},
        {"score": [1.0], "share": [1.0], "people": 10**9},
    ):
        with pytest.raises(ValidationError):
            Scores.model_validate(wrong)


def test_too_few_people_are_known_to_be_too_few() -> None:
    common = joined_scores([share_scores(site(number, people=4), NEEDED, GROSS) for number in range(2)])
    told = site(1).model_copy(update={"common": (common,)})
    assert people_with_bad_masks(told, NEEDED) < fewest_people(0.05)


def test_what_is_shared_survives_the_way_and_holds_no_case() -> None:
    shared = share_scores(site(3), NEEDED, GROSS)
    again = SiteScores.model_validate(json.loads(shared.model_dump_json()))
    assert again == shared
    assert set(json.loads(shared.model_dump_json())["bad"]) == {"score", "share", "people"}
    with pytest.raises(ValidationError, match="sorted"):
        Scores(score=(2.0, 1.0), share=(0.5, 0.5), people=1)
    with pytest.raises(ValidationError):
        Scores(score=(float("nan"),), share=(1.0,), people=1)


def test_sites_with_other_needed_dice_are_not_joined() -> None:
    with pytest.raises(ValueError, match="one needed Dice"):
        joined_scores([share_scores(site(1), needed, GROSS) for needed in (0.7, 0.75)])
