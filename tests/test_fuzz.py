"""Files with changed bytes: those that once went wrong, some new ones each time, and ten minutes of them on request."""

from __future__ import annotations

import json
import logging
import subprocess
from pathlib import Path

import fuzzing
import numpy as np
import pytest

FUZZ = Path(__file__).parent.parent / "scripts" / "fuzz"


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    # cli.main silences it, which tests do not go through.
    monkeypatch.setattr(logging.getLogger("nibabel.global"), "level", logging.CRITICAL)


@pytest.mark.parametrize("base", [*fuzzing.BASES, fuzzing.DICOM])
def test_the_good_files_are_good(base: str) -> None:
    assert fuzzing.try_example(fuzzing.Example(base)).startswith("read")


@pytest.mark.parametrize("name", sorted(path.name for path in fuzzing.SEEDS.glob("*.json")))
@pytest.mark.filterwarnings("ignore")
def test_what_once_went_wrong(name: str, tiny_weights_once: Path) -> None:
    fuzzing.try_example(fuzzing.load_example(fuzzing.SEEDS / name), tiny_weights_once)


@pytest.mark.filterwarnings("ignore")
def test_some_examples(tiny_weights_once: Path) -> None:
    rng = np.random.default_rng(11)
    for number in range(60):
        example = fuzzing.draw_example(rng, dicom_share=0.02)
        try:
            fuzzing.try_example(example, tiny_weights_once if number % 100 == 0 else None)
        except Exception as error:
            raise AssertionError(f"{example} went wrong; keep it in tests/fuzz_seeds") from error


def test_an_example_is_its_recipe(tmp_path: Path) -> None:
    example = fuzzing.draw_example(np.random.default_rng(3))
    (tmp_path / "stored.json").write_text(fuzzing.json.dumps(fuzzing.asdict(example)))
    assert fuzzing.load_example(tmp_path / "stored.json") == example
    contents = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        contents.append(fuzzing.write_example(example, tmp_path / folder).read_bytes())
    assert contents[0] == contents[1]


@pytest.mark.slow
def test_ten_minutes_of_examples() -> None:
    """In a process of its own, whose memory is limited."""
    done = subprocess.run([str(FUZZ), "--minutes", "10"], capture_output=True, text=True, timeout=900, check=True)
    assert json.loads(done.stdout)["wrong"] == []
