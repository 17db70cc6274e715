"""A second contrast is brought onto the FLAIR, or it is said that this is doubtful."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from veridice.imaging.registration import align, resample_aligned
from veridice.imaging.volume import Geometry, Volume

OBLIQUE = np.array([[-3.9, 0.6, 0, 80], [0.6, 3.8, 0, -90], [0, 0, 5.0, -70], [0, 0, 0, 1.0]])


def head(geometry: Geometry, contrast: str) -> Volume:
    """An egg with a dark hollow off its middle, bright tissue outside it: no two turns of it look alike."""
    places = np.stack(np.meshgrid(*[np.arange(n) for n in geometry.shape], indexing="ij"), axis=-1)
    x, y, z = np.moveaxis(places @ geometry.affine[:3, :3].T + geometry.affine[:3, 3], -1, 0)
    skull = (x / 62) ** 2 + ((y + 8) / 78) ** 2 + (z / 55) ** 2
    hollow = ((x - 12) / 16) ** 2 + ((y - 14) / 30) ** 2 + ((z - 9) / 12) ** 2
    bump = ((x + 30) / 14) ** 2 + ((y + 30) / 12) ** 2 + ((z + 14) / 16) ** 2
    bump = np.minimum(bump, ((x - 35) / 12) ** 2 + ((y + 40) / 20) ** 2 + ((z + 25) / 14) ** 2)
    bump = np.minimum(bump, ((x + 20) / 20) ** 2 + ((y - 42) / 10) ** 2 + ((z - 28) / 12) ** 2)
    values = {"flair": (600, 100, 900), "t1": (800, 250, 500)}[contrast]
    image = np.where(skull < 1, values[0], 0)
    image = np.where(hollow < 1, values[1], np.where(bump < 1, values[2], image))
    noise = np.random.default_rng(len(contrast)).normal(0, 15, geometry.shape)
    return Volume((ndimage.gaussian_filter(image.astype(float), 0.6) + noise).astype(np.float32), geometry)


def rigid(degrees: tuple[float, float, float], shift: tuple[float, float, float]) -> np.ndarray:
    move = np.eye(4)
    for (i, j), angle in zip(((0, 1), (0, 2), (1, 2)), np.deg2rad(degrees), strict=True):
        turn = np.eye(4)
        turn[[i, j], [i, j]] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        move = turn @ move
    move[:3, 3] = shift
    return move


FLAIR = head(Geometry((40, 46, 28), OBLIQUE), "flair")
T1 = Geometry((44, 52, 36), np.diag([4.0, -3.5, 3.7, 1.0]) + np.array([[0, 0, 0, -86], [0, 0, 0, 90], [0, 0, 0, -66], [0] * 4]))


@pytest.mark.parametrize("move", [rigid((0, 0, 0), (0, 0, 0)), rigid((8, -5, 6), (9, -12, 7))])
def test_a_moved_image_is_brought_back(move: np.ndarray) -> None:
    still = head(T1, "t1")
    found = align(FLAIR, Volume(still.voxels, Geometry(T1.shape, move @ T1.affine)))
    corners = np.array([[x, y, z, 1.0] for x in (-60, 60) for y in (-70, 70) for z in (-50, 50)])
    assert np.linalg.norm(((found.move - move) @ corners.T)[:3], axis=0).max() < 2.0
    assert found.doubt == ""
    moved = Volume(still.voxels, Geometry(T1.shape, move @ T1.affine))
    shown = resample_aligned(moved, found, FLAIR.geometry)
    wanted = head(FLAIR.geometry, "t1")
    assert np.corrcoef(shown.voxels.ravel(), wanted.voxels.ravel())[0, 1] > 0.97
    again = align(FLAIR, moved)
    assert (again.move == found.move).all()


def test_noise_is_doubtful() -> None:
    noise = Volume(np.random.default_rng(0).random(T1.shape).astype(np.float32), T1)
    assert "nothing in common" in align(FLAIR, noise).doubt


def test_images_that_do_not_meet_are_doubtful() -> None:
    far = T1.affine.copy()
    far[:3, 3] += 2000
    assert align(FLAIR, Volume(head(T1, "t1").voxels, Geometry(T1.shape, far))).doubt


def test_what_lies_outside_is_the_background() -> None:
    still = head(T1, "t1")
    found = align(FLAIR, still)
    shown = resample_aligned(
        still, found, Geometry((60, 60, 60), np.diag([5.0, 5, 5, 1]) + np.pad([[-150]] * 3, ((0, 1), (3, 0))))
    )
    assert shown.voxels[0, 0, 0] == pytest.approx(still.voxels.min())


def test_an_image_that_lies_well_is_not_moved() -> None:
    found = align(FLAIR, head(FLAIR.geometry, "t1"))
    assert (found.distance, found.doubt) == (0.0, "")
    np.testing.assert_array_equal(found.move, np.eye(4))


def test_one_hot_voxel_does_not_decide_the_move() -> None:
    move = rigid((8, -5, 6), (9, -12, 7))
    hot = head(T1, "t1").voxels.copy()
    hot[22, 26, 18] = 1e5
    found = align(FLAIR, Volume(hot, Geometry(T1.shape, move @ T1.affine)))
    assert found.doubt == "" and np.abs(found.move - move).max() < 2.0


@pytest.mark.parametrize(("first", "searches"), [((0.0, 0.0, 0.0), 1), ((6.0, 0.0, 0.0), 2)], ids=["stays", "moves"])
def test_a_search_that_ran_away_is_no_doubt_where_the_header_is_right(
    first: tuple[float, float, float], searches: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from veridice.imaging import registration

    starts = []

    def runs_away(*arguments: object) -> tuple[np.ndarray, float]:
        start = np.asarray(arguments[3])
        starts.append(start)
        return (rigid((0, 0, 40), (60, 0, 0)), -0.3) if start.any() else (rigid((0, 0, 0), first), -0.5)

    monkeypatch.setattr(registration, "_search", runs_away)
    found = registration.align(FLAIR, head(FLAIR.geometry, "t1"))
    assert len(starts) == searches and (found.distance, found.doubt) == (0.0, "")
