"""One scan on its FLAIR's grid, and a mask of it that is to be judged."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from veridice.case import Notice
from veridice.imaging.registration import Alignment
from veridice.imaging.volume import Geometry, Volume
from veridice.types import Mask


@dataclass(frozen=True)
class Scan:
    """One scan on its FLAIR's grid.

    A task that takes no FLAIR has its first contrast in that place.

    Args:
        flair, t1: images; no T1w is None.
        t1_geometry: of the T1w as it came; masks may lie there.
        alignment: how the T1w was moved; None where it stayed.
        brain: given brain mask, boolean.
        warnings: what a reader should know.
        doubts: those for which no mask of the scan should be accepted unseen.
        record: JSON-ready, how files were brought here.
    """

    flair: Volume
    t1: Volume | None = None
    t1_geometry: Geometry | None = None
    alignment: Alignment | None = None
    brain: Volume | None = None
    warnings: tuple[Notice, ...] = ()
    doubts: tuple[Notice, ...] = ()
    record: dict[str, Any] = field(default_factory=dict)

    def as_crop(self) -> Scan:
        """The same where no brain is looked for: all of it counts as one."""
        return replace(self, brain=self.flair.with_voxels(np.ones(self.flair.shape, dtype=bool)))


@dataclass(frozen=True)
class GivenMask:
    """A mask to judge, boolean, on the FLAIR's grid.

    Args:
        name: of its file.
        volume: all that is marked.
        warnings: what a reader should know.
        parts: each part (x, y, z) of a target that has several.
    """

    name: str
    volume: Volume
    warnings: tuple[Notice, ...] = ()
    parts: tuple[Mask, ...] = ()

    @property
    def each_part(self) -> tuple[Mask, ...]:
        """The parts; of a target that is one part, all that is marked."""
        return self.parts or (self.volume.voxels,)
