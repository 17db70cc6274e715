"""The Boutiques descriptor of ``veridice run``, from the command itself.

python scripts/boutiques_descriptor.py boutiques/veridice-run.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import typer

from veridice import __version__, cli
from veridice.cli.study_commands import LEVELS

NAMES = {"bids_dir": "Data set", "output_dir": "Output folder", "level": "Level"}
OUTPUTS = (
    ("table", "Table of the study", "veridice.tsv", "One row a scan, the most worth a look first; made at the level group."),
    ("dictionary", "Dictionary of the table", "veridice.json", "What each column of the table means."),
    ("report", "Report of the study", "report.html", "Worklist and plots on one page; made at the level group."),
    ("results", "Results of each scan", "sub-*", "Maps, tables, JSON and a page of each scan; made at the level participant."),
)
ERRORS = (
    (1, "an internal error, or some scans of the study could not be judged; the others are finished"),
    (2, "wrong usage"),
    (3, "the input cannot be judged; the message says why"),
    (130, "interrupted; the same command goes on"),
)


def descriptor() -> dict[str, Any]:
    """The descriptor, ready to be stored as JSON."""
    command = typer.main.get_command(cli.app).commands["run"]  # type: ignore[attr-defined]
    inputs = [_input(parameter) for parameter in command.params if parameter.name != "help"]
    return {
        "name": "veridice run",
        "description": "Can this lesion mask be trusted? Judges the segmentation of white-matter lesions of every FLAIR in "
        "a BIDS data set: predicted Dice with an interval, maps of doubt, and a verdict. "
        "Research use only; not a medical device.",
        "author": "The veridice developers",
        "tool-version": __version__,
        "schema-version": "0.5",
        "command-line": " ".join(["veridice run", *(entry["value-key"] for entry in inputs)]),
        "inputs": inputs,
        "output-files": [
            {"id": name, "name": title, "description": text, "path-template": f"[OUTPUT_DIR]/{path}", "optional": True}
            for name, title, path, text in OUTPUTS
        ],
        "error-codes": [{"code": code, "description": text} for code, text in ERRORS],
        "suggested-resources": {"cpu-cores": 2, "ram": 6},
        "tags": {"domain": ["neuroinformatics", "mri"], "bids-app": True},
    }


def _input(parameter: Any) -> dict[str, Any]:
    """An argument or option; without a default the program's own holds, which its help names."""
    kind = parameter.type_descriptor.annotation
    entry: dict[str, Any] = {
        "id": parameter.name,
        "name": NAMES.get(parameter.name, parameter.name.replace("_", " ").capitalize()),
        "description": parameter.help,
        "value-key": f"[{parameter.name.upper()}]",
        "optional": not parameter.required,
    }
    if parameter.name == "level":
        return {**entry, "type": "String", "value-choices": list(LEVELS)}
    if not parameter.required:
        entry["command-line-flag"] = (parameter.secondary_opts or parameter.opts)[0]
    if getattr(parameter, "is_flag", False):
        # What is on by default is named by what turns it off.
        off = parameter.secondary_opts and parameter.default is True
        said = f"Do not {parameter.help[0].lower()}{parameter.help[1:]}" if off else parameter.help
        return {**entry, "description": said, "type": "Flag"}
    if getattr(parameter, "multiple", False):
        entry["list"] = True
    if parameter.name == "output_dir" or kind not in (int, float, Path):
        return {**entry, "type": "String"}
    if kind is Path:
        return {**entry, "type": "File"}
    limits = {"minimum": parameter.min, "maximum": parameter.max}
    number = {"type": "Number", **{name: limit for name, limit in limits.items() if limit is not None}}
    return {**entry, **number, **({"integer": True} if kind is int else {})}


def main(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(descriptor(), indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
