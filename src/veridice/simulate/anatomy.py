"""A head on the canvas: the donor's brain, deformed, with larger or smaller ventricles, and a skull, scalp and eyes around.

The canvas is 1 mm, RAS, its middle in the middle of the brain. Masks come from plain sums, products and comparisons in
compiled loops without fused arithmetic, so that the same plan gives the same mask on any machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from veridice.simulate.donors import Anatomy
from veridice.simulate.fields import distance_mm, enlarge, smooth_field
from veridice.simulate.plan import DeformationPlan
from veridice.types import Mask, Voxels

COARSE = 4
"""Displacements are smooth: they are computed on every fourth voxel and enlarged."""
WAVE_SPACING_MM = 24.0
VENTRICLE_REACH_MM = 15.0
"""How far into the brain the ventricles' walls push what is beside them."""
MARGIN = 6

Coordinates = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Head:
    """A brain on the canvas; all maps are (x, y, z) float32 shares of each voxel unless said otherwise.

    Args:
        fluid, grey, white, ventricles: soft tissue maps; ventricles are part of the fluid.
        ventricle_distance: millimetres to the ventricles' wall, 0 inside.
        depth: millimetres below the brain's surface, 0 outside.
        images: FLAIR and T1w (2, x, y, z) of a real pair in [0, 1], or None.
        shown: (x, y, z) boolean, where the template's brain, a little widened, is shown at all.
        coordinates: (3, points) template voxel of each of these places.
    """

    fluid: Voxels
    grey: Voxels
    white: Voxels
    ventricles: Voxels
    ventricle_distance: Voxels
    depth: Voxels
    images: Voxels | None
    shown: Mask
    coordinates: Coordinates

    @property
    def shape(self) -> tuple[int, int, int]:
        x, y, z = self.white.shape
        return x, y, z

    @property
    def brain(self) -> Mask:
        """Where more than half of a voxel is brain or the fluid within it."""
        return np.asarray(self.fluid + self.grey + self.white >= 0.5)

    def warp(self, template: np.ndarray[Any, Any], mirrored: bool = False) -> Voxels:
        """Bring a map of the template box (0..255) to the canvas, trilinearly, in [0, 1]."""
        source = template[::-1] if mirrored else template
        return _spread(_resample(source, self.coordinates), self.shown)


def shape_head(anatomy: Anatomy, plan: DeformationPlan) -> Head:
    """Deform a donor's brain as planned and lay it on a canvas that holds it."""
    box = np.array(anatomy.shares.shape[1:])
    shape = tuple(int(n) for n in np.ceil(box * plan.size / COARSE) * COARSE + 2 * MARGIN)
    shares = anatomy.shares[:, ::-1] if plan.mirrored else anatomy.shares
    coarse = _coarse_coordinates(shape, box, plan, shares[3])
    fine = np.stack([enlarge(c, shape, COARSE) for c in coarse])
    # Only a third of the canvas shows brain; the rest need not be interpolated.
    around = ndimage.binary_dilation(shares[:3].max(axis=0) > 0, iterations=2)
    shown = around[tuple(np.round(c).astype(int).clip(0, n - 1) for c, n in zip(fine, box, strict=True))]
    points = fine[:, shown]
    fluid, grey, white, ventricles = (_spread(_resample(share, points), shown) for share in shares)
    if plan.atrophy > 0:
        lost = grey * np.float32(plan.atrophy) * np.minimum(1, 2 * ndimage.gaussian_filter(fluid, 1.5))
        fluid, grey = fluid + lost, grey - lost
    images = None
    if anatomy.images is not None:
        own = anatomy.images[:, ::-1] if plan.mirrored else anatomy.images
        images = np.stack([_spread(_resample(image, points), shown) for image in own])
    wall, depth = distance_mm(ventricles < 0.5), distance_mm(fluid + grey + white >= 0.5)
    return Head(fluid, grey, white, ventricles, wall, depth, images=images, shown=shown, coordinates=points)


def _spread(values: np.ndarray[Any, Any], shown: Mask) -> Voxels:
    canvas = np.zeros(shown.shape, np.float32)
    canvas[shown] = values
    return canvas


def _coarse_coordinates(
    shape: tuple[int, ...], box: np.ndarray[Any, Any], plan: DeformationPlan, ventricles: np.ndarray[Any, Any]
) -> Coordinates:
    lattice = tuple(-(-n // COARSE) + 1 for n in shape)
    places = np.stack(np.meshgrid(*[np.arange(n, dtype=np.float64) * COARSE for n in lattice], indexing="ij"))
    centred = places - (np.array(shape) / 2 - 0.5)[:, None, None, None]
    linear = turn(plan.rotation) / np.array(plan.size)[:, None]
    turned = sum(linear[:, axis, None, None, None] * centred[axis] for axis in range(3))
    rng = np.random.default_rng(plan.seed)
    waves = np.stack([smooth_field(lattice, WAVE_SPACING_MM / COARSE, rng) for _ in range(3)])
    coordinates: Coordinates = turned + (box / 2 - 0.5)[:, None, None, None] + plan.wave_mm * waves
    return coordinates + _ventricle_push(coordinates, plan.ventricle_mm, ventricles)


def _ventricle_push(coordinates: Coordinates, push_mm: float, ventricles: np.ndarray[Any, Any]) -> Coordinates:
    """Displacement towards the ventricles, so that what lies beside them shows ventricle (larger ones) or the reverse."""
    coarse = ventricles[::2, ::2, ::2] >= 128
    distance = 2.0 * (ndimage.distance_transform_edt(~coarse) - ndimage.distance_transform_edt(coarse))
    smooth = ndimage.gaussian_filter(distance, 1.5)
    places = coordinates / 2
    at, *gradient = [
        ndimage.map_coordinates(field, places, output=np.float64, order=1, mode="nearest")
        for field in (smooth, *np.gradient(smooth, 2.0))
    ]
    weight = np.clip(1 - np.abs(at) / VENTRICLE_REACH_MM, 0.0, 1.0)
    return -push_mm * weight * np.stack(gradient)


def turn(angles: tuple[float, float, float]) -> np.ndarray[Any, Any]:
    """Rotation about x, then y, then z (3x3)."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        one, two = [a for a in range(3) if a != axis]
        step = np.eye(3)
        step[one, one] = step[two, two] = np.cos(angle)
        step[one, two], step[two, one] = -np.sin(angle), np.sin(angle)
        matrix = np.array([[sum(step[i, k] * matrix[k, j] for k in range(3)) for j in range(3)] for i in range(3)])
    return matrix


def _resample(template: np.ndarray[Any, Any], coordinates: Coordinates) -> Voxels:
    """A template map (0..255) at the points ``coordinates`` (3, points), in [0, 1]."""
    shown = ndimage.map_coordinates(template, coordinates, output=np.float32, order=1)
    return shown / np.float32(255)
