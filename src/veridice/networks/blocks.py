"""Building blocks shared by the networks: convolution, residual context, decoding, stochastic dropout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

DropoutKind = Literal["channel", "element"]
Drop = Callable[[Tensor], Tensor]
"""What stands after every convolutional block: features in, features of the same shape out, some of them zero."""


def stochastic_dropout(features: Tensor, rate: float, kind: DropoutKind, generator: torch.Generator | None) -> Tensor:
    """Inverted dropout whose mask comes from ``generator`` alone; without one the features pass unchanged.

    A generator instead of global state makes a stochastic pass a pure function of image and seed, in training and in
    prediction alike. Masks are drawn on the generator's own device, so CPU and GPU see the same ones.

    Args:
        features: (batch, channels, x, y, z).
        rate: probability of dropping a channel or an element, in [0, 1).
        kind: ``channel`` drops whole feature maps (Tompson et al. 2015), ``element`` single voxels.
    """
    if generator is None or rate == 0.0:
        return features
    shape = features.shape if kind == "element" else (*features.shape[:2], 1, 1, 1)
    kept = torch.rand(shape, generator=generator, device=generator.device) >= rate
    return features * (kept.to(features.device, features.dtype) / (1.0 - rate))


def space_to_depth(images: Tensor, edge: int) -> Tensor:
    """Each block of ``edge`` cubed voxels becomes channels: (batch, channels, x, y, z) to (batch, channels * edge^3, ...).

    The order is MONAI's ``pixelunshuffle`` (after Shi et al. 2016, arXiv:1609.05158), which takes a second to import.
    """
    batch, channels, *sides = images.shape
    x, y, z = (side // edge for side in sides)
    blocks = images.reshape(batch, channels, x, edge, y, edge, z, edge)
    return blocks.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(batch, channels * edge**3, x, y, z)


def depth_to_space(features: Tensor, edge: int) -> Tensor:
    """The inverse of :func:`space_to_depth`."""
    batch, channels, x, y, z = features.shape
    blocks = features.reshape(batch, channels // edge**3, edge, edge, edge, x, y, z)
    return blocks.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(batch, channels // edge**3, x * edge, y * edge, z * edge)


class ConvUnit(nn.Sequential):
    """3x3x3 convolution, instance normalisation, leaky ReLU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv3d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            nn.InstanceNorm3d(out_channels, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
        )


class EncoderBlock(nn.Module):
    """(Strided) convolution, then a residual context of two convolutions, then dropout (Kayalibay et al. 2017)."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.entry = ConvUnit(in_channels, out_channels, stride)
        self.context = nn.Sequential(ConvUnit(out_channels, out_channels), ConvUnit(out_channels, out_channels))

    def before_dropout(self, features: Tensor) -> Tensor:
        """The part that is the same in every stochastic pass."""
        entered: Tensor = self.entry(features)
        return entered + self.context(entered)

    def forward(self, features: Tensor, drop: Drop) -> Tensor:
        return drop(self.before_dropout(features))


def encoder_levels(in_channels: int, widths: Sequence[int], stem: int) -> nn.ModuleList:
    """The encoder of a U-net, a block a level; each but the first halves the resolution."""
    sources = [in_channels * stem**3, *widths[:-1]]
    return nn.ModuleList(
        EncoderBlock(source, width, 1 if level == 0 else 2)
        for level, (source, width) in enumerate(zip(sources, widths, strict=True))
    )


class DecoderBlock(nn.Module):
    """Upsample, halve the channels, merge with the encoder's features of that scale, then dropout."""

    def __init__(self, in_channels: int, skip_channels: int) -> None:
        super().__init__()
        # Reducing channels before upsampling gives the same result as after it at an eighth of the arithmetic.
        self.reduce = nn.Conv3d(in_channels, skip_channels, 1, bias=False)
        self.merge = ConvUnit(2 * skip_channels, skip_channels)

    def forward(self, features: Tensor, skip: Tensor, drop: Drop) -> Tensor:
        raised = functional.interpolate(self.reduce(features), size=skip.shape[2:], mode="nearest")
        return drop(self.merge(torch.cat([raised, skip], dim=1)))
