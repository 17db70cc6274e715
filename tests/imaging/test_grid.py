"""To the cube and back, for any orientation, spacing, obliquity and size."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.spatial.transform import Rotation

from veridice.errors import InputError
from veridice.imaging.foreground import foreground_mask
from veridice.imaging.grid import CUT_SHARE, GridTransform, fit_grid, interpolate_axis, scan_on_grid
from veridice.imaging.volume import Geometry, Volume
from veridice.metrics.overlap import dice


@st.composite
def geometries(draw: st.DrawFn) -> Geometry:
    """Odd sizes, anisotropic spacing, permuted and flipped axes, oblique by up to 25 degrees an axis."""
    shape = tuple(draw(st.integers(9, 26)) for _ in range(3))
    spacing = [draw(st.floats(0.4, 8.0)) for _ in range(3)]
    flips = [draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)]
    order = draw(st.permutations(range(3)))
    angles = [draw(st.floats(-25, 25)) for _ in range(3)]
    affine = np.eye(4)
    axes = np.eye(3)[:, list(order)] * flips * np.array(spacing)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() @ axes
    affine[:3, 3] = [draw(st.floats(-100, 100)) for _ in range(3)]
    return Geometry((shape[0], shape[1], shape[2]), affine)


def ball(geometry: Geometry, radius: float = 0.8) -> np.ndarray:
    place = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in geometry.shape], indexing="ij"))
    return np.sqrt((place**2).sum(axis=0)) < radius


def scanner_positions(geometry: Geometry) -> np.ndarray:
    """Millimetres of every voxel centre (x, y, z, 3)."""
    index = np.stack(np.meshgrid(*map(np.arange, geometry.shape), indexing="ij"), axis=-1)
    return index @ geometry.affine[:3, :3].T + geometry.affine[:3, 3]


@given(geometries(), st.integers(8, 24))
@settings(max_examples=60, deadline=None)
def test_any_map_comes_back_into_the_native_grid(geometry: Geometry, edge: int) -> None:
    flair = Volume(np.where(ball(geometry), 100.0, 0.0).astype(np.float32), geometry)
    transform = fit_grid(flair, (edge, edge, edge))
    back = transform.to_native(np.random.default_rng(0).random((edge, edge, edge)))
    assert back.shape == geometry.shape
    assert transform.native is geometry
    assert 0 <= back.min() <= back.max() <= 1


@given(geometries())
@settings(max_examples=60, deadline=None)
def test_the_cubes_affine_tells_where_its_voxels_lie(geometry: Geometry) -> None:
    """Linear functions of the position in millimetres survive trilinear resampling exactly (inside the edges)."""
    flair = Volume(ball(geometry).astype(np.float32), geometry)
    transform = fit_grid(flair, (15, 16, 17))
    direction = np.array([0.3, -0.7, 0.5])
    unsmoothed = transform.to_grid((scanner_positions(geometry) @ direction).astype(np.float32))
    expected = scanner_positions(transform.geometry) @ direction
    margin = tuple(slice(n // 3, n - n // 3) for n in transform.grid_shape)
    step = np.abs(np.diag(direction @ transform.geometry.affine[:3, :3] * np.eye(3))).max()
    # A Gaussian keeps a ramp but for its cut-off at the box, hence the middle third and the tolerance.
    np.testing.assert_allclose(unsmoothed[margin], expected[margin], atol=0.05 * step + 1e-2)


@given(geometries())
@settings(max_examples=40, deadline=None)
def test_a_smooth_map_survives_the_round_trip(geometry: Geometry) -> None:
    flair = Volume(ball(geometry).astype(np.float32), geometry)
    transform = fit_grid(flair, (40, 40, 40))
    smooth = ndimage.gaussian_filter(ball(geometry, 0.5).astype(np.float32), 2.5)
    inside = ball(geometry, 0.6)
    for order in (1, 3):
        back = transform.to_native(transform.to_grid(smooth), order=order)  # type: ignore[arg-type]
        np.testing.assert_allclose(back[inside], smooth[inside], atol=0.04)


def test_a_cube_of_the_scans_own_size_changes_nothing() -> None:
    geometry = Geometry((10, 12, 14), np.diag([-1.0, 2.0, 3.0, 1.0]))
    voxels = np.random.default_rng(0).random(geometry.shape).astype(np.float32)
    transform = GridTransform(geometry, ((0, 10), (0, 12), (0, 14)), (10, 12, 14))
    on_cube = transform.to_grid(voxels)
    np.testing.assert_allclose(on_cube, voxels[::-1], atol=1e-6)
    np.testing.assert_allclose(transform.to_native(on_cube), voxels, atol=1e-6)


def test_resampling_agrees_with_a_slow_trilinear_oracle() -> None:
    geometry = Geometry((5, 6, 7), np.eye(4))
    voxels = np.random.default_rng(1).random(geometry.shape).astype(np.float32)
    transform = GridTransform(geometry, ((0, 5), (1, 5), (0, 7)), (9, 10, 11))
    cropped = voxels[:, 1:5]

    def at(position: np.ndarray) -> float:
        position = np.clip(position, 0, np.array(cropped.shape) - 1)
        low = np.minimum(np.floor(position).astype(int), np.array(cropped.shape) - 2)
        part = position - low
        total = 0.0
        for corner in np.ndindex(2, 2, 2):
            weight = np.prod(np.where(np.array(corner) == 1, part, 1 - part))
            total += weight * cropped[tuple(low + corner)]
        return total

    on_cube = transform.to_grid(voxels)
    for index in np.ndindex(9, 10, 11):
        position = (np.array(index) + 0.5) * np.array([5, 4, 7]) / np.array([9, 10, 11]) - 0.5
        assert on_cube[index] == pytest.approx(at(position), abs=1e-5)


def test_outside_the_crop_maps_are_zero() -> None:
    geometry = Geometry((20, 20, 20), np.eye(4))
    voxels = np.zeros(geometry.shape, np.float32)
    voxels[6:12, 7:13, 8:14] = 5
    transform = fit_grid(Volume(voxels, geometry), (8, 8, 8))
    # Cut off on all sides, hence no margin.
    assert transform.box == ((6, 12), (7, 13), (8, 14))
    back = transform.to_native(np.ones((8, 8, 8)))
    assert back.sum() == 6**3


def test_masks_of_two_millilitres_keep_their_dice_at_one_millimetre() -> None:
    rng = np.random.default_rng(2)
    head = ball(Geometry((140, 170, 140), np.eye(4)), 0.95)
    noise = ndimage.gaussian_filter(rng.standard_normal(head.shape), 2.5) * head
    mask = noise > np.sort(noise.ravel())[-1800]
    geometry = Geometry((140, 170, 140), np.eye(4))
    transform = fit_grid(Volume(head.astype(np.float32), geometry), (128, 128, 128))
    back = transform.to_native(transform.to_grid(mask), order=3) >= 0.5
    assert dice(mask, back).dice >= 0.85


def test_noise_is_not_taken_for_the_head() -> None:
    geometry = Geometry((30, 30, 30), np.eye(4))
    rng = np.random.default_rng(0)
    voxels = np.where(ball(geometry, 0.6), 500, 0) + np.abs(rng.normal(0, 20, geometry.shape))
    found = foreground_mask(voxels.astype(np.float32))
    assert dice(found, ball(geometry, 0.6)).dice > 0.97


def test_the_largest_part_counts() -> None:
    voxels = np.zeros((20, 20, 20), np.float32)
    voxels[2:10, 2:10, 2:10] = 1
    voxels[17, 17, 17] = 9
    assert foreground_mask(voxels).sum() == 512


def test_an_image_without_foreground_is_refused() -> None:
    with pytest.raises(InputError, match="no brain"):
        foreground_mask(np.zeros((8, 8, 8), np.float32))


def test_a_map_of_another_size_is_refused() -> None:
    transform = GridTransform(Geometry((5, 5, 5), np.eye(4)), ((0, 5), (0, 5), (0, 5)), (4, 4, 4))
    with pytest.raises(ValueError, match="grid is"):
        transform.to_native(np.zeros((5, 5, 5)))


def test_scans_on_the_cube_lie_in_zero_to_one() -> None:
    geometry = Geometry((20, 21, 22), np.eye(4))
    voxels = np.where(ball(geometry), np.random.default_rng(0).normal(1000, 100, geometry.shape), 0).astype(np.float32)
    volume = Volume(voxels, geometry)
    on_cube = scan_on_grid(volume, fit_grid(volume, (16, 16, 16)))
    assert on_cube.min() >= 0
    assert 0.9 < on_cube.max() <= 1


def blob(shape: tuple[int, int, int], centre: list[float]) -> np.ndarray:
    """A Gaussian bell that has faded at the edges; ``centre`` in parts of the volume."""
    axes = [np.exp(-(((np.arange(n) + 0.5) / n - c) ** 2) / (2 * 0.12**2)) for n, c in zip(shape, centre, strict=True)]
    return np.einsum("i,j,k->ijk", *axes).astype(np.float32)


def centre_of_mass_mm(voxels: np.ndarray, geometry: Geometry) -> np.ndarray:
    return (scanner_positions(geometry) * voxels[..., None]).sum(axis=(0, 1, 2)) / voxels.sum(dtype=np.float64)


@given(geometries(), st.tuples(*[st.integers(16, 27)] * 3), st.lists(st.floats(0.42, 0.58), min_size=3, max_size=3))
@settings(max_examples=60, deadline=None)
def test_a_blob_stays_where_it_is_in_millimetres(
    geometry: Geometry, grid_shape: tuple[int, int, int], centre: list[float]
) -> None:
    """In both directions; an error of half a voxel at the edges would show."""
    flair = Volume(np.ones(geometry.shape, np.float32), geometry)
    transform = fit_grid(flair, grid_shape, np.ones(geometry.shape, dtype=bool))
    tolerance = 0.05 * max(*geometry.voxel_spacing, *transform.geometry.voxel_spacing)
    native, on_cube = blob(geometry.shape, centre), blob(grid_shape, centre)
    before, after = centre_of_mass_mm(native, geometry), centre_of_mass_mm(transform.to_grid(native), transform.geometry)
    np.testing.assert_allclose(after, before, atol=tolerance)
    before, after = centre_of_mass_mm(on_cube, transform.geometry), centre_of_mass_mm(transform.to_native(on_cube), geometry)
    np.testing.assert_allclose(after, before, atol=tolerance)


@given(geometries(), st.integers(8, 24))
@settings(max_examples=30, deadline=None)
def test_the_box_holds_the_foreground_and_its_margin(geometry: Geometry, edge: int) -> None:
    """Seen from outside: the cube's outer faces lie around every foreground voxel, two voxels away, or at the border of the
    image or of a foreground that is cut off there."""
    foreground = ball(geometry, 0.5)
    transform = fit_grid(Volume(foreground.astype(np.float32), geometry), (edge, edge, edge), foreground)
    covered = transform.to_native(np.ones((edge, edge, edge))) > 0.5
    inside = np.argwhere(foreground)
    low, high = inside.min(axis=0), inside.max(axis=0) + 1
    for axis in range(3):
        profile = foreground.sum(axis=tuple(other for other in range(3) if other != axis))
        low[axis] -= 2 * (profile[low[axis]] <= CUT_SHARE * profile.max())
        high[axis] += 2 * (profile[high[axis] - 1] <= CUT_SHARE * profile.max())
    expected = np.zeros(geometry.shape, dtype=bool)
    expected[tuple(slice(max(0, a), b) for a, b in zip(low, high, strict=True))] = True
    np.testing.assert_array_equal(covered, expected)


def test_the_record_is_enough_to_repeat_the_step() -> None:
    affine = np.array([[0.0, -1.8, 0.6, 3], [0.9, 0, 0, -4], [0, 0.6, 1.8, 5], [0, 0, 0, 1]])
    flair = Volume(ball(Geometry((9, 11, 13), affine)).astype(np.float32), Geometry((9, 11, 13), affine))
    transform = fit_grid(flair, (8, 9, 10))
    record = json.loads(json.dumps(transform.record()))
    box = tuple((start, stop) for start, stop in record["crop_box"])
    native = Geometry(tuple(record["native_shape"]), np.array(record["native_affine"]))
    again = GridTransform(native, box, tuple(record["grid_shape"]))  # type: ignore[arg-type]
    np.testing.assert_array_equal(again.to_grid(flair.voxels), transform.to_grid(flair.voxels))


def test_an_empty_brain_mask_is_refused() -> None:
    geometry = Geometry((8, 8, 8), np.eye(4))
    scan = Volume(np.random.default_rng(0).random(geometry.shape).astype(np.float32), geometry)
    with pytest.raises(InputError):
        fit_grid(scan, (8, 8, 8), np.zeros(geometry.shape, dtype=bool))


@given(
    shape=st.tuples(*[st.integers(2, 7)] * 3),
    axis=st.integers(0, 2),
    positions=st.lists(st.floats(0, 1), min_size=1, max_size=6),
)
def test_interpolation_along_an_axis_is_that_of_scipy(shape: tuple[int, ...], axis: int, positions: list[float]) -> None:
    volume = np.random.default_rng(0).random(shape).astype(np.float32)
    places = np.array(positions) * (shape[axis] - 1)
    grid = [places if a == axis else np.arange(n, dtype=float) for a, n in enumerate(shape)]
    expected = ndimage.map_coordinates(volume, np.meshgrid(*grid, indexing="ij"), order=1)
    assert np.allclose(interpolate_axis(volume, places, axis), expected, atol=1e-5)


def test_interpolation_is_zero_outside_and_constant_to_the_voxels_edge() -> None:
    line = np.array([2.0, 4.0], np.float32).reshape(2, 1, 1)
    values = interpolate_axis(line, np.array([-0.6, -0.4, 0.5, 1.4, 1.6]), 0).ravel()
    assert values.tolist() == [0, 2, 3, 4, 0]
