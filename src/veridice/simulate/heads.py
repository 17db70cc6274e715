"""Heads of many people as label maps, from which patients are made while a network trains (``scripts/make_heads.py``).

A label says what a voxel (1 mm) is, :class:`Tissue`, and how bright it was on the person's T1w among its like. Tissues are
split by intensity as DRIFTS does it (arXiv:2411.06842), so that a drawn contrast has the fine structure of a real brain.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from veridice.errors import InputError
from veridice.imaging.tissue import Tissue
from veridice.simulate.donors import CSF, GREY, WHITE, Anatomy
from veridice.types import Voxels

LEVELS = 4
"""Brightness levels of each tissue; label = tissue * LEVELS + level."""
AROUND = 32
"""First label of what is around the brain; each further one is a substance of its own."""
LABELS = 72
COARSE = 4
"""Distances are kept on every fourth voxel."""
TEMPLATE_BRAIN = (np.array([19.0, 19.0, 0.0]), np.array([164.0, 200.0, 155.0]))
"""Bounding box of the brain in the voxels of the MNI152 (182 x 218 x 182, left to right)."""

Labels = np.ndarray[Any, np.dtype[np.uint8]]
Box = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


@dataclass(frozen=True)
class LabelledHead:
    """One head, RAS, 1 mm.

    Args:
        name: of the person.
        labels: (x, y, z) see :data:`LEVELS` and :data:`AROUND`.
        brain_box, head_box: first and last corner (voxels) of the brain and of all that is there.
        wall: millimetres to the ventricles, below 0 inside, on every :data:`COARSE` voxel.
        depth: millimetres below the brain's surface, 0 outside, likewise.
    """

    name: str
    labels: Labels
    brain_box: Box
    head_box: Box
    wall: Voxels
    depth: Voxels

    @cached_property
    def has_surroundings(self) -> bool:
        """Whether anything is known outside the brain."""
        return bool((self.labels >= AROUND).any())


def labelled_head(name: str, labels: Labels) -> LabelledHead:
    """The head with what follows from its labels.

    Raises:
        InputError: there is no brain, or no ventricle.
    """
    brain = (labels >= LEVELS) & (labels < AROUND)
    coarse = labels[::COARSE, ::COARSE, ::COARSE]
    ventricles = coarse // LEVELS == Tissue.VENTRICLE
    if not ventricles.any():
        raise InputError(f"{name}: its label map has no ventricles; make it with scripts/make_heads.py")
    distance = ndimage.distance_transform_edt
    wall = COARSE * (distance(~ventricles) - distance(ventricles))
    depth = COARSE * distance(brain[::COARSE, ::COARSE, ::COARSE])
    return LabelledHead(name, labels, _box(brain), _box(labels > 0), wall.astype(np.float32), depth.astype(np.float32))


def _box(inside: np.ndarray[Any, Any]) -> Box:
    bounds = ndimage.find_objects(inside.astype(np.uint8))[0]
    return np.array([s.start for s in bounds], float), np.array([s.stop for s in bounds], float)


def read_heads(folder: Path) -> list[LabelledHead]:
    """All heads of a folder, by name.

    Raises:
        InputError: there is none, or one is not a label map.
    """
    files = sorted(folder.glob("head-*.nii.gz"))
    if not files:
        raise InputError(f"{folder.name}: no heads there; make them with scripts/make_heads.py")
    return [labelled_head(file.name[5:-7], np.asarray(nib.load(file).dataobj, np.uint8)) for file in files]


def head_of(name: str, anatomy: Anatomy) -> LabelledHead:
    """A donor's brain as such a label map: no surroundings, one brightness level."""
    fluid, grey, white, ventricles = anatomy.shares.astype(np.int16)
    parts = {CSF: fluid, GREY: grey, WHITE: white}
    kinds = {CSF: Tissue.FLUID, GREY: Tissue.CORTEX, WHITE: Tissue.WHITE}
    most = np.stack(list(parts.values())).argmax(axis=0)
    labels = np.array([kinds[part] * LEVELS for part in parts], np.uint8)[most]
    labels[ventricles >= 128] = Tissue.VENTRICLE * LEVELS
    labels[fluid + grey + white < 128] = 0
    return labelled_head(name, labels)
