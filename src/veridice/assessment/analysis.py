"""One scan studied once, whatever mask is judged; one mask judged. What :mod:`veridice.assessment.assess` is made of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy import ndimage
from torch import nn

from veridice.assessment.models import Networks
from veridice.config import InferenceSettings
from veridice.errors import InputError
from veridice.imaging.grid import GridTransform, fit_grid, intensity_range, scan_on_grid
from veridice.imaging.scan import GivenMask, Scan
from veridice.imaging.volume import Volume
from veridice.inference.brain import brain_mask, brain_probability, is_whole_head
from veridice.inference.passes import (
    Backend,
    StochasticResult,
    choose_backend,
    deepest_features,
    predict_all,
    reconstruct,
    stochastic_passes,
)
from veridice.metrics.scores import GridMaps, all_scores, error_map, lesion_count, mean_pairwise_dice
from veridice.progress import Clock, Tick
from veridice.quality.image_checks import image_doubts, image_warnings
from veridice.quality.image_features import describe_scan
from veridice.quality.mask_features import Reading, mask_evidence, native_samples
from veridice.quality.single_lesions import MOST_LESIONS
from veridice.types import Mask, Voxels

Features = np.ndarray[tuple[int], np.dtype[np.float64]]

OWN = "own"
"""Name of our own mask among those that are judged."""
HALF = 0.5
NEAR_BRAIN = 2
"""Voxels of the cube, about 3 mm, that a brain mask may be short of."""


@dataclass(frozen=True)
class StudiedScan:
    """Everything about a scan that no mask changes.

    Args:
        scan: on the FLAIR's grid.
        images: FLAIR and T1w on the cube (2, x, y, z), in [0, 1].
        result: of the stochastic passes.
        reading: what masks are held against.
        descriptors, features: of the image, from which it is told whether the models know its like.
        preprocessing: as in :class:`Judgement`.
        warnings: about scan and files.
        doubts: those for which no mask of the scan should be accepted unseen.
    """

    scan: Scan
    images: Voxels
    result: StochasticResult
    reading: Reading
    descriptors: dict[str, float]
    features: Features
    preprocessing: dict[str, Any]
    warnings: tuple[str, ...]
    doubts: tuple[str, ...]


def study_scan(
    scan: Scan, networks: Networks, settings: InferenceSettings, backend: Backend, clock: Clock, tick: Tick | None
) -> StudiedScan:
    """Everything about a scan that no mask changes: cube, passes, our own mask."""
    flair, t1 = scan.flair, scan.t1
    with clock.stage("grid"):
        transform = fit_grid(flair, networks.grid_shape)
        ranges = _intensity_ranges(scan, transform)
        images = grid_images(flair, t1, transform)
    with clock.stage("segmentation"):
        result = stochastic_passes(networks.segmenter, images, backend, settings.passes, settings.seed, tick=tick)
    with clock.stage("brain"):
        brain, native_brain = find_brain(scan, images, transform, networks, backend)
        doubts = image_doubts(images[0], None if t1 is None else images[1], brain, transform.geometry)
    with clock.stage("native_samples"):
        probability = transform.to_native(result.maps.mean, order=3)
        probability[~near_brain(brain, transform)] = 0
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
    with clock.stage("familiarity"):
        descriptors, features = _looks(images, brain, transform, networks, backend)
    whole_head = is_whole_head(images[0], brain)
    preprocessing = {**transform.record(), **scan.record, "intensity_range": ranges, "whole_head": whole_head}
    return StudiedScan(
        scan=scan,
        images=images,
        result=result,
        reading=reading,
        descriptors=descriptors,
        features=features,
        preprocessing=preprocessing,
        warnings=(*scan.warnings, *image_warnings(t1 is not None, flair.geometry)),
        doubts=(*scan.doubts, *doubts),
    )


def _intensity_ranges(scan: Scan, transform: GridTransform) -> dict[str, dict[str, float]]:
    ranges = {"flair": asdict(intensity_range(scan.flair, transform))}
    if scan.t1 is not None:
        try:
            ranges["t1"] = asdict(intensity_range(scan.t1, transform))
        except InputError as error:
            raise InputError("the T1w shows nothing where the FLAIR shows the head; check that both are of one scan") from error
    return ranges


def scan_looks(scan: Scan, networks: Networks, backend: Backend) -> tuple[dict[str, float], Features]:
    """Descriptors of a scan and its features in the segmenter, as :func:`study_scan` has them."""
    transform = fit_grid(scan.flair, networks.grid_shape)
    images = grid_images(scan.flair, scan.t1, transform)
    brain, _ = find_brain(scan, images, transform, networks, backend)
    return _looks(images, brain, transform, networks, backend)


def _looks(
    images: Voxels, brain: Mask, transform: GridTransform, networks: Networks, backend: Backend
) -> tuple[dict[str, float], Features]:
    descriptors = describe_scan(images[0], brain, transform.geometry.voxel_spacing)
    # Without the T1w, so that a scan looks the same with it and without.
    alone = np.stack([images[0], np.zeros_like(images[0])])
    return descriptors, deepest_features(networks.segmenter, alone, backend)


def find_brain(scan: Scan, images: Voxels, transform: GridTransform, networks: Networks, backend: Backend) -> tuple[Mask, Mask]:
    """Brain mask on the cube and in the FLAIR's grid: the given one, else one by the brain network."""
    if scan.brain is not None:
        return transform.to_grid(scan.brain.voxels) >= HALF, scan.brain.voxels
    probability = brain_probability(images, networks.brain, networks.cards["brain"].grid, backend)
    mask = brain_mask(probability)
    # What is not the largest part stays out of the native mask, whose border is that of the shares.
    kept = np.where(ndimage.binary_dilation(mask), np.maximum(probability, 0.5 * mask), 0.0)
    return mask, transform.to_native(kept.astype(np.float32)) >= HALF


