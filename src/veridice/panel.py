"""The networks of one judgement: loaded together, asked together, named together."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays
from torch import nn

from veridice.calibration import CalibrationSet, read_calibration, write_calibration
from veridice.config import InferenceSettings
from veridice.errors import WeightsError
from veridice.familiarity import Familiarity
from veridice.inference.passes import REGRESSORS, Backend
from veridice.inference.weights import load_network
from veridice.io.weight_cards import NAMES, WeightCard, read_card, save_arrays, verified_bytes
from veridice.lesions import LesionModel
from veridice.metrics.scores import SUM_GRID
from veridice.networks.regression_net import RegressionNet
from veridice.predictor import Predictor

CALIBRATION = "calibration.json"
"""File beside the weights."""


@dataclass(frozen=True)
class Judge:
    """What turns evidence into a verdict: predictor, confidence in single lesions, what scans look like, calibration."""

    predictor: Predictor
    lesions: LesionModel
    familiarity: Familiarity
    calibration: CalibrationSet


def save_judge(folder: Path, judge: Judge, card: dict[str, Any]) -> WeightCard:
    """Write predictor, familiarity and their card, which lacks only the arguments and the checksum; and the calibration."""
    arrays = {**judge.predictor.arrays(), **judge.familiarity.arrays()}
    folder.mkdir(parents=True, exist_ok=True)
    write_calibration(folder / CALIBRATION, judge.calibration)
    arguments = {
        "calibration": _checksum(folder / CALIBRATION),
        "features": list(judge.predictor.features),
        "lesions": asdict(judge.lesions),
        "odd_kinds": list(judge.familiarity.kinds),
    }
    return save_arrays(folder, arrays, {"name": "predictor", "kind": "predictor", "arguments": arguments, **card})


@dataclass(frozen=True)
class Networks:
    """The networks of one judgement and the cards of their weights; ``judge`` is None while it is still to be learnt."""

    brain: nn.Module
    segmenter: nn.Module
    reconstructor: nn.Module
    regressors: dict[str, RegressionNet]
    cards: dict[str, WeightCard]
    judge: Judge | None = None

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        return (self.cards["segmenter"].grid,) * 3


def load_networks(folder: Path, judged: bool = True) -> Networks:
    """Load all networks that a judgement needs from ``folder``, and with ``judged`` the judge.

    Raises:
        InputError: the calibration there is damaged.
        WeightsError: one is missing or damaged, or they were trained for different cubes.
    """
    loaded = {name: load_network(folder, name) for name in NAMES}
    cards = {name: card for name, (_, card) in loaded.items()}
    on_cube = {name: card.grid for name, card in cards.items() if name != "brain"}
    if len(set(on_cube.values())) != 1:
        grids = ", ".join(f"{name} {grid}" for name, grid in on_cube.items())
        raise WeightsError(f"{folder}: the weights are for different cubes ({grids}); train them with one configuration")
    judge = load_judge(folder) if judged else None
    return Networks(
        brain=loaded["brain"][0],
        segmenter=loaded["segmenter"][0],
        reconstructor=loaded["reconstructor"][0],
        regressors={pair: cast(RegressionNet, loaded[name][0]) for pair, name in REGRESSORS.items()},
        cards=cards if judge is None else {**cards, "predictor": read_card(folder, "predictor")},
        judge=judge,
    )


def load_judge(folder: Path, familiarity: Familiarity | None = None) -> Judge:
    """Load predictor and calibration from ``folder``; the checksum is checked first.

    Args:
        folder: of the weights.
        familiarity: takes the place of the stored one, which is not read then.

    Raises:
        WeightsError: the predictor is missing, damaged or altered.
        InputError: the calibration is, or it is no calibration.
    """
    card = read_card(folder, "predictor")
    content = verified_bytes(folder, card)
    try:
        arrays = load_arrays(content)
        predictor = Predictor.from_arrays(card.arguments["features"], arrays)
        if familiarity is None:
            familiarity = Familiarity.from_arrays(arrays, card.arguments["odd_kinds"])
        lesions = LesionModel(card.arguments["lesions"]["intercept"], tuple(card.arguments["lesions"]["weights"]))
    except (SafetensorError, KeyError, ValueError, TypeError, IndexError) as error:
        path = folder / "predictor.safetensors"
        raise WeightsError(f"{path}: not a predictor of this version; train or install again") from error
    return Judge(predictor, lesions, familiarity, verified_calibration(folder, card))


def verified_calibration(folder: Path, card: WeightCard) -> CalibrationSet:
    """The calibration beside the weights, which is that of the predictor with this card.

    Raises:
        InputError: missing, or no calibration.
        WeightsError: it is another one.
    """
    calibration = read_calibration(folder / CALIBRATION)
    if _checksum(folder / CALIBRATION) != card.arguments.get("calibration"):
        raise WeightsError(
            f"{folder / CALIBRATION}: altered, or of other weights; install again, or give one of yours with --calibration"
        )
    return calibration


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def describe_model(networks: Networks, settings: InferenceSettings, min_dice: float, backend: Backend) -> dict[str, Any]:
    """Provenance of a judgement: which weights, how many passes, on what."""
    return {
        "configuration": networks.cards["segmenter"].configuration,
        "weights": {name: card.sha256 for name, card in networks.cards.items()},
        "trained_on": networks.cards["segmenter"].data,
        "grid": list(networks.grid_shape),
        "sum_grid": list(SUM_GRID),
        "passes": settings.passes,
        "seed": settings.seed,
        "min_dice": min_dice,
        **backend.describe(),
    }
