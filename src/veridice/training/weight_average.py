"""Averages of the weights of two networks of one kind.

A short further training on the scans of two hospitals pulls a network towards their graders' habits. The mean of its weights
and of those where it began keeps what is general (WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

Weights = Mapping[str, Tensor]


def averaged(first: Weights, second: Weights, share: float) -> dict[str, Tensor]:
    """``share`` of the second weights and the rest of the first.

    Raises:
        ValueError: they are of different networks.
    """
    if first.keys() != second.keys() or any(first[name].shape != second[name].shape for name in first):
        raise ValueError("weights of different networks cannot be averaged")
    return {name: (1 - share) * first[name].float() + share * second[name].float() for name in first}
