"""Voxels and where they lie in space. No files, no torch: everything else is built on these two classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np

from veridice.errors import GeometryError
from veridice.types import Affine

AFFINE_TOLERANCE_MM = 1e-3
"""Two grids whose voxel centres differ by less than this everywhere are the same grid."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """Shape of a voxel grid and its place in scanner space.

    Args:
        shape: number of voxels along the three array axes.
        affine: maps voxel indices to millimetres in RAS+ space, as in NIfTI.

    Raises:
        GeometryError: the grid is not three-dimensional, or the affine is not a finite, invertible 4x4 matrix.
    """

    shape: tuple[int, int, int]
    affine: Affine

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
    def axis_codes(self) -> str:
        """Closest anatomical direction of each array axis, for example ``RAS``."""
        return "".join(nib.orientations.aff2axcodes(self.affine))

    def same_grid(self, other: Geometry) -> bool:
        """Whether both grids have the same shape and their corners lie within ``AFFINE_TOLERANCE_MM``."""
        return self.shape == other.shape and self.distance(other) < AFFINE_TOLERANCE_MM

    def distance(self, other: Geometry) -> float:
        """How far apart (mm, along an axis) a corner of two grids of the same shape lies at most."""
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape], [1.0], indexing="ij")).reshape(4, -1)
        return float(np.abs((self.affine - other.affine) @ corners).max())

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
