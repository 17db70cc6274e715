"""Stochastic samples to uncertainty maps, as running sums: memory does not grow with the number of passes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from veridice.types import ProbabilityMap, Voxels


def binary_entropy(probability: Tensor) -> Tensor:
    """Entropy in bits, ``-p log2 p - (1-p) log2 (1-p)``, in [0, 1]; 0 log 0 = 0 (paper, Eq. 3)."""
    natural = torch.special.entr(probability) + torch.special.entr(1.0 - probability)
    return (natural / torch.log(torch.tensor(2.0))).clamp(0.0, 1.0)


@dataclass(frozen=True)
class UncertaintyMaps:
    """Maps (x, y, z) of one scan on the cube.

    Args:
        mean: mean probability over the passes (paper, Eq. 2).
        entropy: of the mean, in bits (paper, Eq. 3).
        variance: of the probability over the passes (divided by N).
        mutual_information: entropy of the mean minus mean of the entropies, in bits: the part of the entropy on which
            the passes disagree (Houlsby et al. 2011, arXiv:1112.5745).
    """

    mean: ProbabilityMap
    entropy: Voxels
    variance: Voxels
    mutual_information: Voxels


class UncertaintyAccumulator:
    """Add samples one by one, then ask for the maps."""

    def __init__(self) -> None:
        self.count = 0
        self._sum: Tensor | None = None
        self._squares: Tensor | None = None
        self._entropies: Tensor | None = None

    def add(self, sample: Tensor) -> None:
        """Add one probability map (x, y, z) in [0, 1]."""
        sample = sample.float()
        self.count += 1
        if self._sum is None or self._squares is None or self._entropies is None:
            self._sum, self._squares, self._entropies = sample.clone(), sample**2, binary_entropy(sample)
            return
        self._sum += sample
        self._squares += sample**2
        self._entropies += binary_entropy(sample)

    def maps(self) -> UncertaintyMaps:
        """The maps of all samples so far (float32)."""
        if self._sum is None or self._squares is None or self._entropies is None:
            raise ValueError("no sample was added")
        mean = (self._sum / self.count).clamp(0.0, 1.0)
        entropy = binary_entropy(mean)
        variance = (self._squares / self.count - mean**2).clamp_min(0.0)
        information = (entropy - self._entropies / self.count).clamp_min(0.0)
        return UncertaintyMaps(*(tensor.cpu().numpy() for tensor in (mean, entropy, variance, information)))
