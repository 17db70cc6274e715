"""Our own segmentation of a scan by one segmenter alone, for benchmarks that compare segmenters."""

from __future__ import annotations

from torch import nn

from veridice.config import InferenceSettings
from veridice.imaging.grid import fit_grid, grid_images
from veridice.imaging.volume import Volume
from veridice.inference.passes import choose_backend, stochastic_passes
from veridice.types import Mask


def own_mask(flair: Volume, t1: Volume | None, segmenter: nn.Module, grid: int, settings: InferenceSettings) -> Mask:
    """In the FLAIR's grid, not cut to the brain.

    Args:
        flair: the scan.
        t1: on the same grid, or None.
        segmenter: Monte Carlo U-net.
        grid: edge of the cube it was trained for.
        settings: passes, seed, device.
    """
    transform = fit_grid(flair, (grid,) * 3)
    images = grid_images(flair, t1, transform)
    passes = stochastic_passes(segmenter, images, choose_backend(settings), settings.passes, settings.seed)
    return transform.to_native(passes.mean, order=3) >= 0.5
