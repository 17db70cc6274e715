"""Which tissue each voxel of a scan is: whole head or skull-stripped, with a T1w or without."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from veridice.imaging.grid import stretch
from veridice.imaging.tissue import TissueMap
from veridice.inference.passes import Backend, all_outputs
from veridice.types import Voxels


def tissue_map(images: Voxels, network: nn.Module, grid: int, backend: Backend) -> TissueMap:
    """Number of the likeliest tissue of each voxel of the cube (x, y, z).

    Args:
        images: FLAIR and T1w on the cube (2, x, y, z), in [0, 1]; zeros where there is no T1w.
        network: trained on a coarser cube around the same box.
        grid: edge of that cube.
        backend: device and precision.
    """
    coarse = np.stack([stretch(image, (grid,) * 3) for image in images]).astype(np.float32)
    found = all_outputs(network, coarse, backend)[0].argmax(dim=0).to(torch.uint8).cpu().numpy()
    # The nearest voxel: eight maps of the finer cube would take longer than the network itself.
    x, y, z = (((np.arange(n) + 0.5) * grid / n).astype(int) for n in images.shape[1:])
    return found[np.ix_(x, y, z)]
