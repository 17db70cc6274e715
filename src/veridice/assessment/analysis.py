"""One scan analysed once, whatever mask is judged; one mask analysed. What :mod:`veridice.assessment.assess` is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from torch import nn

from veridice.assessment.models import Models
from veridice.case import Notice
from veridice.config import InferenceSettings, Task
from veridice.errors import InputError
from veridice.imaging.components import dilate
from veridice.imaging.grid import GridTransform, fit_grid, grid_images, intensity_range, whole_grid
from veridice.imaging.intensity import IntensityRange
from veridice.imaging.scan import GivenMask, Scan
from veridice.imaging.volume import Volume
from veridice.inference.brain import brain_mask, brain_probability, is_whole_head
from veridice.inference.passes import (
    Backend,
    deepest_features,
    deterministic_pass,
    predict_all,
    reconstruct,
    stochastic_passes,
)
from veridice.inference.tissue_map import tissue_map
from veridice.io.weight_cards import ANATOMY
from veridice.metrics.maps import GridMaps, StochasticMaps
from veridice.metrics.parts import masks_from_probabilities, mean_numbers, together
from veridice.metrics.scores import all_scores, error_map, lesion_count
from veridice.progress import Clock, OnStep
from veridice.quality.critic_evidence import critic_evidence
from veridice.quality.image_checks import image_doubts, image_warnings
from veridice.quality.image_features import describe_scan
from veridice.quality.mask_features import mask_evidence
from veridice.quality.placement_checks import SURELY_TURNED, cut_off_doubts, orientation_doubts
from veridice.quality.scan_analysis import ScanAnalysis, native_samples
from veridice.quality.single_lesions import MOST_LESIONS
from veridice.quality.slice_checks import slice_doubts
from veridice.types import Mask, Numbers, ProbabilityMap, Voxels

OWN = "own"
"""Name of our own mask among those that are judged."""
HALF = 0.5
NEAR_BRAIN = 2
"""Voxels of the cube, about 3 mm, that a brain mask may be short of."""


def analyse_scan(
    scan: Scan, models: Models, settings: InferenceSettings, backend: Backend, clock: Clock, on_step: OnStep | None
) -> ScanAnalysis:
    """Everything about a scan that no mask changes: cube, passes, our own mask."""
    flair, t1 = scan.flair, scan.t1
    with clock.stage("grid"):
        transform = task_grid(flair, models.task, models.grid_shape)
        ranges = _intensity_ranges(scan, transform)
        images = grid_images(flair, t1, transform, ranges)
    with clock.stage("segmentation"):
        passes = stochastic_passes(models.segmenter, images, backend, settings.passes, settings.seed, on_step)
    with clock.stage("brain"):
        brain, native_brain = find_brain(scan, images, transform, *models.brain_finder, backend)
        doubts = []
        if models.task.whole_head:
            doubts += image_doubts(images[0], None if t1 is None else images[1], brain, transform.geometry)
            doubts += scan_doubts(scan, images, brain, transform, models, backend)
    with clock.stage("anatomy"):
        tissue = None
        if models.anatomy is not None:
            tissue = tissue_map(images, models.anatomy, models.cards[ANATOMY].grid, backend)
    with clock.stage("native_samples"):
        analysis = analysis_of_passes(scan, transform, images, passes, brain, native_brain)
    with clock.stage("familiarity"):
        descriptors, features = _appearance(images, brain, transform, models, backend)
    whole_head = models.task.whole_head and is_whole_head(images[0], brain)
    with_t1 = t1 is not None or "t1" not in models.task.contrasts[1:]
    return replace(
        analysis,
        tissue=tissue,
        descriptors=descriptors,
        features=features,
        preprocessing={**transform.record(), **scan.record, **_ends(ranges), "whole_head": whole_head},
        warnings=(*scan.warnings, *image_warnings(with_t1, flair.geometry)),
        doubts=(*scan.doubts, *doubts),
    )


def task_grid(image: Volume, task: Task, shape: tuple[int, int, int], foreground: Mask | None = None) -> GridTransform:
    """The way to the cube: around the head or the ``foreground``, or of the whole image where the task is one of crops."""
    return fit_grid(image, shape, foreground) if task.whole_head else whole_grid(image, shape)


def analysis_of_passes(
    scan: Scan, transform: GridTransform, images: Voxels, passes: StochasticMaps, brain: Mask, native_brain: Mask
) -> ScanAnalysis:
    """What follows from the passes alone, for the target and for each of its parts."""
    each = passes.parts()
    probabilities = [native_probability(part.mean, brain, transform) for part in each]
    own = masks_from_probabilities(probabilities)

    def analysis(maps: StochasticMaps, probability: ProbabilityMap, mask: Mask) -> ScanAnalysis:
        samples = native_samples(maps.sample_masks, transform)
        return ScanAnalysis(scan, transform, images, maps, samples, probability, mask, brain, native_brain)

    parts = tuple(map(analysis, each, probabilities, own))
    if len(parts) == 1:
        return parts[0]
    whole = analysis(passes.together(), together(probabilities), np.asarray(np.logical_or.reduce(own)))
    return replace(whole, parts=parts)


def _intensity_ranges(scan: Scan, transform: GridTransform) -> dict[str, IntensityRange]:
    ranges = {"flair": intensity_range(scan.flair, transform)}
    if scan.t1 is not None:
        try:
            ranges["t1"] = intensity_range(scan.t1, transform)
        except InputError as error:
            raise InputError("the T1w shows nothing where the FLAIR shows the head; check that both are of one scan") from error
    return ranges


def _ends(ranges: Mapping[str, IntensityRange]) -> dict[str, Any]:
    return {"intensity_range": {name: asdict(ends) for name, ends in ranges.items()}}


def scan_appearance(scan: Scan, models: Models, backend: Backend) -> tuple[dict[str, float], Numbers]:
    """Descriptors of a scan and its features in the segmenter, as :func:`analyse_scan` has them."""
    transform = task_grid(scan.flair, models.task, models.grid_shape)
    images = grid_images(scan.flair, scan.t1, transform)
    brain, _ = find_brain(scan, images, transform, *models.brain_finder, backend)
    return _appearance(images, brain, transform, models, backend)


def _appearance(
    images: Voxels, brain: Mask, transform: GridTransform, models: Models, backend: Backend
) -> tuple[dict[str, float], Numbers]:
    descriptors = describe_scan(images[0], brain, transform.geometry.voxel_spacing)
    # Without the T1w, so that a scan looks the same with it and without.
    alone = np.stack([images[0], np.zeros_like(images[0])])
    return descriptors, deepest_features(models.segmenter, alone, backend)


def find_brain(
    scan: Scan, images: Voxels, transform: GridTransform, network: nn.Module, grid: int, backend: Backend
) -> tuple[Mask, Mask]:
    """Brain mask on the cube and in the FLAIR's grid: the given one, else the brain network's, whose cube has edge ``grid``."""
    if scan.brain is not None:
        return transform.to_grid(scan.brain.voxels) >= HALF, scan.brain.voxels
    probability = brain_probability(images, network, grid, backend)
    mask = brain_mask(probability)
    # What is not the largest part stays out of the native mask, whose border is that of the shares.
    kept = np.where(dilate(mask), np.maximum(probability, 0.5 * mask), 0.0)
    return mask, transform.to_native(kept.astype(np.float32)) >= HALF


def scan_doubts(
    scan: Scan, images: Voxels, brain: Mask, transform: GridTransform, models: Models, backend: Backend
) -> list[Notice]:
    """Whether the scan shows all of the brain, slice by slice and the right way up."""
    sliced = slice_doubts(scan.flair)
    if any(doubt.code in ("wrapped", "black_slices") for doubt in sliced):
        # The head falls into parts then, of which the checks below would see one.
        return sliced
    cut = cut_off_doubts(brain, transform.geometry)

    def when_turned(axes: tuple[int, ...]) -> Mask:
        turned = np.ascontiguousarray(np.flip(images, tuple(axis + 1 for axis in axes)))
        return brain_mask(brain_probability(turned, *models.brain_finder, backend))

    least = SURELY_TURNED if cut else 0.0
    turned = orientation_doubts(images[0], brain, None if scan.brain is not None else when_turned, least)
    return [*sliced, *cut, *turned]


def native_probability(probability: ProbabilityMap, brain: Mask, transform: GridTransform) -> ProbabilityMap:
    """Lesion probability of the cube in the scan's own grid; 0 away from the brain."""
    native = transform.to_native(probability, order=3)
    native[~near_brain(brain, transform)] = 0
    return native


