"""Array shapes, named once and used in signatures (jaxtyping; documentation, not run-time checks)."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Float64

if TYPE_CHECKING:
    from torch import Tensor

Affine: TypeAlias = Float64[np.ndarray, "4 4"]
Voxels: TypeAlias = Float[np.ndarray, "x y z"]
Mask: TypeAlias = Bool[np.ndarray, "x y z"]
ProbabilityMap: TypeAlias = Float[np.ndarray, "x y z"]
Samples: TypeAlias = Float[np.ndarray, "passes x y z"]
Batch: TypeAlias = "Float[Tensor, 'batch channels x y z']"
