"""What a voxel of a head may be."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np

TissueMap = np.ndarray[Any, np.dtype[np.uint8]]
"""Numbers of :class:`Tissue` (x, y, z)."""


class Tissue(IntEnum):
    """The parts of a head that the anatomy network tells, and where lesions may be."""

    OUTSIDE = 0
    FLUID = 1
    VENTRICLE = 2
    CORTEX = 3
    DEEP_GREY = 4
    WHITE = 5
    BRAINSTEM = 6
    CEREBELLUM = 7
