"""One scan on its FLAIR's grid, and a mask of it that is to be judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from veridice.case import Notice
from veridice.imaging.registration import Alignment
from veridice.imaging.volume import Geometry, Volume


@dataclass(frozen=True)
class Scan:
    """One scan on its FLAIR's grid.

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


@dataclass(frozen=True)
class GivenMask:
    """A mask to judge, boolean, on the FLAIR's grid."""

    name: str
    volume: Volume
    warnings: tuple[Notice, ...] = ()
