"""Ratings that people put beside the pages: read, or named with what is wrong with them."""

from __future__ import annotations

import json
import os
from importlib import resources
from pathlib import Path

import pytest

from veridice.cohort.ratings import LARGEST_RATING, REASONS, doubtful_ratings, read_rating

GOOD = {
    "Format": 1,
    "Scan": "sub-01",
    "JudgedMask": "own",
    "Rating": "needs edit",
    "Reasons": ["missed lesions"],
    "Comment": "brain stem",
    "Rater": "R2",
}
ODD: dict[str, tuple[str, str | None, str]] = {
    "good": (json.dumps(GOOD), "needs edit", ""),
    "with a byte order mark": ("\ufeff" + json.dumps(GOOD), "needs edit", ""),
    "rating alone": ('{"Rating": "reject"}', "reject", ""),
    "empty": ("", None, "is no JSON"),
    "cut short": (json.dumps(GOOD)[:40], None, "is no JSON"),
    "deep": ("[" * 9999, None, "is no JSON"),
    "a list": ("[1]", None, "has no Rating that is one of accept, needs edit, reject"),
    "no rating": ('{"Reasons": []}', None, "has no Rating"),
    "unknown rating": ('{"Rating": "fine"}', None, "has no Rating"),
    "rating of a list": ('{"Rating": ["accept"]}', None, "has no Rating"),
    "too large": (json.dumps({**GOOD, "Comment": "x" * LARGEST_RATING}), None, "is larger than 64 KiB"),
    "of another scan": (json.dumps({**GOOD, "Scan": "sub-02"}), None, "is of Scan 'sub-02', not of 'sub-01'"),
    "of another mask": (json.dumps({**GOOD, "JudgedMask": "m.nii"}), None, "is of JudgedMask 'm.nii', not of 'own'"),
    "unknown reason": (json.dumps({**GOOD, "Reasons": ["boredom"]}), "needs edit", "has an unknown reason 'boredom'"),
    "reason of a list": (json.dumps({**GOOD, "Reasons": [["boredom"]]}), "needs edit", "has an unknown reason"),
    "reasons of a text": (json.dumps({**GOOD, "Reasons": "boredom"}), "needs edit", "has Reasons that are no list"),
    "format of tomorrow": (json.dumps({**GOOD, "Format": 2}), "needs edit", "has the unknown Format '2'"),
    "comment of a number": (json.dumps({**GOOD, "Comment": 2}), "needs edit", "has a Comment that is no text"),
}


@pytest.mark.parametrize("name", ODD)
def test_a_rating_is_read_or_named(name: str, tmp_path: Path) -> None:
    text, value, complaint = ODD[name]
    file = tmp_path / "sub-01" / "sub-01_rating.json"
    file.parent.mkdir()
    file.write_text(text)
    found = read_rating(file, "sub-01", "own")
    assert found.value == value and found.complaint.startswith(complaint) and bool(found.complaint) == bool(complaint)
    said = doubtful_ratings(tmp_path, [("sub-01/sub-01_veridice.json", "own")])
    assert len(said) == bool(complaint)
    if complaint:
        assert said[0].startswith(f"rating sub-01/sub-01_rating.json {complaint}")
        assert said[0].endswith("it counts all the same" if value else "it counts for nothing")


def test_what_is_no_file_of_a_scan_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "sub-01_rating.json")
    (tmp_path / "sub-02_rating.json").symlink_to("nowhere")
    (tmp_path / "sub-01_rating (1).json").write_text(json.dumps(GOOD))
    # Of a scan that this table is not about.
    (tmp_path / "sub-03_rating.json").write_text("")
    (tmp_path / "sub-03_veridice.json").touch()
    judged = [("sub-01_veridice.json", "own"), ("sub-02_veridice.json", "own")]
    assert doubtful_ratings(tmp_path, judged) == [
        "rating sub-01_rating (1).json belongs to no scan here: give it the name SCAN_rating.json",
        "rating sub-01_rating.json is no file: it counts for nothing",
        "rating sub-02_rating.json cannot be read (No such file or directory): it counts for nothing",
    ]
    for number in range(9):
        (tmp_path / f"x{number}_rating.json").touch()
    assert doubtful_ratings(tmp_path, judged)[-1] == "7 more ratings cannot be used or only in part"


def test_the_page_offers_the_reasons_that_are_known() -> None:
    page = resources.files("veridice.report").joinpath("templates/report.html.j2").read_text(encoding="utf-8")
    assert f"for reason in ({', '.join(json.dumps(reason) for reason in REASONS)})" in page
