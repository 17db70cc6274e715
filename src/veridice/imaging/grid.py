"""From a scan's own grid to the network's cube and back: canonical orientation, foreground crop, resampling.

Each step is recorded in a :class:`GridTransform`, from which the inverse is derived. A grid keeps the scan's own axes
(it is only permuted, flipped, cropped and scaled), so an oblique scan needs no rotation and loses nothing to one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import nibabel as nib
import nibabel.processing
import numpy as np
from scipy import ndimage

from veridice.errors import InputError
from veridice.imaging.foreground import Box, box_around, foreground_and_room
from veridice.imaging.intensity import SCALE, IntensityRange, measure_range
from veridice.imaging.volume import Geometry, Volume
from veridice.types import Mask, Voxels

CROP_MARGIN_VOXELS = 2
Weights = np.ndarray[tuple[int, int], np.dtype[np.float32]]
THICK_MM = 4.0
"""Stacks of slices as thick as this end where the head goes on; finer voxels along an axis show all of it."""
CUT_SHARE = 0.19
"""Of the largest cross-section: a head that ends with more than this is cut off there, and gets no margin of air, so that
padding changes nothing."""


@dataclass(frozen=True)
class GridTransform:
    """The recorded way from a native grid to a cube and back.

    Args:
        native: the scan's own geometry.
        box: start and stop of the crop along the three axes of the canonically oriented scan, in voxels.
        grid_shape: number of voxels of the cube along each axis.
    """

    native: Geometry
    box: Box
    grid_shape: tuple[int, int, int]

    @property
    def orientation(self) -> np.ndarray[Any, Any]:
        """nibabel orientation array that brings the native axes closest to RAS+."""
        return nib.orientations.io_orientation(self.native.affine)

    @property
    def scale(self) -> np.ndarray[Any, Any]:
        """Canonical voxels per grid voxel along each axis."""
        return np.array([stop - start for start, stop in self.box], dtype=np.float64) / self.grid_shape

    @property
    def geometry(self) -> Geometry:
        """Geometry of the grid: where the cube's voxels lie in millimetres."""
        canonical = self.native.affine @ nib.orientations.inv_ornt_aff(self.orientation, self.native.shape)
        step = np.diag([*self.scale, 1.0])
        # Voxel edges, not centres, of crop and cube coincide; hence the half-voxel shifts.
        step[:3, 3] = np.array([start for start, _ in self.box]) + 0.5 * self.scale - 0.5
        return Geometry(self.grid_shape, canonical @ step)

    def crop(self, voxels: Voxels) -> Voxels:
        """The foreground box of native voxels, canonically oriented; a view where the box lies within the image.

        Beyond the image the last values of an image go on, and nothing of a mask.
        """
        canonical = nib.orientations.apply_orientation(voxels, self.orientation)
        part = canonical[self._inside(canonical.shape)]
        beyond = [
            (max(0, -start), max(0, stop - length)) for (start, stop), length in zip(self.box, canonical.shape, strict=True)
        ]
        if not any(map(any, beyond)):
            return part
        return np.pad(part, beyond, mode="edge") if part.dtype.kind == "f" else np.pad(part, beyond)

    def _inside(self, shape: tuple[int, ...]) -> tuple[slice, ...]:
        return tuple(slice(max(0, start), min(length, stop)) for (start, stop), length in zip(self.box, shape, strict=True))

    def to_grid(self, voxels: Voxels) -> Voxels:
        """Resample native voxels (x y z) to the cube, trilinearly, smoothed first where the cube is coarser."""
        return self.crop_to_grid(self.crop(voxels))

    def crop_to_grid(self, cropped: Voxels) -> Voxels:
        """The same of what :meth:`crop` gave."""
        sides = zip(cropped.shape, self.grid_shape, self.scale, strict=True)
        # Thick voxels are averages, hence a filter that is as wide as they are longer.
        blurred = [(*side, max(0.0, (side[2] - 1.0) / 2.0)) for side in sides]
        return _resample(cropped, [_axis_weights(given, 0, wanted, scale, 1, blur) for given, wanted, scale, blur in blurred])

    def to_native(self, grid_voxels: Voxels, order: Literal[1, 3] = 1) -> Voxels:
        """Resample a map on the cube back to the native grid; 0 outside the crop.

        Args:
            grid_voxels: (x, y, z) on the cube.
            order: of the spline: 1 is trilinear; 3 keeps the borders of small lesions better (docs/grid.md) at more
                time. Values never leave the range of the map.
        """
        if grid_voxels.shape != self.grid_shape:
            raise ValueError(f"map has shape {grid_voxels.shape}, the grid is {self.grid_shape}")
        grid_voxels = np.asarray(grid_voxels, dtype=np.float32)
        canonical = np.zeros(np.array(self.native.shape)[np.argsort(self.orientation[:, 0])], dtype=np.float32)
        inside = self._inside(canonical.shape)
        region = [slice(side.start - start, side.stop - start) for side, (start, _) in zip(inside, self.box, strict=True)]
        found = _resample(grid_voxels, self._to_crop_weights(region, order))
        canonical[inside] = found.clip(grid_voxels.min(), grid_voxels.max())
        back = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), self.orientation)
        return np.ascontiguousarray(nib.orientations.apply_orientation(canonical, back))

    def crop_region(self, box: tuple[slice, ...]) -> tuple[slice, slice, slice]:
        """The part of the crop in which voxels of a box of the cube, and their neighbours, can show."""
        sides = []
        for side, scale, (start, stop) in zip(box, self.scale, self.box, strict=True):
            low, high = np.floor((side.start - 1) * scale), np.ceil((side.stop + 1) * scale)
            sides.append(slice(max(0, int(low)), min(stop - start, int(high))))
        return sides[0], sides[1], sides[2]

    def to_crop(self, grid_voxels: Voxels, region: tuple[slice, slice, slice]) -> Voxels:
        """Part of a map on the cube, trilinearly, on the crop's voxels (canonically oriented): see :meth:`crop_region`."""
        return _resample(grid_voxels, self._to_crop_weights(region, 1))

    def _to_crop_weights(self, region: Sequence[slice], order: Literal[1, 3]) -> list[Weights]:
        sides = zip(self.grid_shape, region, self.scale, strict=True)
        return [_axis_weights(given, side.start, side.stop, 1.0 / scale, order, 0.0) for given, side, scale in sides]

    def record(self) -> dict[str, Any]:
        """What a sidecar needs to repeat the step: JSON-ready, without paths."""
        return {
            "native_shape": list(self.native.shape),
            "native_affine": self.native.affine.tolist(),
            "orientation": self.native.axis_codes,
            "crop_box": [list(side) for side in self.box],
            "grid_shape": list(self.grid_shape),
            "grid_voxel_spacing": [round(s, 4) for s in self.geometry.voxel_spacing],
        }


