"""One scan end to end: volumes in, judgement and maps out. The heart of the package."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from scipy import ndimage
from torch import nn

from veridice._version import __version__
from veridice.brain import brain_mask, brain_probability
from veridice.case import Assessment, RankedMask
from veridice.config import InferenceSettings
from veridice.error_maps import error_map
from veridice.errors import GeometryError
from veridice.evidence import Reading, mask_evidence, native_samples
from veridice.inference import Backend, StochasticResult, choose_backend, reconstruct, stochastic_passes
from veridice.input_checks import image_warnings
from veridice.inputs import GivenMask, Scan
from veridice.lesions import Lesion, describe_lesions, label_lesions, missed_mask
from veridice.overlap import dice
from veridice.panel import Networks, describe_model, predict_all
from veridice.scores import GridMaps, all_scores, lesion_count, lesion_volume_ml, mean_pairwise_dice
from veridice.spatial import GridTransform, fit_grid, intensity_range, scan_on_grid
from veridice.types import Mask, Voxels
from veridice.verdict import clip_dice, provisional_verdict
from veridice.volume import Volume

Tick = Callable[[], None]

OWN = "own"
"""Name of our own mask among those that are judged."""
HALF = 0.5


@dataclass(frozen=True)
class Judgement:
    """An assessment that is not stored yet.

    Args:
        assessment: without its files.
        maps: in the FLAIR's own grid, by name.
        lesions: of the judged mask; numbered in the map ``lesion_numbers``.
        missed: places that look like missed lesions, numbered on.
        preprocessing: JSON-ready record of every step between the scan and the cube.
    """

    assessment: Assessment
    maps: dict[str, Volume]
    lesions: list[Lesion]
    missed: list[Lesion]
    preprocessing: dict[str, Any]


@dataclass(frozen=True)
class StudiedScan:
    """Everything about a scan that no mask changes.

    Args:
        scan: on the FLAIR's grid.
        images: FLAIR and T1w on the cube (2, x, y, z), in [0, 1].
        result: of the stochastic passes.
        reading: what masks are held against.
        preprocessing: as in :class:`Judgement`.
        warnings: about scan and files.
    """

    scan: Scan
    images: Voxels
    result: StochasticResult
    reading: Reading
    preprocessing: dict[str, Any]
    warnings: tuple[str, ...]


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
    _require_grid(flair, t1, "T1w", "register and resample the T1w to the FLAIR first (for example with flirt)")
    _require_grid(flair, mask, "mask", "resample it with nearest neighbour first")
    given = [] if mask is None else [GivenMask("mask", mask)]
    return assess_masks(case, Scan(flair, t1), given, networks, settings, tick)


def assess_masks(
    case: str,
    scan: Scan,
    masks: Sequence[GivenMask],
    networks: Networks,
    settings: InferenceSettings,
    tick: Tick | None = None,
) -> Judgement:
    """Judge our own segmentation of a scan, a given one, or several, of which the best is described and all are ranked.

    Args:
        case: name of the scan.
        scan: from :func:`veridice.inputs.read_scan`.
        masks: to judge; none: our own.
        networks: from :func:`load_networks`.
        settings: passes, seed, device, threshold.
        tick: called after each stochastic pass.

    Raises:
        InputError: nothing can be judged in this image.
    """
    clock = Clock()
    backend = choose_backend(settings)
    studied = study_scan(scan, networks, settings, backend, clock, tick)
    opinions = [judge_mask(mask, studied, networks, backend, clock) for mask in masks or (None,)]
    ranked = sorted(opinions, key=lambda opinion: -opinion.predicted_dice)
    best = ranked[0]
    with clock.stage("native_maps"):
        native = native_maps(best, studied)
    with clock.stage("lesions"):
        numbers, lesions, missed = list_lesions(best.mask, studied)
    native["lesion_numbers"] = Volume(numbers, scan.flair.geometry)
    voxel_ml = scan.flair.geometry.voxel_volume_ml
    assessment = Assessment(
        case=case,
        verdict=provisional_verdict(best.predicted_dice, settings.min_dice),
        predicted_dice=best.predicted_dice,
        judged_mask=best.name,
        ranking=_ranking(ranked, settings, voxel_ml) if len(masks) > 1 else (),
        scores=best.scores,
        volumes_ml={
            "judged_mask": lesion_volume_ml(best.mask, voxel_ml),
            "own_mask": lesion_volume_ml(studied.reading.own, voxel_ml),
            "brain": lesion_volume_ml(studied.reading.native_brain, voxel_ml),
            "looks_missed": sum(lesion.volume_ml for lesion in missed),
        },
        warnings=(*studied.warnings, *best.warnings),
        maps={},
        seconds=clock.seconds,
        model=describe_model(networks, settings, backend.for_network(networks.segmenter)),
        version=__version__,
    )
    return Judgement(assessment, native, lesions, missed, studied.preprocessing)


def study_scan(
    scan: Scan, networks: Networks, settings: InferenceSettings, backend: Backend, clock: Clock, tick: Tick | None
) -> StudiedScan:
    """Everything about a scan that no mask changes: cube, passes, our own mask."""
    flair, t1 = scan.flair, scan.t1
    with clock.stage("grid"):
        transform = fit_grid(flair, networks.grid_shape)
        images = grid_images(flair, t1, transform)
        ranges = {
            name: asdict(intensity_range(image, transform))
            for name, image in (("flair", flair), ("t1", t1))
            if image is not None
        }
        warnings = image_warnings(images[0], images[1] if t1 is not None else None, flair.geometry, transform.geometry)
    with clock.stage("segmentation"):
        result = stochastic_passes(networks.segmenter, images, backend, settings.passes, settings.seed, tick=tick)
    with clock.stage("brain"):
        brain, native_brain = find_brain(scan, images, transform, networks, backend)
    with clock.stage("native_samples"):
        probability = transform.to_native(result.maps.mean, order=3)
        reading = Reading(
            transform=transform,
            samples=native_samples(result.sample_masks, transform),
            probability=probability,
            own=mask_from_probability(probability),
            flair=images[0],
            entropy=result.maps.entropy,
            brain=brain,
            native_brain=native_brain,
            pairwise_dice=mean_pairwise_dice(result.sample_masks),
        )
    preprocessing = {**transform.record(), **scan.record, "intensity_range": ranges}
    return StudiedScan(scan, images, result, reading, preprocessing, (*scan.warnings, *warnings))


def find_brain(scan: Scan, images: Voxels, transform: GridTransform, networks: Networks, backend: Backend) -> tuple[Mask, Mask]:
    """Brain mask on the cube and in the FLAIR's grid: the given one, else one by the brain network."""
    if scan.brain is not None:
        return transform.to_grid(scan.brain.voxels) >= HALF, scan.brain.voxels
    probability = brain_probability(images, networks.brain, networks.cards["brain"].grid, backend)
    mask = brain_mask(probability)
    # What is not the largest part stays out of the native mask, whose border is that of the shares.
    kept = np.where(ndimage.binary_dilation(mask), np.maximum(probability, 0.5 * mask), 0.0)
    return mask, transform.to_native(kept.astype(np.float32)) >= HALF


