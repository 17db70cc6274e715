"""Registration of the T1w after known moves, and the brain mask, on real scans of a manifest.

``python benchmarks/registration_and_brain.py --data FOLDER [--weights FOLDER] [--manifest data/training.csv]``: how far apart
(mm, at the corners of the head's box) moved T1w come to lie from where the unmoved one goes; Dice of brain masks where there is
a true one. ``--brain-folds RUN``: brain masks alone, each by the network in RUN/fold-G that never saw the person's donor group
(``veridice train brain --config brain --manifest data/training.csv --data FOLDER --leave-out G -o RUN``).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from veridice.assessment.analysis import find_brain
from veridice.assessment.models import Models, load_models
from veridice.case import Case
from veridice.config import InferenceSettings
from veridice.imaging.grid import fit_grid, grid_images
from veridice.imaging.registration import align, corner_distance
from veridice.imaging.scan import Scan
from veridice.imaging.volume import Geometry, Volume
from veridice.inference.passes import choose_backend
from veridice.inference.weights import load_network
from veridice.io.datasets import read_manifest
from veridice.io.nifti import read_image, read_mask
from veridice.io.weight_cards import bundled_weights
from veridice.metrics.overlap import dice
from veridice.training.examples import real_groups
from veridice.training.settings import load_training_settings
from veridice.types import Affine

LARGEST_TURN, LARGEST_SHIFT, MOVES = np.deg2rad(12.0), 15.0, 2


def drawn_move(rng: np.random.Generator, middle: np.ndarray) -> Affine:
    """A turn about the middle and a shift."""
    move = np.eye(4)
    for (first, second), angle in zip(((0, 1), (0, 2), (1, 2)), rng.uniform(-LARGEST_TURN, LARGEST_TURN, 3), strict=True):
        turn = np.eye(4)
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        move = turn @ move
    move[:3, 3] = middle + rng.uniform(-LARGEST_SHIFT, LARGEST_SHIFT, 3) - move[:3, :3] @ middle
    return move


def registration(case: Case, rng: np.random.Generator) -> str:
    """One line: how far the unmoved T1w seems to lie off, and what is left of each move."""
    flair, t1 = read_image(Path(str(case.flair))), read_image(Path(str(case.t1)))
    middle = flair.geometry.middle
    begin = time.perf_counter()
    still = align(flair, t1)
    seconds = time.perf_counter() - begin
    left = []
    for _ in range(MOVES):
        true = drawn_move(rng, middle)
        found = align(flair, Volume(t1.voxels, Geometry(t1.shape, true @ t1.affine)))
        left.append(corner_distance(np.linalg.inv(still.move) @ np.linalg.inv(true) @ found.move, middle))
    shown = ", ".join(f"{distance:.2f}" for distance in left)
    return f"unmoved {still.distance:.1f} mm off{' (doubtful)' if still.doubt else ''}; apart {shown} mm; {seconds:.1f} s"


def brain(case: Case, models: Models) -> tuple[float, float]:
    """Dice of the brain mask, and seconds."""
    flair = read_image(Path(str(case.flair)))
    t1 = read_image(case.t1, flair.geometry) if case.t1 else None
    transform = fit_grid(flair, models.grid_shape)
    images = grid_images(flair, t1, transform)
    begin = time.perf_counter()
    _, found = find_brain(Scan(flair, t1), images, transform, *models.brain_finder, choose_backend(InferenceSettings()))
    seconds = time.perf_counter() - begin
    truth = read_mask(Path(str(case.brain_mask)), flair.geometry).voxels
    return dice(found, truth).dice, seconds


def by_folds(models: Models, run: Path) -> dict[int, Models]:
    """Models by donor group, with the brain network that never saw it."""
    return {
        group: replace(models, brain=load_network(run / f"fold-{group}" / "weights", "brain")[0])
        for group in range(len(load_training_settings("brain").data.donor_groups))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--manifest", type=Path, default=Path("data/training.csv"))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, default=bundled_weights())
    parser.add_argument("--brain-folds", type=Path)
    arguments = parser.parse_args()
    models, rng, found = load_models(arguments.weights), np.random.default_rng(0), []
    cases = read_manifest(arguments.manifest, arguments.data)
    groups = real_groups(cases, load_training_settings("brain").data)
    folds = by_folds(models, arguments.brain_folds) if arguments.brain_folds else {}
    for case in cases:
        if case.t1 and not folds:
            print(case.id, registration(case, rng))  # noqa: T201
        if case.brain_mask:
            overlap, seconds = brain(case, folds[groups[case.patient]] if folds else models)
            found.append(overlap)
            print(f"{case.id} brain Dice {overlap:.3f}; {seconds:.1f} s")  # noqa: T201
    print(f"brain: median {np.median(found):.4f}, {min(found):.3f} to {max(found):.3f}, n {len(found)}")  # noqa: T201


if __name__ == "__main__":
    main()