def near_brain(brain: Mask, transform: GridTransform) -> Mask:
    """The brain and :data:`NEAR_BRAIN` voxels around it, in the scan's own grid: farther out there is no lesion of the white
    matter. Everything, where no brain was found.
    """
    if not brain.any():
        return np.ones(transform.native.shape, bool)
    return transform.to_native(dilate(brain, NEAR_BRAIN).astype(np.float32)) >= HALF


@dataclass(frozen=True)
class MaskAnalysis:
    """What is thought of one mask.

    Args:
        name: of its file; ``own`` for ours.
        mask: in the FLAIR's grid.
        parts: the same of each part of the target.
        maps: on the cube.
        reconstruction: FLAIR rebuilt with the mask cut out, on the cube.
        chance: of a lesion in each voxel of the FLAIR's grid, by the critic, where there is one.
        scores: by name.
        warnings: about this mask.
    """

    name: str
    mask: Mask
    parts: tuple[Mask, ...]
    maps: GridMaps
    reconstruction: Voxels
    chance: ProbabilityMap | None
    scores: dict[str, float | None]
    warnings: tuple[Notice, ...]


def analyse_mask(
    given: GivenMask | None,
    analysis: ScanAnalysis,
    models: Models,
    backend: Backend,
    clock: Clock,
) -> MaskAnalysis:
    """Analyse one mask of an analysed scan; None takes our own. Scores are the means of the parts'."""
    images, transform = analysis.images, analysis.transform
    masks = tuple(part.own for part in analysis.each_part) if given is None else given.each_part
    cubes = [part.passes.mean if given is None else transform.to_grid(mask) for part, mask in _pairs(analysis, masks)]
    segmentation = together(cubes)
    with clock.stage("reconstruction"):
        reconstruction = reconstruct(models.reconstructor, images[0], segmentation >= HALF, backend)
    error = error_map(images[0], reconstruction)
    maps = GridMaps.of(analysis.passes, segmentation, error)
    with clock.stage("regression"):
        predictions = predict_all(models.regressors, images, maps, backend)
    mask = analysis.own if given is None else given.volume.voxels
    with clock.stage("critic"):
        chance, criticised = None, {}
        if models.critic is not None:
            chance = criticise(segmentation >= HALF, analysis, models.critic, backend)
            criticised = critic_evidence(mask, chance, analysis.geometry.voxel_volume_ml)
    with clock.stage("scores"):
        evidence = mean_numbers([mask_evidence(part_mask, part) for part, part_mask in _pairs(analysis, masks)])
        each = zip(analysis.each_part, cubes, strict=True)
        found = mean_numbers([all_scores(GridMaps.of(part.passes, cube, error)) for part, cube in each])
        scores = {**predictions, **found, **evidence, **criticised, "lesion_count": (count := lesion_count(mask))}
    warnings = (*(given.warnings if given else ()), *_mask_warnings(count, models.task))
    name = given.name if given else OWN
    return MaskAnalysis(name, mask, masks, maps, reconstruction, chance, scores, warnings)


def _pairs(analysis: ScanAnalysis, masks: Sequence[Mask]) -> list[tuple[ScanAnalysis, Mask]]:
    return list(zip(analysis.each_part, masks, strict=True))


def criticise(mask: Mask, analysis: ScanAnalysis, critic: nn.Module, backend: Backend) -> ProbabilityMap:
    """Chance of a lesion in each voxel of the FLAIR's grid, when this mask (on the cube) is known too."""
    seen = np.stack([*analysis.images, mask, analysis.passes.mean]).astype(np.float32)
    return native_probability(deterministic_pass(critic, seen, backend), analysis.brain, analysis.transform)


def _mask_warnings(lesions: int, task: Task) -> tuple[Notice, ...]:
    if lesions > MOST_LESIONS and task.scattered:
        text = f"the mask has {lesions:,} parts: the table and map of lesions have the {MOST_LESIONS:,} largest"
        return (Notice("many_lesions", text),)
    if lesions:
        return ()
    text = "the judged mask is empty: if there are lesions, its Dice is 0; if there are none, it is 1 by policy"
    if not task.scattered:
        text = f"the judged mask is empty, and every such scan shows the {task.target}: its Dice is 0"
    return (Notice("empty_mask", text),)