@dataclass(frozen=True)
class Opinion:
    """What is thought of one mask.

    Args:
        name: of its file; ``own`` for ours.
        mask: in the FLAIR's grid.
        maps: on the cube.
        reconstruction: FLAIR rebuilt with the mask cut out, on the cube.
        predicted_dice: clipped to [0, 1].
        scores: by name.
        warnings: about this mask.
    """

    name: str
    mask: Mask
    maps: GridMaps
    reconstruction: Voxels
    predicted_dice: float
    scores: dict[str, float | None]
    warnings: tuple[str, ...]


def judge_mask(
    given: GivenMask | None,
    studied: StudiedScan,
    networks: Networks,
    backend: Backend,
    clock: Clock,
) -> Opinion:
    """Judge one mask of a studied scan; None judges our own."""
    passes, images, transform = studied.result.maps, studied.images, studied.reading.transform
    segmentation = passes.mean if given is None else transform.to_grid(given.volume.voxels)
    with clock.stage("reconstruction"):
        reconstruction = reconstruct(networks.reconstructor, images[0], segmentation >= HALF, backend)
    maps = GridMaps(
        segmentation=segmentation,
        probability=passes.mean,
        entropy=passes.entropy,
        variance=passes.variance,
        mutual_information=passes.mutual_information,
        error=error_map(images[0], reconstruction),
        sample_masks=studied.result.sample_masks,
    )
    with clock.stage("regression"):
        predictions = predict_all(networks.regressors, images, maps, backend)
    mask = studied.reading.own if given is None else given.volume.voxels
    with clock.stage("scores"):
        evidence = {name: None if np.isnan(value) else value for name, value in mask_evidence(mask, studied.reading).items()}
        scores = {**predictions, **all_scores(maps), **evidence, "lesion_count": lesion_count(mask)}
    warnings = (*(given.warnings if given else ()), *_mask_warnings(mask))
    name = given.name if given else OWN
    return Opinion(name, mask, maps, reconstruction, clip_dice(predictions["predicted_dice_raw"]), scores, warnings)


