"""Variations of a scan that is on the cube, as torch operations: of shape, contrast, slices, and of whose lesions it has."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from veridice.simulate.anatomy import turn
from veridice.simulate.cube_fields import Noise, affine_places, dilated, from_slices, sample, soften, to_slices
from veridice.training.cubes import FLAIR, IGNORED, LESION, T1W
from veridice.training.settings import DataSettings

WAVE_VOXELS, WAVE_SPACING = 1.5, 20.0
"""Deviation and width of the smooth displacement, voxels of the cube."""
THICK = (8, 40)
"""Slices of a scan that is made coarser, across the whole cube."""
CONTRAST_CHANGE = 0.25
"""Largest relative change of the lesions' contrast."""
PLANTED_SHIFT = 6
LIKE_WHITE = (0.8, 1.15)
"""Intensity of places that a lesion may be planted in, over that around the lesions of the same scan."""
FEWEST_AROUND = 50


def varied_scan(cube: Tensor, other: Tensor | None, settings: DataSettings, rng: np.random.Generator) -> Tensor:
    """A labelled scan as another person, scanner and day might have shown it.

    Args:
        cube: (4, x, y, z) channels of :class:`.CubeCase` in [0, 1].
        other: whose lesions are planted beside its own; None: nobody's.
        settings: how far each variation goes.
        rng: of all that is drawn.
    """
    shape = (cube.shape[1], cube.shape[2], cube.shape[3])
    noise = Noise(int(rng.integers(2**31)), shape, cube.device)
    if other is not None:
        cube = planted(cube, other, rng)
    cube = _with_other_contrast(cube, 1 + rng.uniform(-CONTRAST_CHANGE, CONTRAST_CHANGE))
    if rng.random() < settings.turned_fraction:
        cube = _bent(cube, settings, noise, rng)
    if rng.random() < settings.thickened_fraction:
        cube = _thickened(cube, int(rng.integers(3)), int(rng.integers(*THICK)), rng)
    if rng.random() < 0.5:
        cube = cube.flip(1)
    images = varied_images(cube[:LESION], settings, noise, rng)
    return torch.cat([images, cube[LESION:IGNORED].clamp(0, 1), (cube[IGNORED:] >= 0.5).float()])


def varied_images(images: Tensor, settings: DataSettings, noise: Noise, rng: np.random.Generator) -> Tensor:
    """Bias, contrast and noise of both images, each of its own strength; the T1w is withheld now and then."""
    changed = []
    for image in images.split(1):
        if rng.random() < settings.bias_chance:
            image = image * torch.exp(settings.bias * rng.random() * noise.smooth(noise.shape[0] / 2.5).clamp(-1.5, 1.5))
            image = image / torch.quantile(image[:, ::2, ::2, ::2].flatten(), 0.999).clamp(min=1.0)
        if rng.random() < 0.5:
            image = image.clamp(min=0) ** float(np.exp(rng.uniform(-1, 1) * np.log(settings.gamma)))
        if rng.random() < 0.3:
            image = image + noise.white() * (settings.noise * rng.random() ** 2)
        changed.append(image.clamp(0, 1))
    if rng.random() < settings.t1_absent:
        changed[T1W] = torch.zeros_like(changed[T1W])
    return torch.cat(changed)


def planted(cube: Tensor, other: Tensor, rng: np.random.Generator) -> Tensor:
    """Lesions of another person where this one has white matter, as bright beside it as they were, with soft borders.

    White matter is taken to be what is as bright as what lies around the lesions on both images. CarveMix (Zhang et al. 2021)
    cuts hard; soft borders as in arXiv:2406.14826.
    """
    if rng.random() < 0.5:
        other = other.flip(1)
    shift = tuple(int(n) for n in rng.integers(-PLANTED_SHIFT, PLANTED_SHIFT + 1, 3))
    moved = other.roll(shift, (1, 2, 3))
    here, there = _around(cube), _around(moved)
    if here is None or there is None:
        return cube
    white = torch.ones_like(cube[:1], dtype=torch.bool)
    for channel in (FLAIR, T1W):
        if here[channel] > 0:
            relative = soften(cube[channel : channel + 1].clone()) / here[channel]
            white &= (relative > LIKE_WHITE[0]) & (relative < LIKE_WHITE[1])
    room = soften(white.float()) * (1 - cube[LESION:IGNORED]) * (cube[IGNORED:] < 0.5)
    share = moved[LESION:IGNORED] * (room > 0.5)
    images = []
    for channel in (FLAIR, T1W):
        image, source = cube[channel : channel + 1], moved[channel : channel + 1]
        known = here[channel] > 0 and there[channel] > 0
        images.append(image + soften(share.clone()) * (source * here[channel] / there[channel] - image) if known else image)
    lesion = torch.maximum(cube[LESION:IGNORED], share)
    return torch.cat([*images, lesion, cube[IGNORED:]]).clamp(0, 1)


def _around(cube: Tensor) -> list[float] | None:
    """Median of FLAIR and T1w around the lesions; None without any."""
    inside = cube[LESION:IGNORED] > 0.1
    ring = dilated(inside, 4) & ~dilated(inside, 1) & (cube[FLAIR : FLAIR + 1] > 0.1)
    if int(ring.sum()) < FEWEST_AROUND:
        return None
    return [float(cube[channel : channel + 1][ring].median()) for channel in (FLAIR, T1W)]


def _with_other_contrast(cube: Tensor, factor: float) -> Tensor:
    around = _around(cube)
    if around is None:
        return cube
    flair, lesion = cube[:1], cube[LESION:IGNORED]
    changed = flair + lesion * (factor - 1) * (flair - around[FLAIR])
    return torch.cat([changed.clamp(0, 1), cube[1:]])


def _bent(cube: Tensor, settings: DataSettings, noise: Noise, rng: np.random.Generator) -> Tensor:
    angles = rng.uniform(-settings.rotation, settings.rotation, 3)
    linear = turn((float(angles[0]), float(angles[1]), float(angles[2])))
    linear = linear * (1 + rng.uniform(-settings.scaling, settings.scaling, 3))
    middle = [(n - 1) / 2 for n in noise.shape]
    places = affine_places(linear, middle, noise.shape, cube.device)
    return sample(cube, places + WAVE_VOXELS * rng.random() * noise.smooth(WAVE_SPACING, 3))


def _thickened(cube: Tensor, axis: int, count: int, rng: np.random.Generator) -> Tensor:
    """Fewer, thicker slices along one axis; the mask is that of the thick slices."""
    counts = [n if a != axis else count for a, n in enumerate(cube.shape[1:])]
    coarse = to_slices(cube, (counts[0], counts[1], counts[2]))
    lesion = (coarse[LESION:IGNORED] >= 0.5).float()
    # A T1w is often the better resolved of the two.
    fine_t1 = rng.random() < 0.5
    shown = from_slices(torch.cat([coarse[:LESION], lesion, coarse[IGNORED:]]), tuple(cube.shape[1:]))
    return torch.cat([shown[:1], cube[1:2] if fine_t1 else shown[1:2], shown[LESION:]])
