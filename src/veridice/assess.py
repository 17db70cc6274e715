"""One scan end to end: volumes in, judgement and maps out. The heart of the package."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from torch import nn

from veridice._version import __version__
from veridice.case import Assessment
from veridice.config import InferenceSettings
from veridice.error_maps import error_map
from veridice.errors import GeometryError, WeightsError
from veridice.inference import Backend, choose_backend, predict_dice, reconstruct, stochastic_passes
from veridice.input_checks import image_warnings
from veridice.networks.regression_net import RegressionNet
from veridice.networks.weights import NAMES, WeightCard, load_network
from veridice.scores import SUM_GRID, GridMaps, all_scores, lesion_count, lesion_volume_ml
from veridice.spatial import GridTransform, fit_grid, intensity_range, scan_on_grid
from veridice.types import Mask, Voxels
from veridice.verdict import clip_dice, provisional_verdict
from veridice.volume import Volume

Tick = Callable[[], None]

REGRESSORS = {"image": "regressor-image", "uncertainty": "regressor-uncertainty", "error": "regressor-error"}


@dataclass(frozen=True)
class Networks:
    """The networks of one judgement and the cards of their weights."""

    segmenter: nn.Module
    reconstructor: nn.Module
    regressors: dict[str, RegressionNet]
    cards: dict[str, WeightCard]

    @property
    def grid_shape(self) -> tuple[int, int, int]:
        return (self.cards["segmenter"].grid,) * 3


def load_networks(folder: Path) -> Networks:
    """Load all networks that a judgement needs from ``folder``.

    Raises:
        WeightsError: one is missing or damaged, or they were trained for different cubes.
    """
    loaded = {name: load_network(folder, name) for name in NAMES}
    cards = {name: card for name, (_, card) in loaded.items()}
    if len({card.grid for card in cards.values()}) != 1:
        grids = ", ".join(f"{name} {card.grid}" for name, card in cards.items())
        raise WeightsError(f"{folder}: the weights are for different cubes ({grids}); train them with one configuration")
    return Networks(
        segmenter=loaded["segmenter"][0],
        reconstructor=loaded["reconstructor"][0],
        regressors={pair: cast(RegressionNet, loaded[name][0]) for pair, name in REGRESSORS.items()},
        cards=cards,
    )


@dataclass(frozen=True)
class Judgement:
    """An assessment that is not stored yet.

    Args:
        assessment: without its files.
        maps: in the FLAIR's own grid, by name.
        preprocessing: JSON-ready record of every step between the scan and the cube.
    """

    assessment: Assessment
    maps: dict[str, Volume]
    preprocessing: dict[str, Any]


def assess_scan(
    case: str,
    flair: Volume,
    t1: Volume | None,
    mask: Volume | None,
    networks: Networks,
    settings: InferenceSettings,
    tick: Tick | None = None,
) -> Judgement:
    """Judge our own segmentation of a scan, or a given one.

    Args:
        case: name of the scan.
        flair: the scan; all maps come back in its grid.
        t1: on the same grid; zeros take its place when absent, with a warning.
        mask: boolean, on the same grid; judged instead of our own segmentation.
        networks: from :func:`load_networks`.
        settings: passes, seed, device, threshold.
        tick: called after each stochastic pass.

    Raises:
        GeometryError: T1w or mask lie on another grid.
        InputError: nothing can be judged in this image.
    """
    clock = Clock()
    _require_grid(flair, t1, "T1w", "register and resample the T1w to the FLAIR first (for example with flirt)")
    _require_grid(flair, mask, "mask", "resample it with nearest neighbour first")
    backend = choose_backend(settings)
    with clock.stage("grid"):
        transform = fit_grid(flair, networks.grid_shape)
        images = grid_images(flair, t1, transform)
        scans = {"flair": flair, "t1": t1}
        ranges = {name: asdict(intensity_range(image, transform)) for name, image in scans.items() if image is not None}
        warnings = image_warnings(images[0], images[1] if t1 is not None else None, flair.geometry, transform.geometry)
    with clock.stage("segmentation"):
        result = stochastic_passes(networks.segmenter, images, backend, settings.passes, settings.seed, tick=tick)
    segmentation = result.maps.mean if mask is None else transform.to_grid(mask.voxels)
    with clock.stage("reconstruction"):
        reconstruction = reconstruct(networks.reconstructor, images[0], segmentation >= 0.5, backend)
    maps = GridMaps(
        segmentation=segmentation,
        probability=result.maps.mean,
        entropy=result.maps.entropy,
        variance=result.maps.variance,
        mutual_information=result.maps.mutual_information,
        error=error_map(images[0], reconstruction),
        sample_masks=result.sample_masks,
    )
    with clock.stage("regression"):
        predictions = predict_all(networks.regressors, images, maps, backend)
    with clock.stage("native_maps"):
        native = native_maps(maps, reconstruction, transform, mask)
    judged = native["lesion_mask"] if mask is None else mask
    with clock.stage("scores"):
        scores = {**predictions, **all_scores(maps), "lesion_count": lesion_count(judged.voxels)}
    predicted = clip_dice(predictions["predicted_dice_raw"])
    voxel_ml = flair.geometry.voxel_volume_ml
    assessment = Assessment(
        case=case,
        verdict=provisional_verdict(predicted, settings.min_dice),
        predicted_dice=predicted,
        scores=scores,
        volumes_ml={
            "judged_mask": lesion_volume_ml(judged.voxels, voxel_ml),
            "own_mask": lesion_volume_ml(native["lesion_mask"].voxels, voxel_ml),
        },
        warnings=(*warnings, *_mask_warnings(judged)),
        maps={},
        seconds=clock.seconds,
        model=describe_model(networks, settings, backend.for_network(networks.segmenter)),
        version=__version__,
    )
    return Judgement(assessment, native, {**transform.record(), "intensity_range": ranges})


def grid_images(flair: Volume, t1: Volume | None, transform: GridTransform) -> Voxels:
    """FLAIR and T1w on the cube, in [0, 1] (2, x, y, z); zeros where there is no T1w."""
    flair_grid = scan_on_grid(flair, transform)
    return np.stack([flair_grid, np.zeros_like(flair_grid) if t1 is None else scan_on_grid(t1, transform)])


def own_mask(flair: Volume, t1: Volume | None, segmenter: nn.Module, grid: int, settings: InferenceSettings) -> Mask:
    """Our own segmentation of a scan alone, in the FLAIR's grid, the same that :func:`assess_scan` judges.

    Args:
        flair: the scan.
        t1: on the same grid, or None.
        segmenter: Monte Carlo U-net.
        grid: edge of the cube it was trained for.
        settings: passes, seed, device.
    """
    transform = fit_grid(flair, (grid,) * 3)
    images = grid_images(flair, t1, transform)
    result = stochastic_passes(segmenter, images, choose_backend(settings), settings.passes, settings.seed)
    return mask_from_probability(transform.to_native(result.maps.mean, order=3))


def mask_from_probability(probability: Voxels) -> Mask:
    """Voxels that are a lesion rather than not; of the native probability map, not a resampled mask."""
    return probability >= 0.5


def predict_all(regressors: dict[str, RegressionNet], images: Voxels, maps: GridMaps, backend: Backend) -> dict[str, float]:
    """Dice predicted from each of the paper's input pairs (Reg-net) and their mean, not clipped, as scores by name.

    Args:
        regressors: by input pair: ``image``, ``uncertainty``, ``error``.
        images: FLAIR and T1w on the cube (2, x, y, z).
        maps: of the same scan.
        backend: device and precision.
    """
    inputs = {"image": [*images], "uncertainty": [maps.entropy], "error": [maps.error]}
    predictions = {
        f"predicted_dice_{pair}": predict_dice(network, inputs[pair], maps.segmentation, backend)
        for pair, network in regressors.items()
    }
    return {"predicted_dice_raw": float(np.mean(list(predictions.values()))), **predictions}


def native_maps(maps: GridMaps, reconstruction: Voxels, transform: GridTransform, mask: Volume | None) -> dict[str, Volume]:
    """Maps back in the FLAIR's grid."""
    on_grid = {
        "entropy": maps.entropy,
        "variance": maps.variance,
        "mutual_information": maps.mutual_information,
        "reconstruction": reconstruction,
        "reconstruction_error": maps.error,
    }
    native = {name: Volume(transform.to_native(voxels), transform.native) for name, voxels in on_grid.items()}
    probability = transform.to_native(maps.probability, order=3)
    native["lesion_probability"] = Volume(probability, transform.native)
    native["lesion_mask"] = Volume(mask_from_probability(probability), transform.native)
    if mask is not None:
        native["input_mask"] = mask
    return native


def describe_model(networks: Networks, settings: InferenceSettings, backend: Backend) -> dict[str, Any]:
    """Provenance of a judgement: which weights, how many passes, on what."""
    return {
        "configuration": networks.cards["segmenter"].configuration,
        "weights": {name: card.sha256 for name, card in networks.cards.items()},
        "trained_on": networks.cards["segmenter"].data,
        "grid": list(networks.grid_shape),
        "sum_grid": list(SUM_GRID),
        "passes": settings.passes,
        "seed": settings.seed,
        "min_dice": settings.min_dice,
        **backend.describe(),
    }


def _require_grid(flair: Volume, other: Volume | None, name: str, mend: str) -> None:
    if other is not None and not other.geometry.same_grid(flair.geometry):
        raise GeometryError(
            f"the {name}'s grid is {other.geometry.describe()}, the FLAIR's is {flair.geometry.describe()}; {mend}"
        )


def _mask_warnings(judged: Volume) -> list[str]:
    if judged.voxels.any():
        return []
    return ["the judged mask is empty: if there are lesions, its Dice is 0; if there are none, it is 1 by policy"]


class Clock:
    """Wall time by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the enclosed block under ``name``."""
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 3)
