"""What a weights file is: its card, its checksum, where the ones that ship lie. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from veridice.config import LESION, Frozen
from veridice.errors import WeightsError

if TYPE_CHECKING:
    import numpy as np

NetworkKind = Literal["segmenter", "reconstructor", "regressor", "brain", "anatomy", "critic", "probabilistic", "generator"]
WeightKind = Literal[
    "segmenter", "reconstructor", "regressor", "brain", "anatomy", "critic", "probabilistic", "generator", "predictor"
]
NAMES = ("brain", "segmenter", "reconstructor", "regressor-image", "regressor-uncertainty", "regressor-error")
"""The networks that a judgement needs, by file name."""
ANATOMY, CRITIC = OPTIONAL = ("anatomy", "critic")
"""Networks that weights may have: without the first no places of lesions are told, without the other no maps of errors."""


class WeightCard(Frozen):
    """What a weights file is, where it comes from and how good it was; stored beside it as JSON."""

    name: str
    kind: WeightKind
    arguments: dict[str, Any] = Field(description="arguments of the network's class")
    task: str = Field(LESION.name, description="what is segmented")
    grid: int = Field(description="edge of the cube it was trained for")
    sha256: str = Field(description="of the safetensors file")
    configuration: str = Field(description="name of the training configuration")
    data: str = Field(description="what it was trained and validated on, and what simulated data mean")
    people: dict[str, list[str]] = Field(description="patients by split, those of the weights it started from included")
    started_from: str = Field("", description="sha256 of the weights that training started from; empty when from nothing")
    learnt_from: dict[str, str] = Field({}, description="regressors: sha256 of the networks whose maps they learnt from")
    steps: int = Field(description="of the last training alone")
    best_step: int
    seed: int
    commit: str
    created: str
    metrics: dict[str, float] = Field(description="on the validation split")
    version: str
    licence: str = "Apache-2.0"


def bundled_weights(task: str = LESION.name) -> Path:
    """Folder of the weights that ship with the package for a task.

    Raises:
        WeightsError: none do.
    """
    folder = Path(str(resources.files("veridice") / "weights"))
    if task != LESION.name and not (folder := folder / task).is_dir():
        raise WeightsError(
            f"no weights ship for task '{task}'; train some (veridice train) and give their folder with --weights"
        )
    return folder


def names_in(folder: Path, task: str = LESION.name) -> tuple[str, ...]:
    """Networks that a judgement is made with: those that it needs, then those that it may have and that are there."""
    needed = NAMES if task == LESION.name else ("segmenter", "reconstructor")
    further = (name for name in (*NAMES[3:], *OPTIONAL) if name not in needed)
    return (*needed, *(name for name in further if (folder / f"{name}.json").exists()))


def checksums(folder: Path, task: str = LESION.name) -> dict[str, str]:
    """SHA-256 of all weights that a judgement is made with, by name; what has no brain network takes the one that ships.

    Raises:
        WeightsError: a card is missing or damaged.
    """
    own = {name: read_card(folder, name).sha256 for name in (*names_in(folder, task), "predictor")}
    return own if "brain" in own else {"brain": read_card(bundled_weights(), "brain").sha256, **own}


def read_card(folder: Path, name: str) -> WeightCard:
    """Read the card of weights ``name``.

    Raises:
        WeightsError: missing, or not a card.
    """
    path = folder / f"{name}.json"
    try:
        card = WeightCard.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"{path}: no such weight card; reinstall veridice or check --weights") from error
    except ValueError as error:
        raise WeightsError(f"{path}: not a weight card ({type(error).__name__}); reinstall veridice") from error
    if card.name != name or card.kind != name.split("-")[0]:
        raise WeightsError(
            f"{path}: is the card of a {card.kind} named {card.name}; put the {name} there or reinstall veridice"
        )
    return card


def verify(folder: Path, name: str) -> WeightCard:
    """Check the checksum of weights ``name`` against its card.

    Raises:
        WeightsError: missing or altered.
    """
    card = read_card(folder, name)
    verified_bytes(folder, card)
    return card


def save_arrays(folder: Path, arrays: Mapping[str, np.ndarray[Any, Any]], card: dict[str, Any]) -> WeightCard:
    """Write arrays as they are, and their card; ``card`` lacks only the checksum."""
    from safetensors.numpy import save_file

    from veridice.io.atomic import replaced, write_text

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{card['name']}.safetensors"
    with replaced(path) as temporary:
        save_file(dict(arrays), temporary)
        complete = WeightCard(**card, sha256=hashlib.sha256(temporary.read_bytes()).hexdigest())
        # safetensors writes for the owner alone; weights are for everybody who may see the folder.
        temporary.chmod(0o644)
    write_text(folder / f"{complete.name}.json", complete.model_dump_json(indent=2) + "\n")
    return complete


def verified_bytes(folder: Path, card: WeightCard) -> bytes:
    """Content of a weights file.

    Raises:
        WeightsError: missing, or its checksum is not the card's.
    """
    path = folder / f"{card.name}.safetensors"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: no such weights; reinstall veridice or check --weights") from error
    if hashlib.sha256(content).hexdigest() != card.sha256:
        raise WeightsError(f"{path}: damaged or altered (its checksum is not the card's); reinstall veridice")
    return content
