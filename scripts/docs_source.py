"""What the site is built from: the pages of docs/, and those that are made from the code so that they cannot go stale.

python scripts/docs_source.py build/docs-source
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import typer
from model_card import model_card
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from veridice import cli
from veridice.config import InferenceSettings, Task
from veridice.experiment.protocol import ExperimentSettings
from veridice.federated.federation import Federation
from veridice.training.settings import TrainingSettings

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/veridice"
OUTSIDE = re.compile(r"\]\((?:\.\./)+((?:results|data|README|CONTRIBUTING|CHANGELOG|LICENSE)[^)#\s]*)")
"""Links to files of the repository that are no pages."""


def main(target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(ROOT / "docs", target)
    for page in sorted(target.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        page.write_text(OUTSIDE.sub(lambda link, page=page: _carried(link[1], page, target), text), encoding="utf-8")
    _fill(target / "reference/commands.md", "\n".join(_commands()))
    _fill(target / "reference/configuration.md", "\n".join(_settings()))
    _fill(target / "reference/model-card.md", "\n".join(model_card()))
    _api(target / "reference/api")


def _carried(name: str, page: Path, target: Path) -> str:
    """The file beside the pages, and the link to it from this page. A Markdown file would become a page of its own."""
    source, copy = ROOT / name, target / "repository" / name
    if source.is_file() and source.suffix in ("", ".md"):
        copy = copy.with_name(f"{copy.name}.txt")
    copy.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.md"))
        copy = copy / "summary.html"
    else:
        shutil.copyfile(source, copy)
    up = "../" * (len(page.relative_to(target).parts) - 1)
    return f"]({up}{copy.relative_to(target).as_posix()}"


def _fill(page: Path, made: str) -> None:
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("<!-- made by scripts/docs -->", made), encoding="utf-8")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", r"\|").replace("<", "&lt;")


def _commands() -> Iterator[str]:
    """A section for each command: what it does, its arguments and its options, as the program itself knows them."""
    for name, command in _leaves(typer.main.get_command(cli.app)):
        yield f"## veridice {name}\n\n{' '.join((command.help or '').split())}\n"
        yield "| argument or option | default | what |\n|---|---|---|"
        for parameter in command.params:
            if parameter.name != "help":
                names = ", ".join(f"`{spelled}`" for spelled in (*parameter.opts, *parameter.secondary_opts))
                repeated = " May be given several times." if getattr(parameter, "multiple", False) else ""
                yield f"| {names} | {_default(parameter)} | {_cell(parameter.help or '')}{repeated} |"
        yield ""


def _leaves(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Commands by what is typed; those of a group after its name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _leaves(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    return "" if parameter.default in (None, (), False) else f"`{parameter.default}`".lower()


def _settings() -> Iterator[str]:
    """A table for each group of settings."""
    groups = (
        ("A task: what is segmented", Task),
        ("Judging a scan", InferenceSettings),
        ("Training", TrainingSettings),
        ("The experiment", ExperimentSettings),
        ("A federation", Federation),
    )
    for title, model in groups:
        yield f"## {title}\n"
        yield from _table(model, "")


def _table(model: type[BaseModel], prefix: str) -> Iterator[str]:
    nested: list[tuple[str, type[BaseModel]]] = []
    yield "| field | default | what |\n|---|---|---|"
    for name, field in model.model_fields.items():
        inner = next((kind for kind in (field.annotation, *get_args(field.annotation)) if _is_model(kind)), None)
        if inner is not None:
            nested.append((f"{prefix}{name}", inner))
        default = "" if field.default is PydanticUndefined or inner else f"`{field.default!r}`"
        yield f"| `{name}` | {_cell(default)} | {_cell(field.description or ('see below' if inner else ''))} |"
    yield ""
    for name, inner in nested:
        yield f"### `[{name}]`\n"
        yield from _table(inner, f"{name}.")


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _api(folder: Path) -> None:
    """A page for each room, with all its modules; one for the modules that every room may use."""
    folder.mkdir(parents=True, exist_ok=True)
    rooms = sorted(path.parent for path in PACKAGE.glob("*/__init__.py"))
    for room in rooms:
        modules = [path for path in sorted(room.rglob("*.py")) if path.name != "__init__.py" or path.parent == room]
        _write_api(folder / f"{room.name}.md", room.name, modules)
    _write_api(folder / "shared.md", "Shared modules", sorted(PACKAGE.glob("[a-z]*.py")))


def _write_api(page: Path, title: str, modules: list[Path]) -> None:
    parts = [f"# {title}\n"]
    for path in modules:
        dotted = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        if path.read_text(encoding="utf-8").strip():
            parts.append(f"::: {dotted}\n")
    page.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
