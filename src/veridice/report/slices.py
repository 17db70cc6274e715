"""Which slices of a scan to show, how bright, and how large."""

from __future__ import annotations

from typing import Any

import numpy as np

from veridice.types import Mask, Voxels

FLATTEST = 3.0
"""Longer side of a picture over the shorter, at most: voxel sizes that make no sense make no picture of a kilometre."""

Profile = np.ndarray[Any, np.dtype[np.floating[Any]]]


def doubtful_slices(mask: Voxels, entropy: Voxels, count: int) -> list[int]:
    """Axial slices (indices of the last axis, ascending) with most lesion and most doubt, not next to each other."""
    interest = _share(mask.sum(axis=(0, 1))) + _share(entropy.sum(axis=(0, 1)))
    # Without lesions and doubt the middle of the head is as good as any.
    return _apart(interest + 1e-6 * _bump(len(interest)), count, len(interest) // (3 * count))


def lesion_slices(mask: Mask, count: int) -> list[int]:
    """Axial slices (as above) with most of the mask, a fifth of the head apart at least."""
    amount = mask.sum(axis=(0, 1))
    return _apart(amount + 1e-3 * _bump(len(amount)), count, len(amount) // 5)


def _apart(interest: Profile, count: int, apart: int) -> list[int]:
    chosen: list[int] = []
    for index in np.argsort(-interest, kind="stable"):
        if len(chosen) < count and all(abs(int(index) - other) >= max(1, apart) for other in chosen):
            chosen.append(int(index))
    return sorted(chosen)


def _bump(count: int) -> Profile:
    return np.hanning(count + 2)[1:-1]


def _share(profile: Profile) -> Profile:
    return profile / profile.max() if profile.max() > 0 else profile * 0.0


def window(voxels: Voxels) -> tuple[float, float]:
    """Intensities of a cropped scan that become black and white."""
    # The middle of the box is brain; fat of the scalp would darken it.
    voxels = voxels[::2, ::2]  # more than enough to choose two shades by
    middle = voxels[tuple(slice(n // 4, n - n // 4) for n in voxels.shape)]
    low, high = min(float(np.percentile(voxels, 1)), float(middle.min())), np.percentile(middle, 99.8)
    return float(low), float(max(high, low + 1e-6))


def picture_size(shape: tuple[int, ...], spacing: Profile) -> tuple[float, float]:
    """Width and height in millimetres of an axial slice of ``shape`` voxels, one at most :data:`FLATTEST` times the other."""
    width, height = (float(length * edge) for length, edge in zip(shape[:2], spacing[:2], strict=True))
    return min(width, FLATTEST * height), min(height, FLATTEST * width)


def radiological(slice_: Voxels) -> Voxels:
    """Axial slice of a canonical volume as seen from the feet: right is left, front is up."""
    return slice_[::-1, ::-1].T
