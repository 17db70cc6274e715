"""The reconstruction U-net: fills the lesions it cannot see; where it fails, the mask is doubtful."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from veridice.networks.mc_unet import McUnet


class ReconstructionUnet(nn.Module):
    """The same network as :class:`McUnet`, without dropout and with ReLU as the last activation (paper, Methods).

    Args:
        features: channels at the finest level.
        depth: number of levels.
        stem: as in :class:`McUnet`.
        residual: the network's output is added to its input before the activation, so that it only has to learn what
            was cut out. The paper's network, without it, must also learn to hand through what it sees.
    """

    def __init__(self, features: int = 8, depth: int = 5, stem: int = 1, residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        self.unet = McUnet(in_channels=1, features=features, depth=depth, dropout_rate=0.0, stem=stem)
        # A start below zero everywhere would leave ReLU without a gradient, and the network would never learn.
        finest = self.unet.heads[-1]
        assert isinstance(finest, nn.Conv3d) and finest.bias is not None
        nn.init.constant_(finest.bias, 0.1 if residual else 0.5)

    def forward(self, masked_flair: Tensor) -> Tensor:
        """FLAIR in [0, 1] with zeros inside the lesion mask -> reconstructed FLAIR (batch, 1, x, y, z), >= 0."""
        filled = self.unet(masked_flair)
        return functional.relu(filled + masked_flair if self.residual else filled)
