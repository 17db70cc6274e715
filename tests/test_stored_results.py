"""The results that this repository shows come from their stored case tables, and from nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from veridice.experiment.results import CASES, write_tables
from veridice.experiment.tables import REFITS

STORED = sorted(path.parent for path in (Path(__file__).parent.parent / "results").glob(f"*/{CASES}"))


def test_there_are_stored_results() -> None:
    assert "paper-sim-laptop" in [folder.name for folder in STORED]


@pytest.mark.parametrize("stored", STORED, ids=lambda folder: folder.name)
def test_tables_are_made_again_byte_for_byte(stored: Path, tmp_path: Path) -> None:
    for name in (CASES, REFITS):
        shutil.copyfile(stored / name, tmp_path / name)
    write_tables(tmp_path)
    made = sorted(path.name for path in tmp_path.iterdir())
    tables = {path.name for path in stored.iterdir() if path.suffix in (".csv", ".md")}
    assert tables - {"splits.csv", "times.csv"} == set(made)
    for name in made:
        assert (tmp_path / name).read_bytes() == (stored / name).read_bytes(), name
