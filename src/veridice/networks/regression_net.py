"""The regression network: looks at a map and a segmentation and predicts the Dice of that segmentation."""

from __future__ import annotations

from torch import Tensor, nn

WIDTHS = (16, 32, 64, 128)


class RegressionNet(nn.Module):
    """3D CNN with 16, 32, 64, 128 features and a linear last layer; one output, the predicted Dice (paper, Methods).

    Batch instead of instance normalisation: the size of the lesions is a strong sign of the Dice, and normalising
    each case by itself would hide it. The paper leaves strides open; each level halves the resolution.

    Args:
        in_channels: maps that are stacked, the segmentation last (image + prediction: 3; the others: 2).
        widths: channels of the levels.
        pool: edge of the blocks over which maps are averaged before they come here (1 is the paper). Coarser maps make
            room for larger batches, without which the batch statistics of so different cases are noise.
        outputs: numbers that come out; more than one are logits of classes of quality.
    """

    def __init__(self, in_channels: int = 2, widths: tuple[int, ...] = WIDTHS, pool: int = 1, outputs: int = 1) -> None:
        super().__init__()
        self.pool = pool
        levels: list[nn.Module] = []
        for source, width in zip((in_channels, *widths[:-1]), widths, strict=True):
            levels += [
                nn.Conv3d(source, width, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm3d(width),
                nn.ReLU(inplace=True),
            ]
        self.features = nn.Sequential(*levels, nn.AdaptiveAvgPool3d(1), nn.Flatten())
        self.dice = nn.Linear(widths[-1], outputs)

    def forward(self, maps: Tensor) -> Tensor:
        """Predicted Dice (batch,), not clipped, or logits (batch, outputs), of pooled maps (batch, channels, x, y, z)."""
        return self.dice(self.features(maps)).squeeze(1)
