"""An image from labels: what a scan should look like were the mask right; and who tells it from a scan."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from veridice.networks.mc_unet import McUnet

LEVELS = 3
"""Halvings of the discriminator; it judges patches of some 20 voxels' edge."""


class Discriminator(nn.Module):
    """Whether patches of an image, shown beside its labels, are of a scan (PatchGAN: Isola et al. 2017, arXiv:1611.07004)."""

    def __init__(self, in_channels: int, features: int) -> None:
        super().__init__()
        levels: list[nn.Module] = []
        for level in range(LEVELS):
            source, width = (in_channels if level == 0 else features * 2 ** (level - 1)), features * 2**level
            levels += [nn.Conv3d(source, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            levels[-1:-1] = [nn.GroupNorm(1, width)] if level else []
        self.layers = nn.Sequential(*levels, nn.Conv3d(features * 2 ** (LEVELS - 1), 1, 3, padding=1))

    def forward(self, labels: Tensor, image: Tensor) -> Tensor:
        """One number a patch (batch, 1, x, y, z), near 1 where it looks real."""
        said: Tensor = self.layers(torch.cat([labels, image], dim=1))
        return said


class ImageGenerator(nn.Module):
    """A U-net from labels to the image, and its discriminator (pix2pix: Isola et al. 2017, least squares: Mao et al. 2017).

    Args:
        labels: channels: classes of tissue, then the mask.
        features, depth, stem: of the U-net, as in :class:`.McUnet`.
        adversarial: weight of the discriminator's say beside the mean absolute difference; 0: a plain regression.
    """

    def __init__(self, labels: int, features: int = 8, depth: int = 5, stem: int = 1, adversarial: float = 0.01) -> None:
        super().__init__()
        self.adversarial = adversarial
        self.unet = McUnet(labels, features, depth, dropout_rate=0.0, stem=stem)
        nn.init.constant_(self.unet.heads[-1].bias, 0.0)  # type: ignore[arg-type]
        # The brightness of each class goes straight to the image, which the U-net then changes.
        self.brightness = nn.Conv3d(labels, 1, 1)
        self.discriminator = Discriminator(labels + 1, features) if adversarial else None

    def forward(self, labels: Tensor, image: Tensor | None = None) -> Tensor:
        """The image (batch, 1, x, y, z), >= 0, of labels (batch, channels, x, y, z); given the true image, the loss.

        It is the sum of both networks' losses. Neither's gradient reaches the other: the discriminator is frozen while it
        judges for the generator, and then sees a copy of what was generated.
        """
        made = functional.relu(self.unet(labels) + self.brightness(labels))
        if image is None:
            return made
        made = made.float()
        loss = (made - image).abs().mean()
        if self.discriminator is None:
            return loss
        self.discriminator.requires_grad_(False)
        fooled = (self.discriminator(labels, made) - 1).square().mean()
        self.discriminator.requires_grad_(True)
        real, seen = self.discriminator(labels, image), self.discriminator(labels, made.detach())
        told = 0.5 * ((real - 1).square().mean() + seen.square().mean())
        return loss + self.adversarial * fooled + told
