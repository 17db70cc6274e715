"""The four things that are learnt without end: lesions, how a mask errs, the anatomy, and what a hole should be filled with.

A task says which network learns, what an example shows beside its scan, the loss, and how good the network is on a check.
Examples are uint8 (channels, x, y, z): FLAIR, T1w, lesion, ignored, then the task's own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from veridice.imaging.tissue import Tissue
from veridice.metrics.overlap import dice, expected_dice
from veridice.networks.critic_unet import CriticUnet
from veridice.networks.losses import SegmentationLoss, SsimLoss
from veridice.networks.mc_unet import McUnet
from veridice.networks.reconstruction_unet import ReconstructionUnet
from veridice.simulate.cube_fields import Noise, dilated
from veridice.training.cubes import FLAIR, IGNORED, LESION, plain_pass
from veridice.training.endless_examples import BYTES, DrawnScan
from veridice.training.graded_masks import NativeMaterial, draw_graded, graded_mask
from veridice.training.mask_errors import Material, draw_kinds, make_mask
from veridice.training.settings import TrainingSettings
from veridice.types import Mask, ProbabilityMap, Voxels

SCAN = 4
"""Channels of the scan itself."""
MASK, PROBABILITY = SCAN, SCAN + 1
TISSUE, HOLE = SCAN, SCAN
BRAIN_LEVEL = 0.1
"""FLAIR of what is taken to be brain where nobody drew it."""
FEWEST_VOXELS = 20
TISSUE_STEP = BYTES // len(Tissue)
"""Tissues are stored as multiples of this."""


class Task(ABC):
    """One network and how it learns.

    Args:
        settings: of the training.
    """

    score: ClassVar[str]
    """What :meth:`judge` measures."""

    def __init__(self, settings: TrainingSettings) -> None:
        self.settings = settings
        stage = settings.segmenter
        self.segmentation_loss = SegmentationLoss(stage.cross_entropy, stage.batch_dice)

    @property
    def architecture(self) -> dict[str, Any]:
        """Arguments of the network's class."""
        return self.settings.segmenter.arguments

    @abstractmethod
    def build(self) -> nn.Module:
        """A network that has learnt nothing."""

    def extend(self, scan: DrawnScan, rng: np.random.Generator) -> Tensor:  # noqa: ARG002 (others draw)
        """The task's own channels (any, x, y, z) of a scan, in [0, 1]; none by default."""
        return scan.cube[:0]

    @abstractmethod
    def loss(self, network: nn.Module, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Scalar loss of a batch (batch, channels, x, y, z) in [0, 1]."""

    @abstractmethod
    def judge(self, network: nn.Module, example: Tensor) -> float:
        """How good the network is on one whole example (channels, x, y, z)."""

    def example(self, scan: DrawnScan, rng: np.random.Generator) -> Tensor:
        """The example that a scan becomes, uint8."""
        return (torch.cat([scan.cube, self.extend(scan, rng).to(scan.cube.device)]) * BYTES).round().to(torch.uint8)


class SegmenterTask(Task):
    """Lesions, from FLAIR and T1w."""

    score = "dice"

    def build(self) -> nn.Module:
        return McUnet(**self.architecture)

    def loss(self, network: nn.Module, batch: Tensor, generator: torch.Generator) -> Tensor:
        logits = network(batch[:, :LESION], generator)
        value: Tensor = self.segmentation_loss(logits, batch[:, LESION:IGNORED], batch[:, IGNORED:SCAN])
        return value

    def judge(self, network: nn.Module, example: Tensor) -> float:
        return _dice(plain_pass(network, example[:LESION])[0, 0] >= 0, example)


class CriticTask(Task):
    """Whether each voxel is a lesion, from the images, a mask of any quality and what our segmenter thinks.

    Args:
        settings: of the training.
        segmenter: whose probability it is shown; None: none, zeros.
    """

    score = "error"
    """Mean absolute difference of expected and true Dice."""

    def __init__(self, settings: TrainingSettings, segmenter: nn.Module | None) -> None:
        super().__init__(settings)
        self.segmenter = segmenter

    def build(self) -> nn.Module:
        return CriticUnet(**self.architecture)

    def extend(self, scan: DrawnScan, rng: np.random.Generator) -> Tensor:
        flair = scan.cube[FLAIR].cpu().numpy()
        probability = np.zeros_like(flair)
        if self.segmenter is not None:
            with torch.inference_mode():
                probability = plain_pass(self.segmenter, scan.cube[:LESION])[0, 0].sigmoid().numpy()
        mask = drawn_mask(scan, flair, probability, rng)
        shown = 0.0 if rng.random() < self.settings.endless.blind_fraction else 1.0
        return torch.from_numpy(np.stack([mask.astype(np.float32), shown * probability]))

    def loss(self, network: nn.Module, batch: Tensor, generator: torch.Generator) -> Tensor:
        logits = network(self._seen(batch), generator)
        value: Tensor = self.segmentation_loss(logits, batch[:, LESION:IGNORED], batch[:, IGNORED:SCAN])
        return value

    def judge(self, network: nn.Module, example: Tensor) -> float:
        valid = example[IGNORED].cpu() < 0.5
        probability = plain_pass(network, self._seen(example[None])[0])[0, 0].sigmoid() * valid
        mask = (example[MASK].cpu() >= 0.5) & valid
        return abs(expected_dice(mask.float(), probability) - _dice(mask, example))

    def _seen(self, batch: Tensor) -> Tensor:
        return torch.cat([batch[:, :LESION], batch[:, MASK : PROBABILITY + 1]], dim=1)


class AnatomyTask(Task):
    """Which :class:`.Tissue` each voxel is; simulated patients alone."""

    score = "dice"
    """Mean of white matter and ventricles."""

    @property
    def architecture(self) -> dict[str, Any]:
        return {**super().architecture, "classes": len(Tissue)}

    def build(self) -> nn.Module:
        return McUnet(**self.architecture)

    def extend(self, scan: DrawnScan, rng: np.random.Generator) -> Tensor:  # noqa: ARG002 (nothing is drawn)
        assert scan.tissue is not None  # noqa: S101 (for the type checker: there are no real scans here)
        return scan.tissue.float() * TISSUE_STEP / BYTES

    def loss(self, network: nn.Module, batch: Tensor, generator: torch.Generator) -> Tensor:
        logits, tissue = network(batch[:, :LESION], generator).float(), self._tissue(batch)
        share = logits.softmax(dim=1)
        truth = functional.one_hot(tissue, len(Tissue)).movedim(-1, 1).float()
        sides = (0, 2, 3, 4)
        overlap = (2 * (share * truth).sum(sides) + 1) / ((share + truth).sum(sides) + 1)
        return functional.cross_entropy(logits, tissue) + 1 - overlap[1:].mean()

    def judge(self, network: nn.Module, example: Tensor) -> float:
        found = plain_pass(network, example[:LESION])[0].argmax(dim=0)
        truth = self._tissue(example[None].cpu())[0]
        return float(np.mean([dice((found == t).numpy(), (truth == t).numpy()).dice for t in (Tissue.WHITE, Tissue.VENTRICLE)]))

    def _tissue(self, batch: Tensor) -> Tensor:
        return (batch[:, TISSUE] * BYTES / TISSUE_STEP).round().long()


class ReconstructorTask(Task):
    """What a hole was: holes of lesions' shapes and of any shape, in tissue without lesions, so that the truth is known."""

    score = "share"
    """Mean absolute difference in the hole over that of filling it with the mean of its surroundings."""

    def __init__(self, settings: TrainingSettings) -> None:
        super().__init__(settings)
        stage = settings.reconstructor
        self.similarity = SsimLoss(stage.ssim_form, stage.ssim_window, stage.hole_weight)

    @property
    def architecture(self) -> dict[str, Any]:
        return self.settings.reconstructor.arguments

    def build(self) -> nn.Module:
        return ReconstructionUnet(**self.architecture)

    def extend(self, scan: DrawnScan, rng: np.random.Generator) -> Tensor:
        lesion = scan.cube[LESION:IGNORED] >= 0.5
        shape = (lesion.shape[1], lesion.shape[2], lesion.shape[3])
        noise = Noise(int(rng.integers(2**31)), shape, lesion.device)
        # Lesions of the same patient on the other side, a little moved, and blobs of any width.
        moved = lesion.flip(1).roll(tuple(int(n) for n in rng.integers(-4, 5, 3)), (1, 2, 3))
        hole = dilated(moved, int(rng.integers(3))) | (noise.smooth(rng.uniform(3, 12)) > rng.uniform(1.6, 2.6))
        return (hole & (scan.cube[FLAIR : FLAIR + 1] > BRAIN_LEVEL) & ~dilated(lesion, 2)).float()

    def loss(self, network: nn.Module, batch: Tensor, _generator: torch.Generator) -> Tensor:
        flair, hole = batch[:, :1], (batch[:, HOLE : HOLE + 1] >= 0.5).float()
        filled = network(flair * (1 - hole)).float()
        inside = hole.sum().clamp(min=1)
        value: Tensor = self.similarity(filled, flair, hole) + 5 * ((filled - flair).abs() * hole).sum() / inside
        return value

    def judge(self, network: nn.Module, example: Tensor) -> float:
        flair, hole = example[:1].cpu(), example[HOLE : HOLE + 1].cpu() >= 0.5
        if int(hole.sum()) < FEWEST_VOXELS:
            return np.nan
        filled = plain_pass(network, flair * ~hole)[0]
        ours = (filled - flair)[hole].abs().mean()
        around = dilated(hole, 3) & ~hole & (flair > BRAIN_LEVEL)
        return float(ours / (flair[around].mean() - flair[hole]).abs().mean())


def drawn_mask(scan: DrawnScan, flair: Voxels, probability: ProbabilityMap, rng: np.random.Generator) -> Mask:
    """A mask of the scan's lesions (x, y, z) of any kind: the truth itself, graded, damaged, or a classical tool's."""
    truth = scan.cube[LESION].cpu().numpy() >= 0.5
    brain = flair > BRAIN_LEVEL if scan.tissue is None else scan.tissue[0].cpu().numpy() > 0
    choice = rng.random()
    if truth.sum() < FEWEST_VOXELS or choice < 0.3:
        t1 = scan.cube[1].cpu().numpy()
        passes = (probability >= 0.5)[None]
        other = truth[::-1].copy()
        material = Material(flair, t1, brain, truth, probability, passes, (), other)
        return make_mask(draw_kinds(1, rng)[0], material, rng)
    if choice < 0.36:
        return truth
    native = NativeMaterial(truth, flair, brain, probability, scan.spacing)
    return graded_mask(draw_graded(1, rng)[0], native, rng)


def _dice(marked: Tensor, example: Tensor) -> float:
    valid = (example[IGNORED] < 0.5).cpu().numpy()
    return dice(marked.cpu().numpy() & valid, (example[LESION] >= 0.5).cpu().numpy() & valid).dice
