"""The critic: looks at a scan *and the mask to be judged*, and says where lesions are; from that follows where the mask errs.

Others predict the errors themselves beside the Dice (QCResUNet, Qiu et al. 2023). Here one map says it all: where a lesion has
the chance q, given the mask, a marked voxel is wrong with 1 - q, and one that is not marked is missed with q.
"""

from __future__ import annotations

from veridice.networks.blocks import DropoutKind
from veridice.networks.mc_unet import McUnet

CHANNELS = 4
"""FLAIR, T1w, the mask, our mean probability."""


class CriticUnet(McUnet):
    """:class:`McUnet` on four channels: FLAIR and T1w in [0, 1], the mask, our mean probability (zeros where there is none).

    Args:
        features, depth, dropout_rate, dropout_kind, stem: as of :class:`McUnet`.
    """

    def __init__(
        self,
        features: int = 8,
        depth: int = 5,
        dropout_rate: float = 0.2,
        dropout_kind: DropoutKind = "channel",
        stem: int = 1,
    ) -> None:
        super().__init__(CHANNELS, features, depth, dropout_rate, dropout_kind, stem)
