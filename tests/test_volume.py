"""Geometry is checked once, at the door."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from veridice.errors import GeometryError
from veridice.volume import Geometry, Volume

OBLIQUE = np.array([[0.0, -1.8, 0.6, 3], [0.9, 0, 0, -4], [0, 0.6, 1.8, 5], [0, 0, 0, 1]])


def test_spacing_volume_and_orientation() -> None:
    geometry = Geometry((4, 5, 6), OBLIQUE)
    np.testing.assert_allclose(geometry.voxel_spacing, (0.9, np.hypot(1.8, 0.6), np.hypot(1.8, 0.6)))
    assert geometry.voxel_volume_ml == pytest.approx(0.9 * 3.6 / 1000)
    assert geometry.axis_codes == "ALS"
    assert geometry.describe() == "4x5x6 at 0.90x1.90x1.90 mm (ALS)"


@pytest.mark.parametrize(
    ("shape", "affine"),
    [
        ((4, 5), np.eye(4)),
        ((4, 5, 0), np.eye(4)),
        ((4, 5, 6), np.eye(3)),
        ((4, 5, 6), np.diag([1, 1, 0, 1])),
        ((4, 5, 6), np.diag([1, 1, np.nan, 1])),
        ((4, 5, 6), np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])),
        ((4, 5, 6), np.diag([1, 1, 1, 2])),
    ],
)
def test_unusable_grids_are_refused(shape: tuple[int, ...], affine: np.ndarray) -> None:
    with pytest.raises(GeometryError):
        Geometry(shape, affine)  # type: ignore[arg-type]


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_tiny_and_huge_voxels_are_not_singular(small: float, large: float) -> None:
    assert Geometry((2, 2, 2), np.diag([small, large, 1, 1])).voxel_spacing == pytest.approx((small, large, 1))


@given(st.floats(-0.01, 0.01))
def test_grids_are_the_same_when_their_corners_are(shift: float) -> None:
    moved = OBLIQUE.copy()
    moved[0, 3] += shift
    assert Geometry((4, 5, 6), OBLIQUE).same_grid(Geometry((4, 5, 6), moved)) == (abs(moved[0, 3] - 3) < 1e-3)


def test_a_tilt_shows_at_the_far_corner() -> None:
    tilted = np.eye(4)
    tilted[0, 2] = 1e-4
    assert not Geometry((2, 2, 200), np.eye(4)).same_grid(Geometry((2, 2, 200), tilted))


def test_geometry_and_voxels_cannot_be_changed() -> None:
    affine = np.eye(4)
    volume = Volume(np.zeros((2, 2, 2)), Geometry((2, 2, 2), affine))
    affine[0, 0] = 9
    assert volume.affine[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        volume.voxels[0, 0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        volume.affine[0, 0] = 1


def test_voxels_must_fit_the_geometry() -> None:
    with pytest.raises(GeometryError, match="shape"):
        Volume(np.zeros((2, 2, 3)), Geometry((2, 2, 2), np.eye(4)))
