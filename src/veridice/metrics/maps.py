"""Maps of one scan on the cube, from which scores are taken."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from veridice.types import Mask, ProbabilityMap, Voxels

PackedMasks = np.ndarray[tuple[int, int], np.dtype[np.uint8]]
"""(masks, bytes): masks of one shape, packed by ``np.packbits``, an eighth of their booleans."""


def unpacked(packed: np.ndarray[Any, np.dtype[np.uint8]], shape: tuple[int, ...]) -> Mask:
    """One mask (x, y, z) of its bytes."""
    return np.unpackbits(packed, count=math.prod(shape)).view(bool).reshape(shape)


def packed_parts(packed: PackedMasks, count: int) -> list[PackedMasks]:
    """Masks (masks, bytes) of (parts, x, y, z) as those of each part; a part is a whole number of bytes on every cube."""
    return np.split(packed, count, axis=1)


def union(packed: PackedMasks, shape: tuple[int, ...]) -> Mask:
    """Voxels (x, y, z) that any of the masks has."""
    return unpacked(np.bitwise_or.reduce(packed, axis=0), shape)


@dataclass(frozen=True)
class StochasticMaps:
    """What the stochastic passes left behind, maps (x, y, z).

    Args:
        mean: mean probability over the passes (paper, Eq. 2); of a network that marks several parts (parts, x, y, z), as all
            maps here are then.
        entropy: of the mean, in bits (paper, Eq. 3).
        variance: of the probability over the passes (divided by N).
        mutual_information: entropy of the mean minus mean of the entropies, in bits: the part of the entropy on which
            the passes disagree (Houlsby et al. 2011, arXiv:1112.5745).
        sample_masks: the samples at 0.5.
    """

    mean: ProbabilityMap
    entropy: Voxels
    variance: Voxels
    mutual_information: Voxels
    sample_masks: PackedMasks

    def parts(self) -> tuple[StochasticMaps, ...]:
        """Of a network that marks several parts, whose maps are (parts, x, y, z): the maps (x, y, z) of each part."""
        if self.mean.ndim == 3:
            return (self,)
        maps = zip(self.mean, self.entropy, self.variance, self.mutual_information, strict=True)
        masks = packed_parts(self.sample_masks, len(self.mean))
        return tuple(StochasticMaps(*each, packed) for each, packed in zip(maps, masks, strict=True))

    def together(self) -> StochasticMaps:
        """All parts as one (x, y, z): in each voxel the highest value of any."""
        if self.mean.ndim == 3:
            return self
        mean, entropy, variance, information = (
            np.asarray(map_.max(axis=0)) for map_ in (self.mean, self.entropy, self.variance, self.mutual_information)
        )
        masks = np.bitwise_or.reduce(packed_parts(self.sample_masks, len(self.mean)))
        return StochasticMaps(mean, entropy, variance, information, masks)


@dataclass(frozen=True)
class GridMaps(StochasticMaps):
    """The same with one segmentation that is judged.

    Args:
        segmentation: as probability (our own) or as share of each voxel (a given one).
        error: signed reconstruction error with the judged mask cut out, FLAIR in [0, 1].
    """

    segmentation: ProbabilityMap
    error: Voxels

    @classmethod
    def of(cls, passes: StochasticMaps, segmentation: ProbabilityMap, error: Voxels) -> GridMaps:
        """The maps of ``passes`` beside a segmentation and its error."""
        return cls(**vars(passes), segmentation=segmentation, error=error)

    @property
    def mask(self) -> Mask:
        """The judged segmentation at 0.5."""
        return self.segmentation >= 0.5
