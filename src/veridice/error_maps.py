"""Reconstruction error: what the healthy-looking surroundings cannot explain."""

from __future__ import annotations

from veridice.types import Voxels


def error_map(flair: Voxels, reconstruction: Voxels) -> Voxels:
    """Signed error ``E = I - I_hat`` (paper, Eq. 4) of two images (x, y, z) in [0, 1]."""
    return flair - reconstruction
