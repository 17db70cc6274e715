"""What is known of a scan, whatever mask is judged. No torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from veridice.case import Notice
from veridice.imaging.components import bounding_box
from veridice.imaging.grid import GridTransform
from veridice.imaging.scan import Scan
from veridice.imaging.tissue import TissueMap
from veridice.imaging.volume import Geometry
from veridice.metrics.maps import PackedMasks, StochasticMaps, union, unpacked
from veridice.metrics.scores import mean_pairwise_dice
from veridice.types import Mask, Numbers, ProbabilityMap, Voxels


@dataclass(frozen=True)
class NativeSamples:
    """Passes at 0.5 in the scan's own grid, cut to where any of them has a lesion.

    Args:
        masks: (passes, x, y, z) boolean, canonically oriented.
        region: where they lie in the crop of the :class:`~veridice.imaging.grid.GridTransform`.
    """

    masks: np.ndarray[Any, np.dtype[np.bool_]]
    region: tuple[slice, slice, slice]

    @cached_property
    def sizes(self) -> Numbers:
        """Voxels of each pass (passes,)."""
        return np.asarray(self.masks.sum(axis=(1, 2, 3)), np.float64)

    def overlaps(self, mask: Mask, transform: GridTransform) -> Numbers:
        """Hard Dice of ``mask`` (native grid) with each pass (passes,); two empty masks agree: 1."""
        inside = transform.crop(mask)[self.region]
        shared = self.masks[:, inside].sum(axis=1)
        total = self.sizes + np.count_nonzero(mask)
        return np.where(total > 0, 2.0 * shared / np.maximum(total, 1.0), 1.0)


def native_samples(packed: PackedMasks, transform: GridTransform) -> NativeSamples:
    """Bring the masks of all passes from the cube to the scan's own grid, each trilinearly and cut at 0.5 again."""
    shape = transform.grid_shape
    box = bounding_box(union(packed, shape))
    if not box[0].stop:
        return NativeSamples(np.zeros((len(packed), 0, 0, 0), bool), box)
    region = transform.crop_region(box)
    masks = np.empty((len(packed), *(side.stop - side.start for side in region)), bool)
    for mask, each in zip(masks, packed, strict=True):
        np.greater_equal(transform.to_crop(unpacked(each, shape), region), 0.5, out=mask)
    return NativeSamples(masks, region)


@dataclass(frozen=True)
class ScanAnalysis:
    """Everything about a scan that no mask changes.

    Args:
        scan: on the FLAIR's grid.
        transform: from there to the cube and back.
        images: FLAIR and T1w on the cube (2, x, y, z), in [0, 1].
        passes: what the stochastic passes say, on the cube.
        samples: their masks in the scan's grid.
        probability, own: mean probability and our own mask, scan's grid; of several parts all together.
        brain, native_brain: brain mask on the cube, and in the scan's grid.
        tissue: of each voxel of the cube, where an anatomy network told.
        descriptors, features: of the image, from which it is told whether the models know its like.
        preprocessing: JSON-ready record of every step between the scan and the cube.
        warnings: about scan and files.
        doubts: those for which no mask of the scan should be accepted unseen.
        parts: the same of each part of a target that has several.
    """

    scan: Scan
    transform: GridTransform
    images: Voxels
    passes: StochasticMaps
    samples: NativeSamples
    probability: ProbabilityMap
    own: Mask
    brain: Mask
    native_brain: Mask
    tissue: TissueMap | None = None
    descriptors: dict[str, float] = field(default_factory=dict)
    features: Numbers = field(default_factory=lambda: np.zeros(0))
    preprocessing: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[Notice, ...] = ()
    doubts: tuple[Notice, ...] = ()
    parts: tuple[ScanAnalysis, ...] = ()

    @property
    def each_part(self) -> tuple[ScanAnalysis, ...]:
        """The parts; of a target that is one part, this."""
        return self.parts or (self,)

    @property
    def geometry(self) -> Geometry:
        """Of the scan's own grid."""
        return self.transform.native

    @property
    def flair(self) -> Voxels:
        """FLAIR on the cube, in [0, 1]."""
        return self.images[0]

    @cached_property
    def pairwise_dice(self) -> float:
        """Agreement of the passes with one another."""
        return mean_pairwise_dice(self.passes.sample_masks)
