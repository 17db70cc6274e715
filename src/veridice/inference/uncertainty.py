"""Stochastic samples to maps, as running sums: of each pass its mask alone stays, an eighth of a byte a voxel."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor

from veridice.metrics.maps import StochasticMaps

SMALLEST = 1e-30
"""Probability whose logarithm stands for that of zero."""


def binary_entropy(probability: Tensor) -> Tensor:
    """Entropy in bits, ``-p log2 p - (1-p) log2 (1-p)``, in [0, 1]; 0 log 0 = 0 (paper, Eq. 3)."""
    rest = 1.0 - probability
    # Twice as fast as torch.special.entr; what is drawn in from zero counts for nothing.
    bits = probability * probability.clamp_min(SMALLEST).log2() + rest * rest.clamp_min(SMALLEST).log2()
    return bits.neg_().clamp_(0.0, 1.0)


class UncertaintyAccumulator:
    """Add samples one by one, then ask for the maps."""

    def __init__(self) -> None:
        self.count = 0
        self._masks: list[np.ndarray[Any, np.dtype[np.uint8]]] = []
        self._sum: Tensor | None = None
        self._squares: Tensor | None = None
        self._entropies: Tensor | None = None

    def add(self, sample: Tensor) -> None:
        """Add one probability map (x, y, z) in [0, 1]."""
        sample = sample.float()
        self.count += 1
        self._masks.append(np.packbits((sample >= 0.5).cpu().numpy().ravel()))
        if self._sum is None or self._squares is None or self._entropies is None:
            self._sum, self._squares, self._entropies = sample.clone(), sample**2, binary_entropy(sample)
            return
        self._sum += sample
        self._squares += sample**2
        self._entropies += binary_entropy(sample)

    def maps(self) -> StochasticMaps:
        """The maps of all samples so far (float32)."""
        if self._sum is None or self._squares is None or self._entropies is None:
            raise ValueError("no sample was added")
        mean = (self._sum / self.count).clamp(0.0, 1.0)
        entropy = binary_entropy(mean)
        variance = (self._squares / self.count - mean**2).clamp_min(0.0)
        information = (entropy - self._entropies / self.count).clamp_min(0.0)
        maps = [tensor.cpu().numpy() for tensor in (mean, entropy, variance, information)]
        return StochasticMaps(maps[0], maps[1], maps[2], maps[3], np.stack(self._masks))
