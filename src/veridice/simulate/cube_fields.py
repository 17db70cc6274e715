"""Random fields, sampling and slices on the cube, as torch operations on any device. All volumes are (channels, x, y, z)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

LOST_BY_INTERPOLATION = 1.45
"""What gives a linearly enlarged lattice of independent values its unit deviation back, as in :mod:`.fields`."""


class Noise:
    """Random numbers of one patient on one device.

    Args:
        seed: of all of them.
        shape: of the fields, (x, y, z).
        device: where they are made.
    """

    def __init__(self, seed: int, shape: tuple[int, int, int], device: torch.device) -> None:
        self.shape, self.device = shape, device
        self.generator = torch.Generator(device).manual_seed(seed)

    def white(self, channels: int = 1) -> Tensor:
        """Independent normal values."""
        return torch.randn((channels, *self.shape), generator=self.generator, device=self.device)

    def smooth(self, spacing: Any, channels: int = 1) -> Tensor:
        """Fields of about unit deviation whose structure is ``spacing`` voxels wide (a number, or one for each axis)."""
        steps = np.broadcast_to(spacing, 3)
        lattice = [int(np.ceil(n / step)) + 2 for n, step in zip(self.shape, steps, strict=True)]
        values = torch.randn((1, channels, *lattice), generator=self.generator, device=self.device)
        return LOST_BY_INTERPOLATION * enlarge(values[0], self.shape)


def enlarge(volume: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Linear enlargement, first voxel on first, last on last, as products with narrow matrices, which any device does fast."""
    x, y, z = (_rows(size, count, volume) for size, count in zip(volume.shape[1:], shape, strict=True))
    volume = torch.einsum("ai,cijk->cajk", x, volume)
    return torch.matmul(torch.matmul(y, volume), z.T)


def _rows(size: int, count: int, like: Tensor) -> Tensor:
    """Weights (count, size) of a linear interpolation."""
    place = torch.linspace(0, size - 1, count, device=like.device, dtype=like.dtype)
    return (1 - (place[:, None] - torch.arange(size, device=like.device)).abs()).clamp(min=0)


def affine_places(linear: Any, middle: Any, shape: tuple[int, int, int], device: torch.device) -> Tensor:
    """``linear`` (3 x 3) times each voxel's way from the middle of a volume, plus ``middle``: (3, x, y, z)."""
    x, y, z = (torch.arange(n, device=device) - (n - 1) / 2 for n in shape)
    rows = [
        row[0] * x[:, None, None] + row[1] * y[:, None] + row[2] * z + m for row, m in zip(linear.tolist(), middle, strict=True)
    ]
    return torch.stack(rows)


def sample(volume: Tensor, places: Tensor, nearest: bool = False) -> Tensor:
    """Values (channels, x, y, z) of ``volume`` at ``places`` (3, x, y, z) in its voxels; 0 outside."""
    sizes = torch.tensor(volume.shape[1:], device=places.device, dtype=places.dtype).view(3, 1, 1, 1)
    # The grid names the last axis first.
    grid = (2 * places / (sizes - 1) - 1).flip(0).permute(1, 2, 3, 0)[None]
    mode = "nearest" if nearest else "bilinear"
    return functional.grid_sample(volume[None], grid, mode=mode, padding_mode="zeros", align_corners=True)[0]


def to_slices(volume: Tensor, counts: tuple[int, int, int]) -> Tensor:
    """Means over slices (or coarser voxels): so many along each axis, or as many as there are where that is fewer."""
    x, y, z = (min(n, s) for n, s in zip(counts, volume.shape[1:], strict=True))
    return functional.adaptive_avg_pool3d(volume[None], (x, y, z))[0]


def from_slices(volume: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Trilinear interpolation back, voxel middles in the same places."""
    if volume.shape[1:] == shape:
        return volume
    return functional.interpolate(volume[None], size=shape, mode="trilinear", align_corners=False)[0]


def soften(volume: Tensor) -> Tensor:
    """Mean over 3x3x3 voxels; what lies outside is as the border."""
    for axis in (1, 2, 3):
        inner = volume.shape[axis] - 1
        total = volume.clone()
        total.narrow(axis, 1, inner).add_(volume.narrow(axis, 0, inner))
        total.narrow(axis, 0, inner).add_(volume.narrow(axis, 1, inner))
        for border in (0, inner):
            total.narrow(axis, border, 1).add_(volume.narrow(axis, border, 1))
        volume = total
    return volume.div_(27)


def dilated(mask: Tensor, steps: int = 1) -> Tensor:
    """Boolean mask, grown by a cube of ``2 steps + 1`` voxels.

    One axis after the other, which on a processor is many times as fast as pooling.
    """
    for _ in range(steps):
        for axis in (1, 2, 3):
            inner, grown = mask.shape[axis] - 1, mask.clone()
            grown.narrow(axis, 1, inner).logical_or_(mask.narrow(axis, 0, inner))
            grown.narrow(axis, 0, inner).logical_or_(mask.narrow(axis, 1, inner))
            mask = grown
    return mask


def eroded(mask: Tensor, steps: int = 1) -> Tensor:
    """Boolean mask, shrunk likewise; what lies outside is as the border."""
    return ~dilated(~mask, steps)
