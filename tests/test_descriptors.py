"""What other programs read of veridice: its citation, and its Boutiques descriptor."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from veridice import __version__, cli

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def descriptor() -> dict[str, Any]:
    return json.loads((ROOT / "boutiques/veridice-run.json").read_text(encoding="utf-8"))


def test_the_descriptor_is_valid(descriptor: dict[str, Any]) -> None:
    validator = pytest.importorskip("boutiques.validator", reason="boutiques is not installed: pip install veridice[dev]")
    validator.validate_descriptor(descriptor)
    assert descriptor["tool-version"] == __version__


def test_the_descriptor_is_that_of_the_command(descriptor: dict[str, Any]) -> None:
    """Every argument and option of ``run`` and nothing else, as `make docs` writes them."""
    command = typer.main.get_command(cli.app).commands["run"]
    real = {parameter.name: parameter for parameter in command.params if parameter.name != "help"}
    described = {entry["id"]: entry for entry in descriptor["inputs"]}
    assert list(described) == list(real)
    for name, entry in described.items():
        assert entry["optional"] is not real[name].required
        if not real[name].required:
            assert entry["command-line-flag"] in (*real[name].opts, *real[name].secondary_opts)
    place = ROOT / "scripts/boutiques_descriptor.py"
    spec = importlib.util.spec_from_file_location("boutiques_descriptor", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert descriptor == module.descriptor(), f"run python {place.relative_to(ROOT)} boutiques/veridice-run.json"


def test_the_citation_is_one() -> None:
    """What version 1.2 of the Citation File Format demands, and what changes with a release."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert citation["authors"] == [{"name": "The veridice developers"}]
    assert (citation["version"], citation["license"]) == (__version__, "Apache-2.0")


@pytest.mark.parametrize(
    ("typed", "number", "offered"), [("veridice ch", 1, "check"), ("veridice run a b group --dry", 5, "--dry-run")]
)
def test_the_shell_completes(
    typed: str, number: int, offered: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_VERIDICE_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(number))
    assert cli.run([]) == 0
    assert capsys.readouterr().out.split() == [offered]


def test_version_names_the_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["--version"]) == 0
    card = json.loads((ROOT / "src/veridice/weights/segmenter.json").read_text(encoding="utf-8"))
    told = f"(weights: {card['configuration']} of {card['created']}, {card['sha256'][:8]})"
    assert capsys.readouterr().out == f"veridice {__version__} {told}\n"
