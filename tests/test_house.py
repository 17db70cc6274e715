"""The house: few modules at the top, no two of one name, and each room hands on what other rooms use of it."""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import veridice

ROOT = Path(veridice.__file__).parent
ROOMS = sorted(
    ".".join(file.parent.relative_to(ROOT.parent).parts)
    for file in ROOT.rglob("*/__init__.py")
    if "HANDED_ON" in file.read_text(encoding="utf-8")
)


def room_of(module: str) -> str:
    return max((room for room in ROOMS if f"{module}.".startswith(f"{room}.")), key=len, default="")


@cache
def used_by_others() -> dict[str, set[str]]:
    used: dict[str, set[str]] = defaultdict(set)
    for file in ROOT.rglob("*.py"):
        own = room_of(".".join(file.relative_to(ROOT.parent).with_suffix("").parts))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and (room := room_of(node.module)) and room != own:
                names = {alias.name for alias in node.names if node.module != room}
                used[room] |= names - {node.module.rpartition(".")[2]}
    return used


def test_few_modules_stand_at_the_top() -> None:
    assert len([file for file in ROOT.iterdir() if file.suffix == ".py"]) <= 9


def test_no_two_modules_have_one_name() -> None:
    names = [file.stem for file in ROOT.rglob("*.py") if not file.stem.startswith("__")]
    names += [file.parent.name for file in ROOT.rglob("*/__init__.py")]
    assert len(names) == len(set(names)), sorted({name for name in names if names.count(name) > 1})


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_hands_on_what_others_use_of_it(room: str) -> None:
    package = import_module(room)
    assert used_by_others()[room] <= set(package.__all__)
    for name in package.__all__:
        assert getattr(package, name) is not None
