"""Everything that judges a scan, loaded together, described together."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from torch import nn

from veridice.config import LESION, InferenceSettings, Task
from veridice.errors import WeightsError
from veridice.inference.passes import REGRESSORS, Backend
from veridice.inference.weights import load_network
from veridice.io.weight_cards import ANATOMY, CRITIC, WeightCard, bundled_weights, names_in, read_card
from veridice.metrics.scores import SUM_GRID
from veridice.networks.regression_net import RegressionNet
from veridice.quality.decision import Limits
from veridice.quality.model import QualityModel, load_quality_model


@dataclass(frozen=True)
class Models:
    """The networks of one judgement and the cards of their weights.

    ``quality`` is None while it is still to be learnt, ``anatomy`` and ``critic`` where the weights have none.
    """

    brain: nn.Module
    segmenter: nn.Module
    reconstructor: nn.Module
    regressors: dict[str, RegressionNet]
    cards: dict[str, WeightCard]
    task: Task = LESION
    quality: QualityModel | None = None
    anatomy: nn.Module | None = None
    critic: nn.Module | None = None

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        return (self.cards["segmenter"].grid,) * 3

    @property
    def brain_finder(self) -> tuple[nn.Module, int]:
        """The brain network and the edge of its cube."""
        return self.brain, self.cards["brain"].grid


def load_models(folder: Path | None = None, with_quality: bool = True, task: Task = LESION) -> Models:
    """Load everything that judges a scan.

    Args:
        folder: of the weights; None: those that ship.
        with_quality: whether what judges masks is loaded too.
        task: what is judged. Masks of lesions need all networks; the brain network of another task is the one that ships.

    Raises:
        InputError: the calibration there is damaged.
        WeightsError: one is missing or damaged, or they were trained for different cubes or another task.
    """
    folder = folder or bundled_weights(task.name)
    loaded = {name: load_network(folder, name) for name in names_in(folder, task.name)}
    card = loaded["segmenter"][1]
    if card.task != task.name or card.arguments.get("classes", 1) != task.count:
        raise WeightsError(f"{folder}: the weights are for task '{card.task}', not for '{task.name}'; give others, or --task")
    if "brain" not in loaded:
        loaded["brain"] = load_network(bundled_weights(), "brain")
    cards = {name: card for name, (_, card) in loaded.items()}
    on_cube = {name: card.grid for name, card in cards.items() if name not in ("brain", ANATOMY)}
    if len(set(on_cube.values())) != 1:
        grids = ", ".join(f"{name} {grid}" for name, grid in on_cube.items())
        raise WeightsError(f"{folder}: the weights are for different cubes ({grids}); train them with one configuration")
    quality_model = load_quality_model(folder) if with_quality else None
    return Models(
        brain=loaded["brain"][0],
        segmenter=loaded["segmenter"][0],
        reconstructor=loaded["reconstructor"][0],
        regressors={pair: cast(RegressionNet, loaded[name][0]) for pair, name in REGRESSORS.items() if name in loaded},
        cards=cards if quality_model is None else {**cards, "predictor": read_card(folder, "predictor")},
        task=task,
        quality=quality_model,
        anatomy=loaded[ANATOMY][0] if ANATOMY in loaded else None,
        critic=loaded[CRITIC][0] if CRITIC in loaded else None,
    )


def describe_model(
    models: Models, settings: InferenceSettings, limits: Limits, max_gross: float, backend: Backend
) -> dict[str, Any]:
    """Provenance of a judgement: which weights, how many passes, on what; what its decision promises."""
    return {
        "configuration": models.cards["segmenter"].configuration,
        "task": models.task.name,
        "weights": {name: card.sha256 for name, card in models.cards.items()},
        "trained_on": models.cards["segmenter"].data,
        "grid": list(models.grid_shape),
        "sum_grid": list(SUM_GRID),
        "passes": settings.passes,
        "seed": settings.seed,
        **asdict(limits),
        "max_gross": max_gross,
        **backend.describe(),
    }