def _ranking(ranked: Sequence[Opinion], settings: InferenceSettings, voxel_ml: float) -> tuple[RankedMask, ...]:
    rows = []
    for opinion in ranked:
        others = [dice(opinion.mask, other.mask).dice for other in ranked if other is not opinion]
        rows.append(
            RankedMask(
                mask=opinion.name,
                predicted_dice=opinion.predicted_dice,
                verdict=provisional_verdict(opinion.predicted_dice, settings.min_dice),
                volume_ml=lesion_volume_ml(opinion.mask, voxel_ml),
                agreement_with_passes=float(opinion.scores["agreement_mean"] or 0.0),
                agreement_with_others=float(np.mean(others)),
            )
        )
    return tuple(rows)


def list_lesions(mask: Mask, studied: StudiedScan) -> tuple[np.ndarray[Any, np.dtype[np.int16]], list[Lesion], list[Lesion]]:
    """Label map (int16, FLAIR's grid), lesions of the mask, and places that look missed, numbered after them."""
    reading, flair = studied.reading, studied.scan.flair.voxels
    labels, count = label_lesions(mask)
    missed, missed_count = label_lesions(missed_mask(mask, reading))
    lesions = describe_lesions(labels, count, flair, reading)
    places = describe_lesions(missed, missed_count, flair, reading)
    numbers = np.where(missed > 0, missed + count, labels).astype(np.int16)
    return numbers, lesions, [replace(place, number=place.number + count) for place in places]


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


def native_maps(opinion: Opinion, studied: StudiedScan) -> dict[str, Volume]:
    """Maps back in the FLAIR's grid."""
    maps, transform = opinion.maps, studied.reading.transform
    on_grid = {
        "entropy": maps.entropy,
        "variance": maps.variance,
        "mutual_information": maps.mutual_information,
        "reconstruction": opinion.reconstruction,
        "reconstruction_error": maps.error,
    }
    native = {name: Volume(transform.to_native(voxels), transform.native) for name, voxels in on_grid.items()}
    native["lesion_probability"] = Volume(studied.reading.probability, transform.native)
    native["lesion_mask"] = Volume(studied.reading.own, transform.native)
    native["brain_mask"] = Volume(studied.reading.native_brain, transform.native)
    if opinion.name != OWN:
        native["input_mask"] = Volume(opinion.mask, transform.native)
    return native


def _require_grid(flair: Volume, other: Volume | None, name: str, mend: str) -> None:
    if other is not None and not other.geometry.same_grid(flair.geometry):
        raise GeometryError(
            f"the {name}'s grid is {other.geometry.describe()}, the FLAIR's is {flair.geometry.describe()}; {mend}"
        )


def _mask_warnings(judged: Mask) -> tuple[str, ...]:
    if judged.any():
        return ()
    return ("the judged mask is empty: if there are lesions, its Dice is 0; if there are none, it is 1 by policy",)


class Clock:
    """Wall time by stage; a stage that comes again is added up."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the enclosed block under ``name``."""
        start = time.perf_counter()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 3)
