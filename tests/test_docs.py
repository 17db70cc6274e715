"""The documentation holds together: links lead somewhere, names are those of today, and the site needs no network."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
READ = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "data/README.md")] + PAGES
LINK = re.compile(r"\]\(([^)\s]+)\)")
MODULE = re.compile(r"`((?:[a-z_]+/)*[a-z_0-9]+\.py)`")


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


def anchors(page: Path) -> set[str]:
    """Of the headings, as the site and GitHub make them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", READ, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith(("http:", "https:")):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{named(page)}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{named(page)}: {link}"


@pytest.mark.parametrize("page", READ, ids=named)
def test_modules_are_those_of_today(page: Path) -> None:
    package = ROOT / "src/veridice"
    files = {str(path.relative_to(package)) for path in package.rglob("*.py")}
    for module in MODULE.findall(page.read_text(encoding="utf-8")):
        known = (ROOT / module).exists() or any(path == module or path.endswith(f"/{module}") for path in files)
        assert known, f"{named(page)}: no module {module}"


def test_architecture_names_every_room() -> None:
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in (ROOT / "src/veridice").glob("*/__init__.py")}
    assert set(re.findall(r"^\| `([a-z]+)` \|", text, flags=re.MULTILINE)) == rooms


def test_every_page_is_in_the_navigation() -> None:
    """And every room has its page of the Python interface, which is made from the code."""

    def listed(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        for inner in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
            yield from listed(inner)

    navigation = set(listed(tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]))
    rooms = [path.parent.name for path in (ROOT / "src/veridice").glob("*/__init__.py")]
    made = {f"reference/api/{name}.md" for name in (*rooms, "shared")}
    assert navigation == {str(page.relative_to(ROOT / "docs")) for page in PAGES} | made


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 130


@pytest.mark.slow
def test_the_site_needs_no_network(opened: Callable[..., Any]) -> None:
    """Built in strict mode; pages that ask for anything but files fail in ``opened``. Search works from the file system."""
    pytest.importorskip("zensical", reason="zensical is not installed: pip install veridice[dev]")
    source = [sys.executable, "scripts/docs_source.py", "build/docs-source"]
    for command in (source, [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]):
        subprocess.run(command, check=True, cwd=ROOT)
    for name in ("index", "results", "reference/commands", "reference/api/assessment"):
        opened(ROOT / f"build/docs/{name}.html")
    page = opened(ROOT / "build/docs/tutorials/one-scan.html", viewport={"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page = opened(ROOT / "build/docs/tutorials/one-scan.html")
    page.keyboard.press("Control+k")
    field = page.locator("input:visible").last
    field.press_sequentially("conformal", delay=50)
    page.get_by_text("What the verdict promises").last.wait_for()
    assert field.input_value() == "conformal"
