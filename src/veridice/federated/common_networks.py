"""A network to the arrays that cross between server and sites, and back. No Flower."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from veridice.errors import WeightsError
from veridice.federated.updates import Arrays
from veridice.inference.weights import ARCHITECTURES
from veridice.training.settings import TrainingSettings


def build_network(name: str, settings: TrainingSettings) -> nn.Module:
    """A network that has learnt nothing; the same at every site for the same seed."""
    torch.manual_seed(settings.seed)
    return ARCHITECTURES[name.split("-")[0]](**settings.arguments_of(name))


def arrays_of(network: nn.Module) -> dict[str, np.ndarray[Any, Any]]:
    """Weights as float32 arrays."""
    return {name: value.detach().float().cpu().numpy() for name, value in network.state_dict().items()}


def take(network: nn.Module, arrays: Arrays) -> None:
    """Put arrays into a network.

    Raises:
        WeightsError: they are of another network.
    """
    try:
        network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in arrays.items()})
    except RuntimeError as error:
        raise WeightsError("the common weights are of another network than the configuration of this site") from error
