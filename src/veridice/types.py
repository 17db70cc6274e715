"""Array shapes, named once and used in signatures (jaxtyping; documentation, not run-time checks)."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float64

Affine: TypeAlias = Float64[np.ndarray, "4 4"]
Voxels: TypeAlias = Float[np.ndarray, "x y z"]
Mask: TypeAlias = Bool[np.ndarray, "x y z"]
ProbabilityMap: TypeAlias = Float[np.ndarray, "x y z"]
