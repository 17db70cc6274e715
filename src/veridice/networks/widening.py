"""A wider U-net that says the same as a narrower one, and has room to learn more (Net2Net, Chen et al. 2016, arXiv:1511.05641).

Further channels are copies of former ones, and what reads them shares its weight among the copies. Dropout, which drops each
copy by itself, and a little noise make them differ as training goes on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from veridice.networks.mc_unet import McUnet

ENTRY = "encoder.0.entry.0.weight"
"""Of the first convolution."""
PARTS = re.compile(r"(encoder|decoder|heads)\.(\d+)\.(.+)")


def widened(network: McUnet, features: int, noise: float = 0.0, seed: int = 0) -> dict[str, Tensor]:
    """State of the same network with ``features`` channels at its finest level.

    Args:
        network: narrower one.
        features: at least as many as it has.
        noise: relative deviation of what is added to the copied weights.
        seed: of the noise.

    Raises:
        ValueError: it would be narrower.
    """
    depth, old = len(network.encoder), network.dropout_channels[0]
    if features < old:
        raise ValueError(f"{features} features are fewer than {old}")
    generator = torch.Generator().manual_seed(seed)
    sources = [torch.arange(features * 2**level) % (old * 2**level) for level in range(depth)]
    found = {}
    for name, value in network.state_dict().items():
        kind, number, rest = _parts(name)
        level = number if kind == "encoder" else depth - 2 - number if kind == "decoder" else len(network.heads) - 1 - number
        out = None if kind == "heads" else sources[level]
        value = value if out is None else value[out]
        if value.ndim > 1 and (reads := _reads(kind, level, rest, sources)) is not None:
            shared = torch.bincount(reads)[reads]
            value = value[:, reads] / shared.view(1, -1, *[1] * (value.ndim - 2))
            value = value * (1 + noise * torch.randn(value.shape, generator=generator))
        found[name] = value
    return found


def with_further_inputs(weights: Mapping[str, Tensor], channels: int) -> dict[str, Tensor]:
    """State of the same network with further input channels, which it does not look at yet.

    Args:
        weights: of a :class:`McUnet` whose first convolution reads fewer channels.
        channels: that the first convolution is to read, after the stem.
    """
    first = weights[ENTRY]
    wider = first.new_zeros(first.shape[0], channels, *first.shape[2:])
    wider[:, : first.shape[1]] = first
    return {**weights, ENTRY: wider}


def _parts(name: str) -> tuple[str, int, str]:
    found = PARTS.fullmatch(name)
    if found is None:
        raise ValueError(f"{name}: not of a U-net")
    return found[1], int(found[2]), found[3]


def _reads(kind: str, level: int, rest: str, sources: list[Tensor]) -> Tensor | None:
    """Former channel of each channel that a convolution reads; None for the image itself."""
    if kind == "encoder" and rest.startswith("entry"):
        return sources[level - 1] if level else None
    if kind == "decoder" and rest.startswith("reduce"):
        return sources[level + 1]
    if kind == "decoder":
        # The raised features first, then those of the encoder.
        here = sources[level]
        return torch.cat([here, here + int(here.max()) + 1])
    return sources[level]
