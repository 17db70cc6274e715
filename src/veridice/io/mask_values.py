"""What the values of a file mean as a mask: zeros and ones, probabilities, or labels."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np

from veridice.case import Notice, plain_name
from veridice.errors import InputError
from veridice.imaging.volume import Volume

MaskLabel = int | Literal["all"]
"""Label of the lesions in a file of many, or all of them together."""
HALF = 0.5
LESIONS_ML = 500.0
"""More than all lesions of a brain together; labels that fill more are of tissues."""
BRAIN_MEND = "give a mask of zeros and ones (for example: fslmaths -bin)"
Read = tuple[Volume, tuple[Notice, ...]]


def as_mask(path: Path, values: Volume, threshold: float | None = None, label: MaskLabel | None = None) -> Read:
    """The mask (boolean, x y z) that a file's values are, with what was done to them.

    Args:
        path: of the file, for messages.
        values: as stored.
        threshold: from which value on a voxel belongs to the mask; None: binary masks as they are, probabilities from 0.5.
        label: of lesions; goes before ``threshold``.

    Raises:
        InputError: NaN or infinite values, or what they mean cannot be told.
    """
    _require_finite(path, values)
    if label == "all":
        return _all_labels(path, values)
    if label is not None:
        text = f"lesions are label {label} of {plain_name(path.name)}"
        return values.with_voxels(values.voxels == label), (Notice("mask_label", text),)
    if threshold is not None:
        if not isfinite(threshold):
            raise InputError(f"--mask-threshold {threshold}: is no number to cut at")
        if values.voxels.min() >= threshold:
            raise InputError(f"{path}: every voxel is {threshold:g} or more; give a --mask-threshold above the background")
        text = f"{plain_name(path.name)} was cut at {threshold:g}"
        return values.with_voxels(values.voxels >= threshold), (Notice("mask_threshold", text),)
    found = np.unique(values.voxels)
    mask = _plain_mask(path, values, found)
    if mask is None:
        raise InputError(f"{path}: {_numbered_lesions(values, found) or _no_mask(found)}")
    return mask


def as_brain_mask(path: Path, values: Volume) -> Read:
    """The same for a brain mask, which has neither threshold nor labels."""
    _require_finite(path, values)
    found = np.unique(values.voxels)
    mask = _plain_mask(path, values, found)
    if mask is None:
        raise InputError(f"{path}: neither a binary mask nor probabilities from 0 to 1, {_shown(found)}; {BRAIN_MEND}")
    if not mask[0].voxels.any():
        raise InputError(f"{path}: the brain mask is empty; give one that marks the brain, or none")
    return mask


def _require_finite(path: Path, values: Volume) -> None:
    if not np.isfinite(values.voxels).all():
        raise InputError(f"{path}: holds NaN or infinite values; replace them (for example: fslmaths -nan)")


def _all_labels(path: Path, values: Volume) -> Read:
    found = np.unique(values.voxels)
    if found[0] < 0 or (found != np.round(found)).any():
        raise InputError(f"{path}: holds no labels, {_shown(found)}; --mask-label all takes whole numbers from 0")
    count, name = int((found > 0).sum()), plain_name(path.name)
    text = f"all {count} labels of {name} together are the mask"
    return values.with_voxels(values.voxels > 0), (Notice("mask_label", text),) if count > 1 else ()


def _plain_mask(path: Path, values: Volume, found: np.ndarray[Any, Any]) -> Read | None:
    """A binary mask or probabilities; None where the values are neither."""
    voxels, name, whole = values.voxels, plain_name(path.name), _whole(found)
    if len(found) <= 2 and (found[0] == 0 or (len(found) == 1 and found[0] > 0)):
        text = f"{name} holds {found[-1]:g} alone: every voxel that has it is the mask"
        return values.with_voxels(voxels > 0), () if whole else (Notice("mask_value", text),)
    if found[0] >= 0 and found[-1] <= 1 and not whole:
        return values.with_voxels(voxels >= HALF), (Notice("mask_threshold", f"{name} holds probabilities: cut at {HALF}"),)
    return None


def _whole(found: np.ndarray[Any, Any]) -> bool:
    return bool((found == np.round(found)).all())


def _numbered_lesions(values: Volume, found: np.ndarray[Any, Any]) -> str:
    """What to say of a map in which every lesion has a number of its own; empty where the labels are something else."""
    count = int((found > 0).sum())
    filled = float((values.voxels > 0).sum()) * values.geometry.voxel_volume_ml
    # Some numbers may be gone, as those of lesions that were too small; labels of tissues have large gaps or fill the head.
    if found[0] != 0 or not _whole(found) or found[-1] > 2 * count or filled > LESIONS_ML:
        return ""
    return (
        f"looks like a map of {count} numbered lesions: give --mask-label all, "
        "or --mask-label with a number if one label alone is the lesions"
    )


def _no_mask(found: np.ndarray[Any, Any]) -> str:
    labels = _whole(found) and found[0] >= 0
    mend = "--mask-label with that of the lesions (or all), or --mask-threshold" if labels else "--mask-threshold"
    return f"neither a binary mask nor probabilities from 0 to 1, {_shown(found)}; give {mend}"


def _shown(found: np.ndarray[Any, Any]) -> str:
    return f"its values are {', '.join(f'{value:g}' for value in found[:4])}{'...' if len(found) > 4 else ''}"
