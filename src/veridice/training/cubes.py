"""A labelled scan on the cube as a training sees it: its channels, an example, one pass over it. Light imports only."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from veridice.inference.passes import bf16_pays

Example = dict[str, torch.Tensor]
FLAIR, T1W, LESION, IGNORED = range(4)
"""Channels of a stored cube (uint8; 255 is 1) whose target is one part, such as lesions."""


def as_example(channels: Tensor) -> Example:
    """The channels of a cube or patch (..., 3 + parts, x, y, z) by name: images, parts of the target, what is ignored."""
    images, target, ignored = channels.split((LESION, channels.shape[-4] - LESION - 1, 1), dim=-4)
    return {"images": images, "target": target, "ignored": ignored}


def plain_pass(model: nn.Module, images: Tensor, bf16: bool = True) -> Tensor:
    """What a network says of one example (channels, x, y, z), without dropout; a batch of one, float32, on the CPU."""
    device = next(model.parameters()).device
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16 and bf16_pays(device.type)):
        result: Tensor = model(images[None].to(device))
    return result.float().cpu()