@lru_cache(maxsize=64)
def _axis_weights(given: int, start: int, stop: int, scale: float, order: Literal[1, 3], blur: float) -> Weights:
    """What each of ``given`` voxels in a row counts in those from ``start`` to ``stop`` of another row (wanted, given).

    ``scale`` of the given ones are as long as a wanted one; edges lie on edges, and beyond them the edge values go on.
    SciPy's own filters, applied to every unit vector: linear or cubic B-spline interpolation, after a Gaussian of ``blur``.
    """
    units = np.eye(given)
    units = ndimage.gaussian_filter1d(units, blur, axis=0, mode="nearest") if blur else units
    offset, shape = (start + 0.5) * scale - 0.5, (stop - start,)
    rows = [ndimage.affine_transform(unit, [scale], offset, shape, order=order, mode="nearest") for unit in units.T]
    return np.stack(rows, axis=1).astype(np.float32)


def _resample(voxels: Voxels, weights: Sequence[Weights]) -> Voxels:
    """Weighted sums along the three axes: a resampling is separable, so that matrix products do it. What shrinks goes first."""
    shown = np.asarray(voxels, np.float32)
    for axis in sorted(range(3), key=lambda a: len(weights[a]) / weights[a].shape[1]):
        used = np.flatnonzero(weights[axis].any(axis=0))
        part = slice(used[0], used[-1] + 1) if len(used) else slice(0, 1)
        matrix = weights[axis][:, part]
        shown = shown[tuple(part if a == axis else slice(None) for a in range(3))]
        if axis == 0:
            shown = (matrix @ shown.reshape(len(shown), -1)).reshape(-1, *shown.shape[1:])
        else:
            shown = matrix @ shown if axis == 1 else shown @ matrix.T
    return shown


def stretch(voxels: Voxels, shape: tuple[int, int, int]) -> Voxels:
    """A volume on another number of voxels in the same box, trilinearly, edges on edges (float32)."""
    sides = zip(voxels.shape, shape, strict=True)
    return _resample(voxels, [_axis_weights(given, 0, wanted, given / wanted, 1, 0.0) for given, wanted in sides])


def interpolate_axis(volume: Voxels, positions: np.ndarray[Any, Any], axis: int) -> Voxels:
    """Values of ``volume`` (x, y, z) at fractional ``positions`` (n,) along one axis; 0 outside it.

    Between the last voxel and half a voxel beyond it the last value holds, since voxels have a width.
    """
    length = volume.shape[axis]
    lower = np.floor(positions).astype(int)
    share = (positions - lower).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
    first = np.take(volume, lower.clip(0, length - 1), axis)
    values = np.take(volume, (lower + 1).clip(0, length - 1), axis)
    values -= first
    values *= share
    values += first
    outside = (positions < -0.5) | (positions > length - 0.5)
    if outside.any():
        values[tuple(outside if a == axis else slice(None) for a in range(3))] = 0
    return values


