"""What a second expert is expected to reach is what the stored second readings say."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import logit

from veridice.quality.second_expert import LEVEL, LOADS_ML, PER_LOAD, PER_THICKNESS, second_expert_dice

READINGS = Path(__file__).parents[2] / "results" / "judge" / "second-readings.csv"


def test_the_curve_is_fitted_to_the_stored_readings() -> None:
    readings = pd.read_csv(READINGS)
    kept = readings[readings["load_ml"] >= LOADS_ML[0]]
    inputs = np.column_stack([np.ones(len(kept)), np.log(kept["load_ml"]), np.log(kept["slice_mm"])])
    fitted = np.linalg.lstsq(inputs, logit(kept["dice"].clip(0.02, 0.98)), rcond=None)[0]
    assert fitted == pytest.approx([LEVEL, PER_LOAD, PER_THICKNESS], abs=1e-3)


@pytest.mark.parametrize("fixed", [0.5, 3.0, 20.0])
def test_less_is_asked_of_small_loads_and_thick_slices(fixed: float) -> None:
    assert all(low < high for low, high in pairwise(second_expert_dice(load, 3.0) for load in (0.5, 2, 8, 30)))
    assert all(high > low for high, low in pairwise(second_expert_dice(fixed, slices) for slices in (1, 2, 4, 7)))


def test_beyond_what_was_read_the_ends_hold() -> None:
    assert second_expert_dice(0.0, 0.1) == second_expert_dice(0.3, 1.0)
    assert second_expert_dice(1000.0, 50.0) == second_expert_dice(60.0, 8.0)
