"""Linear normalisation of intensities to [0, 255] (paper, Preprocessing)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from veridice.errors import InputError
from veridice.types import Voxels

SCALE = 255.0
"""Upper end of stored intensities; networks, SSIM and error maps use them divided by it."""
LOW_PERCENTILE, HIGH_PERCENTILE = 0.1, 99.9


@dataclass(frozen=True)
class IntensityRange:
    """The two intensities of the scanner's scale that become 0 and 255; kept so that the step can be inverted."""

    low: float
    high: float

    def normalise(self, voxels: Voxels) -> Voxels:
        """Map ``[low, high]`` linearly onto [0, 255]; what lies outside is clipped (not invertible there)."""
        scaled = (voxels.astype(np.float32) - np.float32(self.low)) * np.float32(SCALE / (self.high - self.low))
        return np.clip(scaled, 0.0, SCALE)


def measure_range(voxels: Voxels) -> IntensityRange:
    """Find the two ends by robust percentiles (0.1 and 99.9) of the voxels, best of those within the foreground box.

    The paper says "linear" and leaves the ends open. Minimum and maximum would hang on one bright voxel of a vessel;
    0.1 % of a brain's bounding box is about 3 ml, so that even a small lesion is not clipped together with the tissue.

    Raises:
        InputError: the voxels are constant, so that nothing can be told apart.
    """
    low, high = (float(v) for v in np.percentile(voxels, (LOW_PERCENTILE, HIGH_PERCENTILE)))
    if not high > low:
        low, high = float(voxels.min()), float(voxels.max())
    if not high > low:
        raise InputError("the image is constant: there is no contrast to judge; check that it was exported correctly")
    return IntensityRange(low, high)
