"""The probabilistic U-net: a latent code chooses among the segmentations that an image allows (Kohl et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal, kl_divergence

from veridice.networks.blocks import encoder_levels, space_to_depth
from veridice.networks.mc_unet import PRIOR_LOGIT, McUnet

LARGEST_LOG = 4.0
"""Of a deviation, either way: beyond it the divergence overflows before the code says any more."""


class LatentNet(nn.Module):
    """A Gaussian over codes from what it sees: an encoder like the U-net's, averaged over space.

    Args:
        in_channels: what it sees.
        features, depth, stem: as in :class:`.McUnet`.
        latent: numbers of a code.
    """

    def __init__(self, in_channels: int, features: int, depth: int, stem: int, latent: int) -> None:
        super().__init__()
        self.stem = stem
        widths = [features * 2**level for level in range(depth)]
        self.encoder = encoder_levels(in_channels, widths, stem)
        self.code = nn.Linear(widths[-1], 2 * latent)

    def forward(self, seen: Tensor) -> Independent[Normal]:
        """The Gaussian (batch, latent) of ``seen`` (batch, channels, x, y, z)."""
        features = space_to_depth(seen, self.stem) if self.stem > 1 else seen
        for block in self.encoder:
            features = block(features, lambda kept: kept)
        mean, log_deviation = self.code(features.mean(dim=(2, 3, 4))).float().chunk(2, dim=1)
        return Independent(Normal(mean, log_deviation.clamp(-LARGEST_LOG, LARGEST_LOG).exp()), 1)


class ProbabilisticUnet(nn.Module):
    """A U-net whose last layers are told a code: from the prior net, which sees the image, or, while it is trained, from the
    posterior net, which sees the truth too (Kohl et al. 2018, arXiv:1806.05034, a conditional variational autoencoder).

    The body is :class:`.McUnet` without dropout. It gives ``maps`` full-resolution features; three 1x1x1 convolutions make the
    segmentation from them and the code. All samples of an image share the body's pass, so that a further one costs little.

    Args:
        in_channels: image contrasts.
        features, depth, stem: of all three nets, as in :class:`.McUnet`.
        classes: parts of the target.
        latent: numbers of a code; 6 as in the paper.
        maps: features that the body hands to the last layers.
    """

    def __init__(
        self,
        in_channels: int = 2,
        features: int = 8,
        depth: int = 5,
        stem: int = 1,
        classes: int = 1,
        latent: int = 6,
        maps: int = 8,
    ) -> None:
        super().__init__()
        self.latent = latent
        self.body = McUnet(in_channels, features, depth, dropout_rate=0.0, stem=stem, classes=maps)
        self.prior = LatentNet(in_channels, features, depth, stem, latent)
        self.posterior = LatentNet(in_channels + classes, features, depth, stem, latent)
        self.last = nn.Sequential(
            nn.Conv3d(maps + latent, maps, 1), nn.LeakyReLU(0.01), nn.Conv3d(maps, maps, 1), nn.LeakyReLU(0.01)
        )
        self.segment = nn.Conv3d(maps, classes, 1)
        assert self.segment.bias is not None
        nn.init.constant_(self.segment.bias, PRIOR_LOGIT)

    def forward(
        self, images: Tensor, generator: torch.Generator | None = None, target: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logits (batch, classes, x, y, z) of ``images``, and the divergence of posterior from prior, mean of the batch.

        The code is drawn from the posterior where a ``target`` (as the logits) is given, else from the prior, with a divergence
        of 0; without a ``generator`` it is the mean.
        """
        prior = codes = self.prior(images)
        if target is not None:
            codes = self.posterior(torch.cat([images, target.to(images.dtype)], dim=1))
        divergence = kl_divergence(codes, prior).mean()
        return self.finish(self.body(images), drawn(codes, generator)), divergence

    def finish(self, features: Tensor, code: Tensor) -> Tensor:
        """Logits from the body's features (batch, maps, x, y, z) and a code (batch, latent)."""
        told = code.to(features.dtype)[:, :, None, None, None].expand(-1, -1, *features.shape[2:])
        logits: Tensor = self.segment(self.last(torch.cat([features, told], dim=1)))
        return logits


def drawn(codes: Independent[Normal], generator: torch.Generator | None) -> Tensor:
    """A code (batch, latent) of each Gaussian; without a generator its mean."""
    mean, deviation = codes.mean, codes.stddev
    if generator is None:
        return mean
    # Drawn where the generator is, so that CPU and GPU see the same.
    noise = torch.randn(mean.shape, generator=generator, device=generator.device)
    code: Tensor = mean + deviation * noise.to(mean.device)
    return code
