"""Segmentations of every quality with their true Dice, for the regression networks to learn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from veridice.imaging.grid import pooled_map
from veridice.inference.passes import Backend, reconstruct, stochastic_passes
from veridice.io.atomic import replaced
from veridice.metrics.overlap import dice
from veridice.metrics.scores import error_map
from veridice.training.cubes import Example
from veridice.training.examples import ExampleStream
from veridice.training.mask_errors import damage_mask
from veridice.training.settings import RegressorSettings
from veridice.types import Mask, Voxels


@dataclass(frozen=True)
class Segmenters:
    """Whom to ask for a segmentation.

    Args:
        final: the segmenter that will be used.
        out_of_fold: by donor group, segmenters that never saw the group's people, the best one first, then poorer ones
            from earlier in its training; a group without one is left to ``final`` (the paper: its own training cases).
        poorer_share: how often a poorer one is asked.
    """

    final: nn.Module
    out_of_fold: Mapping[int, tuple[nn.Module, ...]]
    poorer_share: float = 0.4

    def draw(self, group: int, rng: np.random.Generator) -> nn.Module:
        """A segmenter for a patient of this group."""
        best, *poorer = self.out_of_fold.get(group, (self.final,))
        if poorer and rng.random() < self.poorer_share:
            return poorer[rng.integers(len(poorer))]
        return best


def make_quality_cases(
    folder: Path,
    stream: ExampleStream,
    segmenters: Segmenters,
    reconstructor: nn.Module,
    settings: RegressorSettings,
    backend: Backend,
    on_step: Callable[[], None],
) -> list[Path]:
    """Segment every example of ``stream`` and store maps and true Dice; files that are there already are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for index in range(len(stream)):
        file = folder / f"{index:04d}.npz"
        if not file.exists():
            rng = np.random.default_rng([stream.seed, index, 1])
            segmenter = segmenters.draw(stream.case(index).group, rng)
            other = stream.case(index + 1 + int(rng.integers(1_000))).read()["target"].amax(dim=0).numpy() >= 0.5
            maps = quality_case(stream[index], segmenter, reconstructor, other, settings, backend, rng)
            with replaced(file) as temporary:
                np.savez(temporary, allow_pickle=False, **maps)
        files.append(file)
        on_step()
    return files


def quality_case(
    example: Example,
    segmenter: nn.Module,
    reconstructor: nn.Module,
    other: Mask,
    settings: RegressorSettings,
    backend: Backend,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Maps (float16, x y z, pooled) of one segmented example and the true ``dice`` of the segmentation.

    Some show a damaged mask instead of the segmentation, or ``other``, the lesions of somebody else.
    """
    images = example["images"].numpy()
    truth, valid = example["target"][0].numpy() >= 0.5, example["ignored"][0].numpy() < 0.5
    passes = stochastic_passes(segmenter, images, backend, settings.passes, seed=int(rng.integers(2**31)))
    segmentation = passes.mean
    if rng.random() < settings.binary_fraction:
        source = truth if rng.random() < 0.5 else segmentation >= 0.5
        damaged = other if rng.random() < 0.1 else damage_mask(source, rng)
        segmentation = damaged.astype(np.float32)
    mask = segmentation >= 0.5
    error = error_map(images[0], reconstruct(reconstructor, images[0], mask, backend))
    shown = {"flair": images[0], "t1": images[1], "segmentation": segmentation, "entropy": passes.entropy, "error": error}
    true_dice = dice(mask & valid, truth & valid).dice
    pooled = {name: pooled_map(map_, settings.pool) for name, map_ in shown.items()}
    return {**pooled, "dice": np.float32(true_dice)}


class QualityDataset(Dataset[Example]):
    """Stored quality cases as the regression network sees them, mirrored at random; endless for training.

    Items: ``maps`` (channels, x, y, z) float32 and ``dice`` (scalar).

    Args:
        files: from :func:`make_quality_cases`.
        channels: names of the maps, see :data:`.settings.CHANNELS`.
        seed: of order and mirroring; None gives every file once, as it is.
        length: number of items.
    """

    def __init__(self, files: Sequence[Path], channels: tuple[str, ...], seed: int | None, length: int) -> None:
        self.files, self.channels, self.seed, self.length = list(files), channels, seed, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Example:
        if self.seed is None:
            return self._read(self.files[index], mirrored=False)
        # Each round visits every file once, in an order of its own.
        turn, place = divmod(index, len(self.files))
        rng = np.random.default_rng([self.seed, turn])
        order = rng.permutation(len(self.files))
        mirrored = np.random.default_rng([self.seed, index, 2]).random() < 0.5
        return self._read(self.files[order[place]], bool(mirrored))

    def _read(self, file: Path, mirrored: bool) -> Example:
        with np.load(file) as stored:
            maps: Voxels = np.stack([stored[name] for name in self.channels]).astype(np.float32)
            true_dice = float(stored["dice"])
        if mirrored:
            maps = np.ascontiguousarray(maps[:, ::-1])
        return {"maps": torch.from_numpy(maps), "dice": torch.tensor(true_dice, dtype=torch.float32)}
