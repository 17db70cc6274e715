"""One case under one segmenter: everything that the methods read, computed once and stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from torch import nn

from veridice.assessment.analysis import analysis_of_passes, find_brain, task_grid
from veridice.case import Case
from veridice.experiment.methods import augmented_masks, ensemble_masks, generated_error, probabilistic_samples
from veridice.experiment.protocol import PROBABILISTIC
from veridice.imaging.grid import GridTransform, grid_images, pooled_map
from veridice.inference.passes import Backend, deepest_features, reconstruct, stochastic_passes
from veridice.io.atomic import replaced, write_text
from veridice.io.labelled_scan import LabelledScan, read_labelled
from veridice.metrics.maps import GridMaps, PackedMasks, packed_parts
from veridice.metrics.overlap import dice
from veridice.metrics.parts import mean_numbers
from veridice.metrics.scores import all_scores, error_map, lesion_count, lesion_volume_ml, mean_pairwise_dice, voxelwise_sum
from veridice.networks.image_generator import ImageGenerator
from veridice.networks.probabilistic_unet import ProbabilisticUnet
from veridice.quality.mask_features import mask_evidence
from veridice.quality.scan_analysis import ScanAnalysis
from veridice.training.settings import DataSettings
from veridice.types import Voxels

LONGEST_NAME = 150
"""Of a stored case; file systems take 255 bytes."""


@dataclass(frozen=True)
class Panel:
    """Who judges: the networks of one fold.

    Args:
        segmenter: whose segmentations are judged; it never saw them.
        members: of the ensemble; none: no ensemble.
        reconstructor: rebuilds the FLAIR.
        brain_finder: the brain network and the edge of its cube.
        probabilistic: whose samples are judged beside; None: nobody's.
        generators: by name, networks that make the image of a mask.
        backend: device and precision.
        passes: stochastic ones.
        augmentations: changed images for test-time augmentation; 0: none.
        mirrored_fraction: share of them that is mirrored, as in training.
        seed: of passes and changes.
    """

    segmenter: nn.Module
    members: Sequence[nn.Module]
    reconstructor: nn.Module
    brain_finder: tuple[nn.Module, int]
    backend: Backend
    probabilistic: ProbabilisticUnet | None
    generators: Mapping[str, ImageGenerator]
    passes: int
    augmentations: int
    mirrored_fraction: float
    seed: int


@dataclass(frozen=True)
class KnownCase(LabelledScan):
    """A case with its truth, in its own grid and on the cube."""

    images: Voxels
    transform: GridTransform

    @classmethod
    def read(cls, case: Case, settings: DataSettings) -> KnownCase:
        """Read the files of ``case``.

        Raises:
            InputError: FLAIR or mask are absent or cannot be read.
        """
        known = read_labelled(case, settings.resample_t1, settings.rim_mm, task=settings.task)
        transform = task_grid(known.scan.flair, settings.task, (settings.grid,) * 3)
        images = grid_images(known.scan.flair, known.scan.t1, transform)
        return cls(**vars(known), images=images, transform=transform)


def analyse_case(scan: KnownCase, panel: Panel, pool: int) -> tuple[dict[str, Any], dict[str, Voxels]]:
    """Numbers and pooled maps of one scan.

    Where the target has several parts, its Dice and scores are the means of the parts'; the error map and all pooled maps are
    of the parts together.

    Returns:
        Numbers: ``dice`` (cube), ``dice_native``, ``load_ml``, the scores of all methods but those that are learnt, and the
        evidence from which ``check`` predicts the Dice.
        Maps (float16, pooled): those of a quality case, and ``truth``; beside them ``features``, the deepest of the segmenter.
    """
    images, transform, count = scan.images, scan.transform, len(scan.parts)
    passes = stochastic_passes(panel.segmenter, images, panel.backend, panel.passes, panel.seed)
    segmentation, entropy = (whole := passes.together()).mean, whole.entropy
    mask = segmentation >= 0.5
    error = error_map(images[0], reconstruct(panel.reconstructor, images[0], mask, panel.backend))
    # As ``check`` does, with the networks of the fold; the brain network is the one that ships.
    brains = find_brain(scan.scan, images, transform, *panel.brain_finder, panel.backend)
    parts = analysis_of_passes(scan.scan, transform, images, passes, *brains).each_part
    evidence = mean_numbers([mask_evidence(part.own, part) for part in parts])
    scores = mean_numbers([all_scores(GridMaps.of(part.passes, part.passes.mean, error)) for part in parts])
    numbers = {**evidence, **_truths(scan, parts), **scores}
    numbers |= _errors_of_the_truth(scan, panel)
    if panel.augmentations:
        how_many, mirrored = panel.augmentations, panel.mirrored_fraction
        changed = augmented_masks(panel.segmenter, images, panel.backend, how_many, panel.seed, mirrored)
        numbers["test_time_augmentation"] = _agreement(changed, count)
    if panel.probabilistic is not None:
        numbers |= _probabilistic(panel.probabilistic, scan, panel)
    if panel.members:
        numbers["ensemble"] = _agreement(ensemble_masks(panel.members, images, panel.backend), count)
    numbers["mask_contrast"] = float(images[0][mask].mean() - np.median(images[0][images[0] > 0])) if mask.any() else 0.0
    shown = {"flair": images[0], "t1": images[1], "segmentation": segmentation, "entropy": entropy, "error": error}
    shown["truth"] = transform.to_grid(scan.truth)
    for name, generator in panel.generators.items():
        shown[f"{name}_error"] = generated_error(generator, images, mask, panel.backend)
        numbers[f"{name}_error_sum"] = voxelwise_sum(np.abs(shown[f"{name}_error"]))
    features = deepest_features(panel.segmenter, images, panel.backend).astype(np.float32)
    return numbers, {**{name: pooled_map(map_, pool) for name, map_ in shown.items()}, "features": features}


def _probabilistic(network: ProbabilisticUnet, scan: KnownCase, panel: Panel) -> dict[str, float]:
    """Scores of its samples, and the true Dice of its own mean on the cube, both means of the parts."""
    maps = probabilistic_samples(network, scan.images, panel.backend, panel.passes, panel.seed)
    parts = list(zip(maps.parts(), scan.parts, strict=True))
    return {
        PROBABILISTIC[0]: _agreement(maps.sample_masks, len(parts)),
        PROBABILISTIC[1]: float(np.mean([voxelwise_sum(part.entropy) for part, _ in parts])),
        "probabilistic_dice": float(
            np.mean([dice(part.mean >= 0.5, scan.transform.to_grid(true) >= 0.5).dice for part, true in parts])
        ),
    }


def _agreement(masks: PackedMasks, count: int) -> float:
    return float(np.mean([mean_pairwise_dice(part) for part in packed_parts(masks, count)]))


def _truths(scan: KnownCase, parts: Sequence[ScanAnalysis]) -> dict[str, float]:
    """True Dice on the cube and in the scan's own grid, mean of the parts; true and found volume of all parts together."""
    transform = scan.transform
    valid, voxel_ml = transform.to_grid(scan.valid) >= 0.5, transform.native.voxel_volume_ml
    on_cube = [
        dice((part.passes.mean >= 0.5) & valid, (transform.to_grid(true) >= 0.5) & valid).dice
        for part, true in zip(parts, scan.parts, strict=True)
    ]
    native = [dice(part.own & scan.valid, true & scan.valid).dice for part, true in zip(parts, scan.parts, strict=True)]
    own = np.asarray(np.logical_or.reduce([part.own for part in parts]))
    return {
        "dice": float(np.mean(on_cube)),
        "dice_native": float(np.mean(native)),
        "load_ml": lesion_volume_ml(scan.truth, voxel_ml),
        "volume": lesion_volume_ml(own, voxel_ml),
        "lesion_count": lesion_count(own),
    }


