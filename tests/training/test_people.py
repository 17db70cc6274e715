"""The cohorts of predictor and decision share nobody, and none of their people taught a network."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import pandas as pd

from veridice.simulate.donors import all_donors, people_of
from veridice.training.assessed_masks import write_rows
from veridice.training.people import PEOPLE, with_other_networks


def test_nobody_calibrates_what_he_checks_and_nobody_of_training_is_there() -> None:
    named = {name: set(people_of(cohort.donors)) for name, cohort in PEOPLE.items()}
    assert not any(one & other for one, other in combinations(named.values(), 2))
    reserved = {donor.person for donor in all_donors() if donor.split == "reserved"}
    for name, people in named.items():
        assert people - reserved == {f"more-{name}"}
    assert len({cohort.seed for cohort in PEOPLE.values()}) == len(PEOPLE)


def test_masks_of_other_networks_calibrate_with_those_of_their_scans(tmp_path: Path) -> None:
    masks = pd.DataFrame({"scan": ["a", "a", "b"], "kind": "own", "dice": [0.8, 0.7, 0.6], "unfamiliarity": [0.2, 0.2, 3.0]})
    assert with_other_networks(masks, tmp_path, "calibration") is masks
    more = pd.DataFrame({"scan": ["b", "c", "a"], "kind": "foreign base", "dice": [0.5, 0.9, 0.4], "lesion_count": [2, 2, 0]})
    write_rows(tmp_path / "foreign-calibration-masks.csv.gz", more)
    found = with_other_networks(masks, tmp_path, "calibration")
    # Nobody looked at c, and an empty mask is decided upon without a prediction.
    assert list(zip(found["scan"], found["dice"], found["unfamiliarity"], strict=True))[3:] == [("b", 0.5, 3.0)]
