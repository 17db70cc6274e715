"""Intervals of methods: half widths against slow code, coverage on drawn cases, too few cases."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from veridice.experiment.results.intervals import half_width, interval_table


def drawn(seed: int, kind: str, known: int = 40, new: int = 60) -> pd.DataFrame:
    """Cases of one fold and one method; each of another patient."""
    rng = np.random.default_rng(seed)
    dice = rng.beta(6, 2, known + new)
    said = dice + 0.08 * rng.standard_normal(known + new)
    names = [f"p{number:03d}" for number in range(known + new)]
    facts = {"fold": 0, "dataset": "a", "severity": "", "donor": "", "load_ml": 5.0}
    split = ["validation"] * known + ["test"] * new
    score = np.clip(said, 0, 1) if kind == "dice" else 1000 * said
    table = pd.DataFrame({"case": names, "patient": names, "split": split, "dice": dice, "dice_native": dice, "score": score})
    return table.assign(**facts, method="m", kind=kind)


def test_a_predicted_dice_has_the_errors_that_it_has() -> None:
    cases = drawn(0, "dice")
    validation = cases[cases["split"] == "validation"]
    errors = np.sort(np.abs(validation["score"] - validation["dice"]).to_numpy())
    # 41 times 0.9 is 36.9: the 37th of 40 errors.
    assert half_width(validation, 0.9) == pytest.approx(errors[36])


@pytest.mark.parametrize("kind", ["dice", "score"])
def test_intervals_hold_as_often_as_they_say(kind: str) -> None:
    found = pd.concat([interval_table(drawn(seed, kind)) for seed in range(25)])
    assert 0.87 <= found["held"].mean() <= 0.95
    assert (found["held_low"] <= found["held"]).all() and (found["held"] <= found["held_high"]).all()
    assert (found["width"] > 0).all() and (found["width"] <= 1).all()


def test_with_too_few_cases_the_interval_is_everything() -> None:
    found = interval_table(drawn(1, "dice", known=8))
    assert found["held"].tolist() == [1.0] and found["width"].tolist() == [1.0]


def test_the_narrowest_comes_first_and_a_method_that_knows_is_narrow() -> None:
    good, poor = drawn(2, "dice"), drawn(2, "dice").assign(method="poor")
    poor["score"] = 0.75
    found = interval_table(pd.concat([poor, good], ignore_index=True))
    assert found["method"].tolist() == ["m", "poor"]
    assert found["width"].is_monotonic_increasing
