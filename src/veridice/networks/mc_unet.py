"""The Monte Carlo U-net: segments, with dropout active in training and in prediction (paper, Methods)."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from veridice.networks.blocks import (
    DecoderBlock,
    Drop,
    DropoutKind,
    EncoderBlock,
    depth_to_space,
    encoder_levels,
    space_to_depth,
    stochastic_dropout,
)

HEADS = 3
"""Scales of the decoder at which a segmentation map is taken."""
PRIOR_LOGIT = -4.0
"""Where training begins: a probability of 0.02 (Lin et al. 2017, arXiv:1708.02002, section 4.1)."""


class McUnet(nn.Module):
    """3D U-net with summed deep heads and stochastic dropout after every convolutional block.

    Strided encoder with residual context blocks; segmentation maps are taken at the three finest scales of the
    decoder, upsampled and summed before the last activation (Kayalibay, Jensen, van der Smagt 2017,
    arXiv:1701.03056). A *convolutional block* is one level of the encoder or decoder; dropout follows each.

    With ``stem`` 2 the image is first rearranged from space to depth (each 2x2x2 block becomes eight channels) and the
    heads' eight channels are rearranged back at the end (Shi et al. 2016, arXiv:1609.05158): no voxel is lost, and the
    convolutions at full resolution, more than half of the arithmetic, are gone.

    Args:
        in_channels: image contrasts, FLAIR first, then T1w.
        features: channels at the finest level of the network; doubled at every level below.
        depth: number of levels, at least 3.
        dropout_rate: 0.2 in the paper.
        dropout_kind: whole channels (default) or single elements.
        stem: edge of the blocks that the image is rearranged by; 1 (the paper) works at full resolution.
        classes: maps that come out.
    """

    def __init__(
        self,
        in_channels: int = 2,
        features: int = 8,
        depth: int = 5,
        dropout_rate: float = 0.2,
        dropout_kind: DropoutKind = "channel",
        stem: int = 1,
        classes: int = 1,
    ) -> None:
        super().__init__()
        if depth < HEADS:
            raise ValueError(f"depth is {depth}, but the heads need at least {HEADS} levels")
        self.dropout_rate, self.dropout_kind, self.stem, self.classes = dropout_rate, dropout_kind, stem, classes
        widths = [features * 2**level for level in range(depth)]
        self.encoder = encoder_levels(in_channels, widths, stem)
        self.decoder = nn.ModuleList(DecoderBlock(widths[level + 1], widths[level]) for level in reversed(range(depth - 1)))
        self.heads = nn.ModuleList(nn.Conv3d(widths[level], classes * stem**3, 1) for level in reversed(range(HEADS)))
        # A start at probability 0.5 everywhere drowns the Dice loss's gradient in background; lesions are rare.
        finest = self.heads[-1]
        assert isinstance(finest, nn.Conv3d) and finest.bias is not None
        nn.init.constant_(finest.bias, PRIOR_LOGIT if classes == 1 else 0.0)
        self.dropout_channels = (*widths, *reversed(widths[:-1]))
        """Channels of each block that dropout follows, in the order of the pass."""

    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Logits (batch, classes, x, y, z) of ``images`` (batch, channels, x, y, z) scaled to [0, 1].

        With a ``generator`` one stochastic pass, without one the deterministic network.
        """
        return self.finish(self.shared_features(images), generator)

    def shared_features(self, images: Tensor) -> Tensor:
        """What all passes over ``images`` have in common, since no dropout comes before it: the finest level's features.

        (batch, features, x, y, z), at full resolution divided by the stem. A third of the arithmetic of the network that
        ships, so that it pays to compute it once.
        """
        first = self.encoder[0]
        assert isinstance(first, EncoderBlock)
        return first.before_dropout(space_to_depth(images, self.stem) if self.stem > 1 else images)

    def deepest_features(self, shared: Tensor) -> Tensor:
        """Mean over space of the deepest level's channels (batch, channels), without dropout: how the whole image looks."""
        features = shared
        for encode in list(self.encoder)[1:]:
            features = encode(features, lambda kept: kept)
        return features.mean(dim=(2, 3, 4))

    def finish(self, shared: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Logits of :meth:`forward` from ``shared``, the result of :meth:`shared_features`."""
        drop = partial(stochastic_dropout, rate=self.dropout_rate, kind=self.dropout_kind, generator=generator)
        return self._segment(shared, drop)

    def finish_with_masks(self, shared: Tensor, masks: Tensor) -> Tensor:
        """The same with the dropout of whole channels given from outside: a pure function of tensors.

        Args:
            shared: from :meth:`shared_features`.
            masks: (all channels,), from :meth:`draw_masks`.
        """
        parts = iter(masks.split(list(self.dropout_channels)))
        return self._segment(shared, lambda features: features * next(parts).view(1, -1, 1, 1, 1).to(features.dtype))

    def draw_masks(self, generator: torch.Generator) -> Tensor:
        """Factors of one pass (all channels,), those that ``forward`` would draw from the same generator."""
        drop = partial(stochastic_dropout, rate=self.dropout_rate, kind="channel", generator=generator)
        return torch.cat([drop(torch.ones(1, channels, 1, 1, 1)).flatten() for channels in self.dropout_channels])

    def _segment(self, shared: Tensor, drop: Drop) -> Tensor:
        features = drop(shared)
        skips = [features]
        for encode in list(self.encoder)[1:]:
            features = encode(features, drop)
            skips.append(features)
        scales = [features]
        for decode, skip in zip(self.decoder, reversed(skips[:-1]), strict=True):
            features = decode(features, skip, drop)
            scales.append(features)
        logits, *finer = (head(scale) for head, scale in zip(self.heads, scales[-HEADS:], strict=True))
        for level in finer:
            logits = level + functional.interpolate(logits, size=level.shape[2:], mode="trilinear")
        return depth_to_space(logits, self.stem) if self.stem > 1 else logits
