"""Lesions of two visits in one space: which are new, gone, grown, shrunk, merged, split. No torch.

Parts of the two masks that share a voxel belong together, so that merging and splitting are seen (the bipartite graph of
overlaps, as ``lesiontrack`` 0.2 has it). What counts as growing is ours: a lesion has to change by more than the doubt about
its border, since two masks of one lesion differ by a layer of voxels here and there even where nothing changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from veridice.imaging.components import Labels, dilate, label_components
from veridice.types import Mask

Kind = Literal["new", "gone", "grown", "shrunk", "unchanged", "fragment"]
MARGIN = 1
"""A lesion without a partner that comes nearer than this to the other mask is a fragment of a border, neither new nor gone."""
LEAST_SHARE = 0.3
"""Change of volume, as a share of the larger one, below which a lesion is unchanged."""
LEAST_VOXELS = 5
"""And in voxels."""


@dataclass(frozen=True)
class LesionChange:
    """A group of lesions that belong together.

    Args:
        kind: what became of it.
        before, after: numbers of its lesions in each visit, as :func:`.label_components` gives them.
        volume_before_ml, volume_after_ml: of all of them.
        merged, split: several lesions became one, or one became several.
        centre: of mass, in voxels.
    """

    kind: Kind
    before: tuple[int, ...]
    after: tuple[int, ...]
    volume_before_ml: float
    volume_after_ml: float
    merged: bool
    split: bool
    centre: tuple[float, float, float]

    @property
    def change_ml(self) -> float:
        """How much was gained."""
        return self.volume_after_ml - self.volume_before_ml


def match_lesions(before: Mask, after: Mask, voxel_ml: float) -> list[LesionChange]:
    """What became of every lesion, the largest change first.

    Args:
        before, after: masks of two visits (x, y, z) on one grid.
        voxel_ml: volume of a voxel, millilitres.
    """
    (first, first_sizes), (second, second_sizes) = label_components(before), label_components(after)
    counts = len(first_sizes), len(second_sizes)
    groups = _groups(first, second, counts)
    near = {"after": dilate(before, MARGIN), "before": dilate(after, MARGIN)}
    changes = []
    for group in range(groups.max(initial=-1) + 1):
        members = np.flatnonzero(groups == group)
        old, new = members[members < counts[0]] + 1, members[members >= counts[0]] - counts[0] + 1
        sizes = int(first_sizes[old - 1].sum()), int(second_sizes[new - 1].sum())
        where = np.isin(first, old) if len(old) else np.isin(second, new)
        touches = bool((where & near["before" if len(old) else "after"]).any())
        places = np.argwhere(where)
        changes.append(
            LesionChange(
                kind=_kind(*sizes, touches),
                before=tuple(map(int, old)),
                after=tuple(map(int, new)),
                volume_before_ml=sizes[0] * voxel_ml,
                volume_after_ml=sizes[1] * voxel_ml,
                merged=len(old) > 1,
                split=len(new) > 1,
                centre=tuple(map(float, places.mean(axis=0))),  # type: ignore[arg-type]
            )
        )
    return sorted(changes, key=lambda change: -abs(change.change_ml))


def _groups(first: Labels, second: Labels, counts: tuple[int, int]) -> Labels:
    """Number of the group of each lesion (those of the first visit, then those of the second)."""
    both = (first > 0) & (second > 0)
    old, new = first[both] - 1, second[both] - 1 + counts[0]
    size = sum(counts)
    if not size:
        return np.zeros(0, np.int32)
    graph = sparse.coo_array((np.ones(len(old), bool), (old, new)), shape=(size, size))
    return np.asarray(connected_components(graph.tocsr(), directed=False)[1])


def _kind(before: int, after: int, touches: bool) -> Kind:
    if not before or not after:
        return "fragment" if touches else "new" if after else "gone"
    gained = after - before
    if abs(gained) < LEAST_VOXELS or abs(gained) < LEAST_SHARE * max(before, after):
        return "unchanged"
    return "grown" if gained > 0 else "shrunk"
