"""Array shapes, named once and used in signatures (jaxtyping; documentation, not run-time checks)."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float64

Affine: TypeAlias = Float64[np.ndarray, "4 4"]
Voxels: TypeAlias = Float[np.ndarray, "x y z"]
Mask: TypeAlias = Bool[np.ndarray, "x y z"]
ProbabilityMap: TypeAlias = Float[np.ndarray, "x y z"]
Numbers: TypeAlias = np.ndarray[tuple[int], np.dtype[np.float64]]
"""One number a case, voxel or feature."""
Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
"""Numbers of any kind and shape."""
