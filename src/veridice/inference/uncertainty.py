"""Stochastic samples to maps, as running sums: of each pass its mask alone stays, an eighth of a byte a voxel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
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


def uncertainty_maps(samples: Iterable[Tensor]) -> StochasticMaps:
    """The maps (float32) of probability maps (x, y, z) in [0, 1], which are taken one by one."""
    masks: list[np.ndarray[Any, np.dtype[np.uint8]]] = []
    total = squares = entropies = torch.zeros(())
    for sample in (sample.float() for sample in samples):
        if not masks:
            total, squares, entropies = (torch.zeros_like(sample) for _ in range(3))
        masks.append(np.packbits((sample >= 0.5).cpu().numpy().ravel()))
        # In place: new maps for every pass would cost as much time as the sums.
        total += sample
        squares.addcmul_(sample, sample)
        entropies += binary_entropy(sample)
    if not masks:
        raise ValueError("no sample was given")
    mean = (total / len(masks)).clamp(0.0, 1.0)
    entropy = binary_entropy(mean)
    variance = (squares / len(masks) - mean**2).clamp_min(0.0)
    information = (entropy - entropies / len(masks)).clamp_min(0.0)
    maps = [tensor.cpu().numpy() for tensor in (mean, entropy, variance, information)]
    return StochasticMaps(maps[0], maps[1], maps[2], maps[3], np.stack(masks))
