"""Single lesions of many people, from which patterns of one patient are drawn (``scripts/make_heads.py`` writes the file)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from veridice.errors import InputError
from veridice.simulate.heads import TEMPLATE_BRAIN, LabelledHead
from veridice.types import Mask

PLACES = (24.0, 60.0)
"""Lesions of one person lie together: deviation (mm) of the neighbourhoods that a pattern prefers, drawn between these."""
ELSEWHERE = 0.02
"""Weight of a place that is in no such neighbourhood."""
OVERSHOOT = 1.2
SHIFT = 4
"""Largest shift of a whole pattern along each axis, mm."""
BANK_FILE = "bank.npz"


@dataclass(frozen=True)
class LesionBank:
    """Masks of single lesions in the MNI152 (1 mm, left to right).

    Args:
        masks: one boolean crop each.
        corners: (lesions, 3) first voxel of each.
        volumes: (lesions,) mm³.
    """

    masks: tuple[Mask, ...]
    corners: np.ndarray[Any, Any]
    volumes: np.ndarray[Any, Any]

    @classmethod
    def read(cls, folder: Path) -> LesionBank:
        """What :data:`BANK_FILE` in ``folder`` holds.

        Raises:
            InputError: it is not there.
        """
        path = folder / BANK_FILE
        if not path.exists():
            raise InputError(f"{folder.name}: no {BANK_FILE} there; make it with scripts/make_heads.py")
        with np.load(path, allow_pickle=False) as stored:
            packed = np.split(stored["bits"], np.cumsum(stored["length"])[:-1])
            shapes, corners = stored["shape"].astype(int), stored["corner"].astype(int)
        masks = tuple(
            np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape) > 0
            for bits, shape in zip(packed, shapes, strict=True)
        )
        return cls(masks, corners, np.array([np.count_nonzero(mask) for mask in masks]))

    def draw(self, load_mm3: float, rng: np.random.Generator) -> list[int]:
        """Numbers of lesions around a few places, up to a load."""
        places = self.corners + np.array([mask.shape for mask in self.masks]) / 2
        centres = places[rng.choice(len(places), rng.integers(2, 6))]
        near = np.exp(-0.5 * (((places[:, None] - centres) / rng.uniform(*PLACES)) ** 2).sum(axis=-1)).sum(axis=1) + ELSEWHERE
        taken, load = [], 0.0
        for number in rng.choice(len(places), len(places), replace=False, p=near / near.sum()):
            if load + self.volumes[number] > OVERSHOOT * load_mm3:
                continue
            taken.append(int(number))
            load += self.volumes[number]
            if load >= load_mm3:
                break
        return taken

    def pattern(self, head: LabelledHead, load_mm3: float, rng: np.random.Generator) -> Mask:
        """Lesions of one patient where they would lie in this head (x, y, z), wherever there is room for them or not."""
        start, stop = head.brain_box
        scale = (stop - start) / (TEMPLATE_BRAIN[1] - TEMPLATE_BRAIN[0])
        shift, mirrored = rng.integers(-SHIFT, SHIFT + 1, 3), rng.random() < 0.5
        canvas = np.zeros(head.labels.shape, bool)
        for number in self.draw(load_mm3, rng):
            mask = self.masks[number]
            middle = start + scale * (self.corners[number] + np.array(mask.shape) / 2 - TEMPLATE_BRAIN[0]) + shift
            if mirrored:
                mask, middle[0] = mask[::-1], start[0] + stop[0] - middle[0]
            corner = np.round(middle - np.array(mask.shape) / 2).astype(int)
            first, last = np.maximum(corner, 0), np.minimum(corner + mask.shape, canvas.shape)
            if (first < last).all():
                inside = tuple(slice(a, b) for a, b in zip(first - corner, last - corner, strict=True))
                canvas[tuple(slice(a, b) for a, b in zip(first, last, strict=True))] |= mask[inside]
        return canvas
