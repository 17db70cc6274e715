"""Voxels and where they lie in space. No files, no torch: everything else is built on these two classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np

from veridice.errors import GeometryError
from veridice.types import Affine

SAME_VOXELS = 0.1
"""Two grids whose voxel centres differ by less than this part of a voxel everywhere are the same grid: headers pass through
quaternions and float32."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """Shape of a voxel grid and its place in scanner space.

    Args:
        shape: number of voxels along the three array axes.
        affine: maps voxel indices to millimetres in RAS+ space, as in NIfTI.
        space: template that its file says it lies on; empty: none, its millimetres are the scanner's.

    Raises:
        GeometryError: the grid is not three-dimensional, or the affine is not a finite, invertible 4x4 matrix.
    """

    shape: tuple[int, int, int]
    affine: Affine
    space: str = ""

    def __post_init__(self) -> None:
        shape = tuple(int(n) for n in self.shape)
        affine = np.array(self.affine, dtype=np.float64)
        if len(shape) != 3 or min(shape) < 1:
            raise GeometryError(f"expected a three-dimensional grid, found shape {shape}")
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            raise GeometryError("the affine is not a finite 4x4 matrix: set sform or qform in the header")
        if not np.allclose(affine[3], (0, 0, 0, 1)):
            raise GeometryError(f"the last row of the affine is {affine[3].tolist()}, expected [0, 0, 0, 1]")
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        # Relative to the voxel size, so that 0.1 mm voxels are not mistaken for a collapsed grid.
        if spacing.min() <= 0 or abs(np.linalg.det(affine[:3, :3] / spacing)) < 1e-4:
            raise GeometryError("the affine is singular (two axes coincide or a voxel size is 0): repair the header")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    @property
    def voxel_spacing(self) -> tuple[float, float, float]:
        """Millimetres between voxel centres along the three array axes."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3])) / 1000.0)

    @property
    def middle(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Where the middle of the grid lies (mm, RAS+)."""
        return np.asarray((self.affine @ [*(0.5 * (np.array(self.shape) - 1)), 1.0])[:3])

    @property
    def axis_codes(self) -> str:
        """Closest anatomical direction of each array axis, for example ``RAS``."""
        return "".join(nib.orientations.aff2axcodes(self.affine))

    @property
    def farthest_from_right_angles(self) -> float:
        """Degrees by which the two array axes that come farthest from a right angle differ from one."""
        axes = self.affine[:3, :3] / self.voxel_spacing
        cosines = [abs(float(axes[:, one] @ axes[:, other])) for one, other in ((0, 1), (0, 2), (1, 2))]
        return float(np.degrees(np.arcsin(min(1.0, max(cosines)))))

    def same_grid(self, other: Geometry) -> bool:
        """Whether both grids have the same shape and their corners lie within ``SAME_VOXELS`` of each other."""
        if self.shape != other.shape:
            return False
        apart = np.linalg.solve(self.affine, (self.affine - other.affine) @ self.corners)
        return bool(np.abs(apart)[:3].max() < SAME_VOXELS)

    def distance(self, other: Geometry) -> float:
        """How far apart (mm, along an axis) a corner of two grids of the same shape lies at most."""
        return float(np.abs((self.affine - other.affine) @ self.corners).max())

    @property
    def corners(self) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Indices of the eight corner voxels, with a 1 below each (4, 8)."""
        return np.array(np.meshgrid(*[(0, n - 1) for n in self.shape], [1.0], indexing="ij")).reshape(4, -1)

    def order_in(self, other: Geometry) -> np.ndarray[Any, Any] | None:
        """How the voxels have to be stored to lie as those of ``other``: axis and direction of each axis (nibabel's
        orientation array). None where they do not lie there in any order."""
        turn = np.linalg.inv(other.affine[:3, :3]) @ self.affine[:3, :3]
        order = np.round(turn)
        if not ((np.abs(order).sum(axis=0) == 1).all() and (np.abs(order).sum(axis=1) == 1).all()):
            return None
        axes = np.abs(order).argmax(axis=0)
        orientation = np.stack([axes, order[axes, range(3)]], axis=1)
        lengths = np.array(self.shape)[np.argsort(axes)]
        stored = self.affine @ nib.orientations.inv_ornt_aff(orientation, self.shape)
        reordered = Geometry((int(lengths[0]), int(lengths[1]), int(lengths[2])), stored)
        return orientation if other.same_grid(reordered) else None

    def describe(self) -> str:
        """Shape, spacing and orientation for messages, for example ``181x217x181 at 1.00x1.00x1.00 mm (RAS)``."""
        shape = "x".join(str(n) for n in self.shape)
        spacing = "x".join(f"{s:.2f}" for s in self.voxel_spacing)
        return f"{shape} at {spacing} mm ({self.axis_codes})"


@dataclass(frozen=True, eq=False)
class Volume:
    """A three-dimensional image: read-only voxels and their geometry.

    Raises:
        GeometryError: voxels and geometry differ in shape.
    """

    voxels: np.ndarray[Any, Any]
    geometry: Geometry

    def __post_init__(self) -> None:
        if self.voxels.shape != self.geometry.shape:
            raise GeometryError(f"voxels have shape {self.voxels.shape}, their geometry says {self.geometry.shape}")
        view = self.voxels.view()
        view.setflags(write=False)
        object.__setattr__(self, "voxels", view)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.geometry.shape

    @property
    def affine(self) -> Affine:
        return self.geometry.affine

    def with_voxels(self, voxels: np.ndarray[Any, Any]) -> Volume:
        """Other voxels on the same grid."""
        return Volume(voxels, self.geometry)

    def on(self, grid: Geometry) -> Volume | None:
        """The same voxels stored in the order of ``grid``, which is their place up to rounding; None where it is another."""
        orientation = self.geometry.order_in(grid)
        if orientation is None:
            return None
        return Volume(nib.orientations.apply_orientation(self.voxels, orientation), grid)
