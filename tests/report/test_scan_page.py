"""The report: slices where lesions and doubt are, pictures the right way round."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from veridice import cli
from veridice.cohort.ratings import RATINGS, read_rating
from veridice.metrics.catalogue import PAGE_SCORES
from veridice.metrics.scores import SCORES
from veridice.report.slices import FLATTEST, doubtful_slices, picture_size, radiological


def test_slices_with_lesion_and_doubt_are_chosen_apart() -> None:
    mask, entropy = np.zeros((4, 4, 60)), np.zeros((4, 4, 60))
    mask[:, :, 20:23] = 1
    entropy[:, :, 45] = 1
    chosen = doubtful_slices(mask, entropy, 4)
    assert chosen == sorted(chosen)
    assert {45} < set(chosen)
    assert any(20 <= z <= 22 for z in chosen)
    assert min(np.diff(chosen)) >= 5


def test_without_lesions_the_middle_is_shown() -> None:
    empty = np.zeros((4, 4, 61))
    assert 30 in doubtful_slices(empty, empty, 1)


def test_a_thin_volume_gives_what_it_has() -> None:
    assert doubtful_slices(np.ones((4, 4, 2)), np.ones((4, 4, 2)), 4) == [0, 1]


def test_pictures_follow_radiological_convention() -> None:
    # Canonical axes are right to left = +x to -x; front = +y.
    slice_ = np.zeros((3, 5))
    slice_[2, 4] = 1  # right, front
    picture = radiological(slice_)
    assert picture.shape == (5, 3)
    assert picture[0, 0] == 1  # upper left of the picture


@pytest.mark.parametrize("spacing", [(0.3, 100.0, 1.0), (90.0, 0.05, 1.0), (1.0, 1.0, 1.0)])
def test_flat_voxels_make_no_gigantic_picture(spacing: tuple[float, ...]) -> None:
    width, height = picture_size((40, 50, 3), np.array(spacing))
    assert max(width, height) / min(width, height) <= FLATTEST
    if spacing == (1.0, 1.0, 1.0):
        assert (width, height) == (40, 50)


def test_every_score_is_explained() -> None:
    assert set(SCORES) <= set(PAGE_SCORES)


@pytest.fixture
def page_file(scan_files: dict[str, Path]) -> Path:
    """Report of the tiny scan under a name that is a script."""
    files = [f"--{name}={path}" for name, path in scan_files.items()]
    assert cli.run(["check", "--passes=2", "--case=</script><img src=x onerror=alert(1)>", *files]) == 0
    return next(scan_files["output"].glob("*_report.html"))


def test_a_rating_is_exported_and_read_again(page_file: Path, opened: Any) -> None:
    page = opened(page_file)
    page.locator("input[value='needs edit']").check()
    page.get_by_label("missed lesions").check()
    page.get_by_label("Comment").fill('brain stem </script><b>"')
    page.get_by_label("Rater").fill("R2")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save rating").click()
    name = download.value.suggested_filename
    assert name == page_file.name.replace("_report.html", "_rating.json")
    download.value.save_as(page_file.with_name(name))
    said = json.loads(page_file.with_name(name).read_text())
    assert said["Reasons"] == ["missed lesions"]
    assert said["Comment"] == 'brain stem </script><b>"'
    assert said["JudgedMask"] == "mask.nii.gz"
    assert said["Rating"] in RATINGS
    assert read_rating(page_file.with_name(name)) == ("needs edit", "")
    page_file.with_name(name).write_text('{"Rating": "<b>"}')
    assert read_rating(page_file.with_name(name)).value is None


def test_a_rating_needs_a_choice(page_file: Path, opened: Any) -> None:
    page = opened(page_file)
    page.get_by_role("button", name="Save rating").click()
    assert page.locator("input:invalid").count() == 3
    assert "put beside" in page.locator("#rated").inner_text()
