"""Weights that ship with the package or come from a training run: safetensors plus a JSON card, checked before use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import nn

from veridice.errors import WeightsError
from veridice.io.weight_cards import WeightCard, read_card, save_arrays, verified_bytes
from veridice.networks.critic_unet import CriticUnet
from veridice.networks.image_generator import ImageGenerator
from veridice.networks.mc_unet import McUnet
from veridice.networks.probabilistic_unet import ProbabilisticUnet
from veridice.networks.reconstruction_unet import ReconstructionUnet
from veridice.networks.regression_net import RegressionNet

ARCHITECTURES: dict[str, type[nn.Module]] = {
    "segmenter": McUnet,
    "reconstructor": ReconstructionUnet,
    "regressor": RegressionNet,
    "brain": McUnet,
    "anatomy": McUnet,
    "critic": CriticUnet,
    "probabilistic": ProbabilisticUnet,
    "generator": ImageGenerator,
}


def load_network(folder: Path, name: str) -> tuple[nn.Module, WeightCard]:
    """Build network ``name`` and load its weights, in evaluation mode, float32; the checksum is checked first.

    Raises:
        WeightsError: missing, damaged or altered, or weights of another architecture.
    """
    card = read_card(folder, name)
    content = verified_bytes(folder, card)
    try:
        network = ARCHITECTURES[card.kind](**card.arguments)
        state = {key: value.float() if value.is_floating_point() else value for key, value in load_safetensors(content).items()}
        network.load_state_dict(state)
    except (SafetensorError, RuntimeError, TypeError, ValueError) as error:
        message = " ".join(str(error).split())[:160]
        raise WeightsError(
            f"{folder / name}.safetensors: not weights of this kind, {card.kind} ({message}); train or install again"
        ) from error
    return network.eval(), card


def save_network(folder: Path, network: nn.Module, card: dict[str, Any]) -> WeightCard:
    """Write weights in half precision and their card; ``card`` lacks only the checksum."""
    state = {
        key: (value.half() if value.is_floating_point() else value).detach().cpu().contiguous().numpy()
        for key, value in network.state_dict().items()
    }
    return save_arrays(folder, state, card)
