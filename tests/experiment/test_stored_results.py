"""The results that this repository shows come from their stored case tables, and from nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest

from veridice.experiment.results.tables import REFITS
from veridice.experiment.results.write import CASES, CLASSES, write_tables
from veridice.io.weight_cards import bundled_weights
from veridice.quality.calibration import dice_intervals
from veridice.quality.model import load_quality_model

RESULTS = Path(__file__).parents[2] / "results"
STORED = sorted(path.parent for path in RESULTS.glob(f"*/{CASES}"))


def test_there_are_stored_results() -> None:
    assert "paper-sim-laptop" in [folder.name for folder in STORED]


SLOW = {"paper-sim-laptop", "hippocampus"}
"""Of 105 and 220 people instead of ten, of whom all are drawn again 2,000 times; the way to the tables is the same."""


@pytest.mark.parametrize(
    "stored",
    [pytest.param(folder, marks=[pytest.mark.slow] * (folder.name in SLOW)) for folder in STORED],
    ids=lambda folder: folder.name,
)
def test_tables_are_made_again_byte_for_byte(stored: Path, tmp_path: Path) -> None:
    for name in (CASES, REFITS, CLASSES, "settings.toml"):
        if (stored / name).exists():
            shutil.copyfile(stored / name, tmp_path / name)
    write_tables(tmp_path)
    made = sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".toml")
    tables = {path.name for path in stored.iterdir() if path.suffix in (".csv", ".md")}
    assert tables - {"splits.csv", "times.csv"} == set(made)
    for name in made:
        assert (tmp_path / name).read_bytes() == (stored / name).read_bytes(), name


def test_the_interval_that_ships_keeps_its_promise_on_people_who_did_not_calibrate_it() -> None:
    masks = pd.read_csv(RESULTS / "judge" / "people-coverage-masks.csv.gz", keep_default_na=False, na_values=[""])
    masks = masks[masks["lesion_count"] > 0]
    assert masks["person"].nunique() >= 500
    judge = load_quality_model(bundled_weights())
    predicted, spread = judge.predictor.predict(masks)
    low, high = dice_intervals(judge.calibration, predicted, spread, 0.9).T
    assert 0.87 <= masks["dice"].between(low, high).mean() <= 0.93
    known = (masks["unfamiliarity"] <= 1) & (masks["doubts"] == 0)
    assert known.mean() > 0.7
