"""Where the brain is, in any FLAIR: whole head or skull-stripped, with a T1w or without."""

from __future__ import annotations

import numpy as np
from torch import nn

from veridice.imaging.components import fill_holes, largest_component
from veridice.imaging.grid import pooled_map, stretch
from veridice.inference.passes import Backend, deterministic_pass
from veridice.types import Mask, ProbabilityMap, Voxels

HEAD_LEVEL = 0.05
"""Part of the brightest tissue above which a voxel is no air."""
WHOLE_HEAD = 0.15
"""More than this share of what is no air lies outside the brain: a whole head."""


def brain_probability(images: Voxels, network: nn.Module, grid: int, backend: Backend) -> ProbabilityMap:
    """Share of brain in each voxel of the cube (x, y, z).

    Args:
        images: FLAIR and T1w on the cube (2, x, y, z), in [0, 1]; zeros where there is no T1w.
        network: trained on a coarser cube around the same box.
        grid: edge of that cube.
        backend: device and precision.
    """
    edge, rest = divmod(images.shape[1], grid)
    whole = edge > 0 and rest == 0
    coarse = np.stack([pooled_map(image, edge) if whole else stretch(image, (grid,) * 3) for image in images])
    found = deterministic_pass(network, coarse.astype(np.float32), backend)
    # Edges on edges: a coarse voxel's middle lies between those of the fine ones that it is the mean of.
    x, y, z = images.shape[1:]
    return stretch(found, (x, y, z))


def brain_mask(probability: ProbabilityMap) -> Mask:
    """The largest part at 0.5, its holes filled (x, y, z)."""
    return fill_holes(largest_component(probability >= 0.5))


def is_whole_head(flair: Voxels, brain: Mask) -> bool:
    """Whether there is more than the brain in a FLAIR (x, y, z; in [0, 1]) on the cube."""
    head = flair > HEAD_LEVEL
    outside, all_ = int(np.count_nonzero(head & ~brain)), int(np.count_nonzero(head))
    return outside > WHOLE_HEAD * max(1, all_)
