"""What turns numbers about masks and images into a predicted Dice and a verdict; stored beside the weights."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load as load_arrays

from veridice.errors import WeightsError
from veridice.io.weight_cards import WeightCard, read_card, save_arrays, verified_bytes
from veridice.quality.calibration import CalibrationSet, read_calibration, write_calibration
from veridice.quality.image_features import DESCRIPTORS, LATER
from veridice.quality.ood import OodDetector
from veridice.quality.predictor import Predictor
from veridice.quality.single_lesions import LesionModel

CALIBRATION = "calibration.json"
OF_0_1_0 = tuple(name for name in DESCRIPTORS if name not in LATER)
"""Descriptors of weights whose card does not name them."""
"""File beside the weights."""


@dataclass(frozen=True)
class QualityModel:
    """What turns evidence into a verdict: predictor, confidence in single lesions, what scans look like, calibration."""

    predictor: Predictor
    lesions: LesionModel
    ood: OodDetector
    calibration: CalibrationSet


def save_quality_model(folder: Path, quality_model: QualityModel, card: dict[str, Any]) -> WeightCard:
    """Write predictor, detector and calibration; their ``card`` lacks only the arguments and the checksum."""
    arrays = {**quality_model.predictor.arrays(), **quality_model.ood.arrays()}
    folder.mkdir(parents=True, exist_ok=True)
    write_calibration(folder / CALIBRATION, quality_model.calibration)
    arguments = {
        "calibration": _checksum(folder / CALIBRATION),
        "features": list(quality_model.predictor.features),
        "lesions": asdict(quality_model.lesions),
        "odd_kinds": list(quality_model.ood.kinds),
        "descriptors": list(quality_model.ood.names),
    }
    return save_arrays(folder, arrays, {"name": "predictor", "kind": "predictor", "arguments": arguments, **card})


def load_quality_model(folder: Path, ood: OodDetector | None = None) -> QualityModel:
    """Load predictor and calibration from ``folder``; the checksum is checked first.

    Args:
        folder: of the weights.
        ood: takes the place of the stored one, which is not read then.

    Raises:
        WeightsError: the predictor is missing, damaged or altered.
        InputError: the calibration is, or it is no calibration.
    """
    card = read_card(folder, "predictor")
    content = verified_bytes(folder, card)
    try:
        arrays = load_arrays(content)
        predictor = Predictor.from_arrays(card.arguments["features"], arrays)
        if ood is None:
            ood = OodDetector.from_arrays(arrays, card.arguments["odd_kinds"], card.arguments.get("descriptors", OF_0_1_0))
        lesions = LesionModel(card.arguments["lesions"]["intercept"], tuple(card.arguments["lesions"]["weights"]))
    except (SafetensorError, KeyError, ValueError, TypeError, IndexError) as error:
        path = folder / "predictor.safetensors"
        raise WeightsError(f"{path}: not a predictor of this version; train or install again") from error
    return QualityModel(predictor, lesions, ood, verified_calibration(folder, card))


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