def _errors_of_the_truth(scan: KnownCase, panel: Panel) -> dict[str, float]:
    """Error sums with the *true* mask cut out, likely what the paper did; of no use where there is no truth."""
    truth = scan.transform.to_grid(scan.truth) >= 0.5
    error = error_map(scan.images[0], reconstruct(panel.reconstructor, scan.images[0], truth, panel.backend))
    return {"true_error_sum": voxelwise_sum(error), "true_absolute_error_sum": voxelwise_sum(np.abs(error))}


def analyse_cases(
    cases: Sequence[Case],
    panel_of: Callable[[Case], Panel],
    settings: DataSettings,
    pool: int,
    folder: Path,
    on_step: Callable[[], None],
) -> None:
    """Analyse every case into ``folder``: ``CASE.json`` and ``CASE.npz``; what is there is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for case in cases:
        stem = stored_name(case)
        if not (folder / f"{stem}.json").exists():
            numbers, maps = analyse_case(KnownCase.read(case, settings), panel_of(case), pool)
            with replaced(folder / f"{stem}.npz") as arrays:
                np.savez_compressed(arrays, allow_pickle=False, dice=np.float32(numbers["dice"]), **maps)
            # Last: a case counts as done when its numbers are there.
            write_text(folder / f"{stem}.json", json.dumps(numbers, indent=1) + "\n")
        on_step()


def stored_name(case: Case) -> str:
    """The case's name as part of a file name: safe, and another one for every case."""
    name = quote(case.id, safe="")
    if len(name) > LONGEST_NAME:
        name = f"{name[:60]}-{hashlib.sha256(case.id.encode()).hexdigest()[:24]}"
    return f"case-{name}"


def read_numbers(folder: Path, case: Case) -> dict[str, float]:
    """Stored numbers of a case; NaN where a method has none."""
    content = json.loads((folder / f"{stored_name(case)}.json").read_text(encoding="utf-8"))
    return {name: np.nan if value is None else float(value) for name, value in content.items()}
