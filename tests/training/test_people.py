"""The cohorts of predictor and decision share nobody, and none of their people taught a network."""

from __future__ import annotations

from itertools import combinations

from veridice.simulate.donors import all_donors, people_of
from veridice.training.people import PEOPLE


def test_nobody_calibrates_what_he_checks_and_nobody_of_training_is_there() -> None:
    named = {name: set(people_of(cohort.donors)) for name, cohort in PEOPLE.items()}
    assert not any(one & other for one, other in combinations(named.values(), 2))
    reserved = {donor.person for donor in all_donors() if donor.split == "reserved"}
    for name, people in named.items():
        assert people - reserved == {f"more-{name}"}
    assert len({cohort.seed for cohort in PEOPLE.values()}) == len(PEOPLE)
