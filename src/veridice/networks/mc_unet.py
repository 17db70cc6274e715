"""The Monte Carlo U-net: segments, with dropout active in training and in prediction (paper, Methods)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from veridice.networks.blocks import DecoderBlock, DropoutKind, EncoderBlock

HEADS = 3
"""Scales of the decoder at which a segmentation map is taken."""


class McUnet(nn.Module):
    """3D U-net with summed deep heads and stochastic dropout after every convolutional block.

    Strided encoder with residual context blocks; segmentation maps are taken at the three finest scales of the
    decoder, upsampled and summed before the last activation (Kayalibay, Jensen, van der Smagt 2017,
    arXiv:1701.03056). A *convolutional block* is one level of the encoder or decoder; dropout follows each.

    Args:
        in_channels: image contrasts, FLAIR first, then T1w.
        features: channels at full resolution; doubled at every level below.
        depth: number of levels, at least 3.
        dropout_rate: 0.2 in the paper.
        dropout_kind: whole channels (default) or single elements.
    """

    def __init__(
        self,
        in_channels: int = 2,
        features: int = 8,
        depth: int = 5,
        dropout_rate: float = 0.2,
        dropout_kind: DropoutKind = "channel",
    ) -> None:
        super().__init__()
        if depth < HEADS:
            raise ValueError(f"depth is {depth}, but the heads need at least {HEADS} levels")
        widths = [features * 2**level for level in range(depth)]
        sources = [in_channels, *widths[:-1]]
        self.encoder = nn.ModuleList(
            EncoderBlock(source, width, 1 if level == 0 else 2, dropout_rate, dropout_kind)
            for level, (source, width) in enumerate(zip(sources, widths, strict=True))
        )
        self.decoder = nn.ModuleList(
            DecoderBlock(widths[level + 1], widths[level], dropout_rate, dropout_kind) for level in reversed(range(depth - 1))
        )
        self.heads = nn.ModuleList(nn.Conv3d(widths[level], 1, 1) for level in reversed(range(HEADS)))

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Logits (batch, 1, x, y, z) of ``images`` (batch, channels, x, y, z) scaled to [0, 1].

        With a ``generator`` one stochastic pass, without one the deterministic network.
        """
        skips = []
        features = images
        for encode in self.encoder:
            features = encode(features, generator)
            skips.append(features)
        scales = [features]
        for decode, skip in zip(self.decoder, reversed(skips[:-1]), strict=True):
            features = decode(features, skip, generator)
            scales.append(features)
        logits: Tensor | None = None
        for head, scale in zip(self.heads, scales[-HEADS:], strict=True):
            level = head(scale)
            if logits is not None:
                level = level + functional.interpolate(logits, size=scale.shape[2:], mode="trilinear")
            logits = level
        assert logits is not None
        return logits
