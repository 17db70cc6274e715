"""Parts of masks against SciPy's own functions on whole arrays."""

from __future__ import annotations

import hypothesis.extra.numpy as arrays
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from veridice.imaging.components import dilate, fill_holes

MASKS = arrays.arrays(bool, arrays.array_shapes(min_dims=3, max_dims=3, max_side=7), elements=st.booleans())


@given(MASKS)
def test_holes_are_filled_as_scipy_does(mask: np.ndarray) -> None:
    assert np.array_equal(fill_holes(mask), ndimage.binary_fill_holes(mask))


@given(MASKS, st.integers(1, 3))
def test_masks_grow_as_scipy_lets_them(mask: np.ndarray, voxels: int) -> None:
    assert np.array_equal(dilate(mask, voxels), ndimage.binary_dilation(mask, iterations=voxels))