def near_brain(brain: Mask, transform: GridTransform) -> Mask:
    """The brain and :data:`NEAR_BRAIN` voxels around it, in the scan's own grid: farther out there is no lesion of the white
    matter. Everything, where no brain was found.
    """
    if not brain.any():
        return np.ones(transform.native.shape, bool)
    near = ndimage.binary_dilation(brain, iterations=NEAR_BRAIN)
    return transform.to_native(near.astype(np.float32)) >= HALF


@dataclass(frozen=True)
class Opinion:
    """What is thought of one mask.

    Args:
        name: of its file; ``own`` for ours.
        mask: in the FLAIR's grid.
        maps: on the cube.
        reconstruction: FLAIR rebuilt with the mask cut out, on the cube.
        scores: by name.
        warnings: about this mask.
    """

    name: str
    mask: Mask
    maps: GridMaps
    reconstruction: Voxels
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
        scores = {**predictions, **all_scores(maps), **evidence, "lesion_count": (count := lesion_count(mask))}
    warnings = (*(given.warnings if given else ()), *_mask_warnings(count))
    name = given.name if given else OWN
    return Opinion(name, mask, maps, reconstruction, scores, warnings)


def _mask_warnings(lesions: int) -> tuple[str, ...]:
    if lesions > MOST_LESIONS:
        return (f"the mask has {lesions:,} parts: the table and map of lesions have the {MOST_LESIONS:,} largest",)
    if lesions:
        return ()
    return ("the judged mask is empty: if there are lesions, its Dice is 0; if there are none, it is 1 by policy",)


def grid_images(flair: Volume, t1: Volume | None, transform: GridTransform) -> Voxels:
    """FLAIR and T1w on the cube, in [0, 1] (2, x, y, z); zeros where there is no T1w."""
    flair_grid = scan_on_grid(flair, transform)
    return np.stack([flair_grid, np.zeros_like(flair_grid) if t1 is None else scan_on_grid(t1, transform)])


def own_mask(flair: Volume, t1: Volume | None, segmenter: nn.Module, grid: int, settings: InferenceSettings) -> Mask:
    """Our own segmentation of a scan alone, in the FLAIR's grid: what :func:`assess_scan` judges before it is cut to the brain.

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
