"""Geometry is checked once, at the door."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from veridice.errors import GeometryError
from veridice.imaging.volume import Geometry, Volume

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


@given(st.floats(-0.2, 0.2))
def test_grids_are_the_same_when_their_corners_are(shift: float) -> None:
    moved = OBLIQUE.copy()
    moved[:3, 3] += OBLIQUE[:3, 1] * shift
    assume(abs(abs(shift) - 0.1) > 1e-9)
    assert Geometry((4, 5, 6), OBLIQUE).same_grid(Geometry((4, 5, 6), moved)) == (abs(shift) < 0.1)


def test_a_tilt_shows_at_the_far_corner() -> None:
    tilted = np.eye(4)
    tilted[0, 2] = 1e-3
    assert Geometry((2, 2, 90), np.eye(4)).same_grid(Geometry((2, 2, 90), tilted))
    assert not Geometry((2, 2, 200), np.eye(4)).same_grid(Geometry((2, 2, 200), tilted))


@given(st.permutations(range(3)), st.tuples(*[st.sampled_from([-1, 1])] * 3), st.floats(-0.05, 0.05))
def test_voxels_of_the_same_places_in_any_order_are_brought_back_exactly(
    axes: list[int], flips: tuple[int, int, int], shift: float
) -> None:
    voxels = np.arange(120).reshape(4, 5, 6)
    orientation = np.array([*zip(axes, flips, strict=True)])
    stored = nib.Nifti1Image(voxels.astype(np.int16), OBLIQUE).as_reoriented(orientation)
    affine = stored.affine.copy()
    affine[:3, 3] += OBLIQUE[:3, 0] * shift
    grid = Geometry((4, 5, 6), OBLIQUE)
    back = Volume(np.asarray(stored.dataobj), Geometry(stored.shape, affine)).on(grid)
    assert back is not None and back.geometry is grid
    np.testing.assert_array_equal(back.voxels, voxels)


def test_another_place_in_any_order_is_none() -> None:
    grid = Geometry((4, 5, 6), OBLIQUE)
    for change in (np.diag([1.0, 1, 1.2, 1]), np.diag([-1.0, 1, 1, 1]), np.eye(4)[:, [1, 0, 2, 3]], np.diag([0.5, 1, 1, 1])):
        assert Volume(np.zeros((4, 5, 6)), Geometry((4, 5, 6), OBLIQUE @ change)).on(grid) is None
    turn = np.eye(4)
    turn[:2, :2] = [[np.sqrt(0.5), -np.sqrt(0.5)], [np.sqrt(0.5), np.sqrt(0.5)]]
    assert Geometry((4, 5, 6), OBLIQUE @ turn).order_in(grid) is None


@pytest.mark.parametrize("degrees", [0.0, 0.3, 5.0, 40.0])
def test_how_far_axes_are_from_right_angles(degrees: float) -> None:
    shear = np.eye(4)
    shear[0, 2] = np.tan(np.radians(degrees))
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [10, -20, 30], degrees=True).as_matrix()
    affine = affine @ shear @ np.diag([0.9, 1.1, 6, 1])
    assert Geometry((4, 5, 6), affine).farthest_from_right_angles == pytest.approx(degrees, abs=1e-5)


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


@st.composite
def affines(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Spacing and affine of an oblique, flipped, anisotropic grid."""
    spacing = np.array([draw(st.floats(0.1, 10)) for _ in range(3)])
    flips = np.array([draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)])
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", [draw(st.floats(-180, 180)) for _ in range(3)], degrees=True)
    affine[:3, :3] = turn.as_matrix() * (spacing * flips)
    affine[:3, 3] = [draw(st.floats(-300, 300)) for _ in range(3)]
    return spacing, affine


@given(affines())
def test_spacing_and_volume_do_not_depend_on_rotation(drawn: tuple[np.ndarray, np.ndarray]) -> None:
    spacing, affine = drawn
    geometry = Geometry((3, 4, 5), affine)
    np.testing.assert_allclose(geometry.voxel_spacing, spacing, rtol=1e-9)
    assert geometry.voxel_volume_ml == pytest.approx(spacing.prod() / 1000)


@given(affines(), st.integers(0, 2), st.floats(-3, 3), st.floats(-3, 3))
def test_an_axis_made_of_the_two_others_is_singular(
    drawn: tuple[np.ndarray, np.ndarray], axis: int, first: float, second: float
) -> None:
    affine = drawn[1].copy()
    others = [a for a in range(3) if a != axis]
    affine[:3, axis] = first * affine[:3, others[0]] + second * affine[:3, others[1]]
    with pytest.raises(GeometryError, match="singular"):
        Geometry((3, 4, 5), affine)


@given(affines(), st.integers(0, 2), st.integers(0, 2), st.floats(-0.1, 0.1))
def test_same_grid_agrees_with_the_positions_of_all_voxels(
    drawn: tuple[np.ndarray, np.ndarray], row: int, column: int, change: float
) -> None:
    affine = drawn[1]
    other = affine.copy()
    other[row, column] += change
    assume(abs(np.linalg.det(other[:3, :3] / np.linalg.norm(other[:3, :3], axis=0))) > 1e-3)
    steps = [np.linalg.inv(affine) @ other @ (*index, 1) - (*index, 1) for index in np.ndindex(3, 4, 5)]
    farthest = np.abs(steps).max()
    # Exactly at the tolerance rounding may go either way.
    assume(abs(farthest - 0.1) > 1e-6)
    assert Geometry((3, 4, 5), affine).same_grid(Geometry((3, 4, 5), other)) == (farthest < 0.1)


def test_another_shape_is_another_grid() -> None:
    assert not Geometry((3, 4, 5), np.eye(4)).same_grid(Geometry((3, 4, 6), np.eye(4)))
