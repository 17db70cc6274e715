"""Two visits of one person: brought halfway, compared, told in the study's tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from command import one_after_the_other, veridice
from desk_study import write_scan

from veridice.cohort.visits import contradiction, halfway, poor_mask
from veridice.imaging.registration import Alignment
from veridice.imaging.volume import Geometry, Volume
from veridice.io.atomic import write_json
from veridice.quality.volume_change import LEAST_ML, NOISE, VOLUME_SHARE, WITHIN, VisitVolume, doubt, volume_change


def turned(angle: float, shift: tuple[float, float, float]) -> np.ndarray:
    cosine, sine = np.cos(angle), np.sin(angle)
    move = np.eye(4)
    move[:3, :3] = [[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]]
    move[:3, 3] = shift
    return move


def test_both_masks_come_to_lie_on_each_other_halfway() -> None:
    """A ball at one place of the head, seen from two places of the scanner, on grids of other voxels."""
    move = turned(0.3, (8.0, -5.0, 3.0))
    centre, masks = np.array([4.0, 10.0, -6.0]), []
    for spacing, place in (((1.0, 1.0, 2.0), np.eye(4)), ((1.5, 1.2, 1.0), move)):
        affine = np.diag([*spacing, 1.0])
        affine[:3, 3] = (-40, -40, -40)
        shape = tuple(int(80 / edge) for edge in spacing)
        index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
        there = (place @ [*centre, 1])[:3]
        ball = np.linalg.norm(index * spacing + affine[:3, 3] - there, axis=-1) < 7
        masks.append(Volume(ball, Geometry(shape, affine)))  # type: ignore[arg-type]
    first, second = halfway(masks, Alignment(move, 10.0, 17.0, ""))
    both = (first.voxels & second.voxels).sum()
    assert 2 * both / (first.voxels.sum() + second.voxels.sum()) > 0.9
    assert first.voxels.sum() * first.geometry.voxel_volume_ml == pytest.approx(4 / 3 * np.pi * 0.343, rel=0.05)


def test_an_empty_mask_is_no_error_halfway() -> None:
    geometry = Geometry((8, 8, 8), np.eye(4))
    empty = Volume(np.zeros((8, 8, 8), bool), geometry)
    first, second = halfway([empty, empty], Alignment(np.eye(4), 0.0, 0.0, ""))
    assert not first.voxels.any()
    assert first.geometry.same_grid(second.geometry)


def test_a_change_is_told_when_it_is_larger_than_its_doubt() -> None:
    one, same = VisitVolume(10.0, (9.0, 10.0, 12.0), "a"), VisitVolume(10.0, (9.1, 10.2, 12.0), "a")
    error = doubt(one, same)
    assert error == pytest.approx(np.sqrt(np.std([0.1, 0.2, 0.0], ddof=1) ** 2 + (VOLUME_SHARE * 10) ** 2 + LEAST_ML**2))
    change = volume_change(one, replace(same, volume_ml=10.0 + 1.1 * NOISE * error))
    assert change.more_than_noise
    assert change.low < change.change < change.high
    still = volume_change(one, same)
    assert not still.more_than_noise
    assert (still.change, still.least) == (0.0, pytest.approx(NOISE * error))
    assert still.high - still.low == pytest.approx(2 * WITHIN * error)


@pytest.mark.parametrize("other", [{"drawn_with": "b"}, {"passes_ml": (9.0, 10.0)}, {"passes_ml": ()}])
def test_passes_that_were_not_drawn_alike_are_compared_by_their_deviations(other: dict[str, Any]) -> None:
    one = VisitVolume(10.0, (9.0, 10.0, 12.0), "a")
    changed = replace(one, **other)
    expected = np.hypot(one.deviation, changed.deviation)
    assert doubt(one, changed) == pytest.approx(np.sqrt(expected**2 + (VOLUME_SHARE * 10) ** 2 + LEAST_ML**2))
    assert doubt(one, changed) > doubt(one, one)


def test_nothing_at_both_visits_is_no_change() -> None:
    nothing = VisitVolume(0.0)
    assert doubt(nothing, nothing) == LEAST_ML
    assert not volume_change(nothing, nothing).more_than_noise


def test_visits_contradict_each_other_only_where_both_masks_look_good() -> None:
    assert contradiction(0.7, (10, 10), (0.85, 0.85)) == ""
    assert "rather that of the later visit" in contradiction(0.2, (10, 10), (0.85, 0.8))
    assert contradiction(0.2, (10, 10), (0.85, 0.4)) == ""
    assert contradiction(0.2, (1, 10), (0.85, 0.8)) == ""  # what was lost explains it
    assert contradiction(1.0, (0, 0), (0.9, 0.9)) == ""


def test_a_poor_mask_is_named_before_its_change_is_believed() -> None:
    assert poor_mask((0.8, 0.6)) == ""
    assert "of the earlier visit is expected to be poor (0.37)" in poor_mask((0.37, 0.72))
    assert "of the later visit" in poor_mask((0.5, 0.3))


def test_the_group_tells_what_changed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("veridice.parallel.in_processes", one_after_the_other)
    root = tmp_path / "study"
    root.mkdir()
    write_json(root / "dataset_description.json", {"Name": "visits <b>", "BIDSVersion": "1.10.0"})
    geometry = Geometry((24, 26, 20), np.diag([4.0, 4.0, 4.0, 1.0]))
    for name in ("sub-1_ses-1", "sub-1_ses-2", "sub-1_ses-3", "sub-2_ses-1"):
        write_scan(root, name, 0, geometry)
    out = root / "derivatives" / "veridice"
    for _ in range(2):
        done = veridice("run", root, out, "group", "--n-jobs", "1")
        assert done.returncode == 0, done.stderr
        assert "2 pairs of visits, 0 with a change beyond noise" in done.stderr
    table = pd.read_csv(out / "visits.tsv", sep="\t")
    assert table["first"].tolist() == ["sub-1_ses-1", "sub-1_ses-2"]
    assert (table["change_ml"] == 0).all()
    assert set(table["more_than_noise"]) == {"no"}
    page = (out / "visits.html").read_text()
    assert "visits &lt;b&gt;" in page
    assert "<script" not in page
    stored = sorted((out / "visits").iterdir())
    assert [file.name for file in stored] == ["sub-1_ses-1_to_2.json", "sub-1_ses-2_to_3.json"]
    assert str(tmp_path) not in "".join(file.read_text() for file in stored)