def fit_grid(volume: Volume, grid_shape: tuple[int, int, int], foreground: Mask | None = None) -> GridTransform:
    """Plan the way to the cube: canonical orientation, box around the foreground with a small margin, scaling.

    Args:
        volume: the scan (its FLAIR) in its own grid.
        grid_shape: the cube, 128x128x128 in the paper.
        foreground: brain mask to crop to; estimated from the scan when absent.

    Raises:
        InputError: there is no foreground.
    """
    mask, around = foreground_and_room(volume.voxels, foreground)
    if not mask.any():
        raise InputError("the brain mask is empty: give one that marks the brain, or none")
    orientation = nib.orientations.io_orientation(volume.affine)
    canonical = nib.orientations.apply_orientation(mask, orientation)
    ends = box_around(canonical)
    room = _in_order(around, orientation, volume.shape)
    fine = np.array(volume.geometry.voxel_spacing)[np.argsort(orientation[:, 0])] < THICK_MM
    full = np.array([max(start - first, last - stop) <= 1 for (start, stop), (first, last) in zip(ends, room, strict=True)])
    # A head without any air at its sides: the margin goes on beyond the image, as if the air had not been cut away.
    beyond = fine & full & bool(fine.any() and full[fine].all())
    box = []
    for axis, (start, stop) in enumerate(ends):
        profile = canonical.sum(axis=tuple(a for a in range(3) if a != axis))
        before, behind = (0 if profile[end] > CUT_SHARE * profile.max() else CROP_MARGIN_VOXELS for end in (start, stop - 1))
        first, last = room[axis]
        limits = (first - CROP_MARGIN_VOXELS, last + CROP_MARGIN_VOXELS) if beyond[axis] else (first, last)
        box.append((max(limits[0], start - before), min(limits[1], stop + behind)))
    return GridTransform(volume.geometry, (box[0], box[1], box[2]), grid_shape)


def whole_grid(volume: Volume, grid_shape: tuple[int, int, int]) -> GridTransform:
    """The way to the cube of an image that is a crop already: all of it."""
    orientation = nib.orientations.io_orientation(volume.affine)
    x, y, z = volume.shape
    sides = _in_order(((0, x), (0, y), (0, z)), orientation, volume.shape)
    return GridTransform(volume.geometry, (sides[0], sides[1], sides[2]), grid_shape)


def _in_order(box: Box, orientation: np.ndarray[Any, Any], shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """A box of native voxels along the canonical axes."""
    sides: list[tuple[int, int]] = [(0, 0)] * 3
    for (start, stop), (axis, direction), length in zip(box, orientation, shape, strict=True):
        sides[int(axis)] = (start, stop) if direction > 0 else (length - stop, length - start)
    return sides


def resample_to(image: Volume, geometry: Geometry, outside: float = 0.0) -> Volume:
    """Linear resampling of ``image`` to another grid through both affines; ``outside`` beyond it (float32)."""
    if image.geometry.same_grid(geometry):
        return image.with_voxels(image.voxels.astype(np.float32))
    source = nib.Nifti1Image(image.voxels.astype(np.float32), image.affine)
    shown = nib.processing.resample_from_to(source, (geometry.shape, geometry.affine), order=1, cval=outside)
    return Volume(np.asarray(shown.dataobj, dtype=np.float32), geometry)


def scan_on_grid(image: Volume, transform: GridTransform, ends: IntensityRange | None = None) -> Voxels:
    """Normalise to [0, 255], resample to the cube and divide by 255 (float32, x y z); ``ends`` are found where not known."""
    normalised = (ends or intensity_range(image, transform)).normalise(transform.crop(image.voxels))
    return transform.crop_to_grid(normalised) / np.float32(SCALE)


def grid_images(
    flair: Volume, t1: Volume | None, transform: GridTransform, ends: Mapping[str, IntensityRange] | None = None
) -> Voxels:
    """FLAIR and T1w on the cube, in [0, 1] (2, x, y, z); zeros where there is no T1w.

    Args:
        flair, t1: on the grid that ``transform`` starts from.
        transform: the way to the cube.
        ends: of ``flair`` and ``t1``, where they are known.
    """
    known = ends or {}
    flair_grid = scan_on_grid(flair, transform, known.get("flair"))
    second = np.zeros_like(flair_grid) if t1 is None else scan_on_grid(t1, transform, known.get("t1"))
    return np.stack([flair_grid, second])


def intensity_range(image: Volume, transform: GridTransform) -> IntensityRange:
    """The two intensities of ``image`` that become 0 and 255, measured within the crop."""
    return measure_range(transform.crop(image.voxels))


def pooled_map(map_: Voxels, edge: int) -> Voxels:
    """A map (x, y, z) averaged over whole blocks of ``edge`` voxels, float16."""
    x, y, z = (length // edge for length in map_.shape)
    blocks = map_[: x * edge, : y * edge, : z * edge].reshape(x, edge, y, edge, z, edge)
    return np.asarray(blocks.mean(axis=(1, 3, 5), dtype=np.float64).astype(np.float16))
