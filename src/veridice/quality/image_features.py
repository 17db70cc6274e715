"""What can be measured on a FLAIR without knowing any lesion: how bright, how sharp, how noisy, how whole it is. No torch."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from veridice.quality.image_checks import depth_correlations
from veridice.types import Array, Mask, Voxels

DESCRIPTORS = {
    "brain_volume": "volume of the brain",
    "head_share": "amount of head around the brain",
    "median": "brightness of the brain",
    "spread": "contrast within the brain",
    "dark": "brightness of its darkest parts (cerebrospinal fluid is dark on a FLAIR)",
    "bright": "brightness of its brightest parts",
    "skewness": "share of bright over dark tissue",
    "saturated": "share of the brain at the highest intensity",
    "noise": "noise",
    "air": "signal outside the head (motion, ghosts)",
    "ghosts": "unevenness of the signal outside the head (ghosts)",
    "depth": "how tissue brightens towards the middle of the head",
    "inside": "how the brain brightens inwards (white matter is brighter than grey on a T1w, not on a FLAIR)",
    "symmetry": "likeness of left and right",
    "lopsided": "largest difference of left and right",
    "one_sided": "size of the largest region that is brighter than the other side (a stroke, a mass)",
    "bulk_bright": "brightness of the brightest large region (a mass, oedema)",
    "bulk_dark": "brightness of the darkest large region (a cavity, fluid)",
    "sharpness_x": "sharpness from left to right",
    "sharpness_y": "sharpness from back to front",
    "sharpness_z": "sharpness from bottom to top",
    "width": "width of the brain",
    "length": "length of the brain",
    "height": "height of the brain",
    "fullness": "roundness of the brain",
    "lean_y": "narrowing of the brain from back to front",
    "lean_z": "width of its bottom over that of its top",
    "cut_off": "share of the brain that the image's border cuts off",
}
"""What is measured on the FLAIR, in words."""
LATER = ("one_sided",)
"""What version 0.1.0 did not measure."""
FEWEST_VOXELS = 100
HALF_BLUR = 3.0
"""Deviation of the Gaussian for large regions, voxels of the halved cube: about 8 mm."""
SIDE_BLUR, SIDE_STEP = 1.5, 1.0
"""Deviation of the Gaussian for one-sided regions (voxels of the halved cube), and by how much these are brighter than the
other side (interquartile ranges of the brain)."""


def describe_scan(flair: Voxels, brain: Mask, spacing: tuple[float, float, float]) -> dict[str, float]:
    """Numbers of :data:`DESCRIPTORS` for a FLAIR (x, y, z; in [0, 1]) on the cube; NaN where there is no brain.

    Args:
        flair: on the cube, axes from left to right, back to front, bottom to top.
        brain: on the cube.
        spacing: of the cube's voxels, mm.
    """
    values = flair[brain]
    if values.size < FEWEST_VOXELS:
        return dict.fromkeys(DESCRIPTORS, np.nan)
    low, quarter, middle, three, high = (float(v) for v in np.percentile(values, [2, 25, 50, 75, 98]))
    spread, away = max(three - quarter, 1e-3), values - values.mean()
    return {
        "median": middle,
        "spread": float(np.log(spread)),
        "dark": (low - middle) / spread,
        "bright": (high - middle) / spread,
        "skewness": float((away * away * away).mean() / max(values.std(), 1e-3) ** 3),
        "saturated": float(np.log10((values >= 0.995).mean() + 1e-3)),
        "depth": depth_correlations([flair], np.where(brain, flair, 0))[0],
        **_texture(flair, brain, spread),
        **_surroundings(flair, brain, middle),
        **_regions(flair, brain, middle, spread),
        **_shape(brain, np.array(spacing)),
    }


def _texture(flair: Voxels, brain: Mask, spread: float) -> dict[str, float]:
    """Noise (Immerkaer 1996: what is left when planes are taken away) and mean slope along each axis."""
    inner = ndimage.binary_erosion(brain, iterations=2)
    inner = inner if inner.any() else brain
    slopes = [np.diff(flair, axis=axis) for axis in range(3)]
    found = {
        f"sharpness_{name}": float(np.log(np.abs(slope[np.delete(inner, -1, axis)]).mean() / spread + 1e-3))
        for name, slope, axis in zip("xyz", slopes, range(3), strict=True)
    }
    twice = np.diff(np.diff(slopes[0], axis=0), n=2, axis=1)[inner[1:-1, 1:-1]]
    return {**found, "noise": float(np.log(np.median(np.abs(twice)) / 4 / spread + 1e-3)) if twice.size else 0.0}


def _surroundings(flair: Voxels, brain: Mask, middle: float) -> dict[str, float]:
    """What is around the brain: head and, outside it, air; zeros where there is none."""
    small = flair[::2, ::2, ::2]
    head = (small > 0.05) | brain[::2, ::2, ::2]
    outside = ~ndimage.binary_dilation(ndimage.binary_opening(head), iterations=1)
    air = small[outside] / max(middle, 1e-3)
    blurred = ndimage.gaussian_filter(small, 1.5)[outside] / max(middle, 1e-3)
    return {
        "head_share": float(np.count_nonzero((flair > 0.05) & ~brain) / np.count_nonzero(brain)),
        "air": float(air.mean()) if air.size else 0.0,
        "ghosts": float(blurred.std()) if air.size else 0.0,
    }


def _regions(flair: Voxels, brain: Mask, middle: float, spread: float) -> dict[str, float]:
    """Large regions against the median and against the other side, in interquartile ranges."""
    small, inside = flair[::2, ::2, ::2], brain[::2, ::2, ::2]
    scaled = (np.where(inside, small, middle) - middle) / spread
    smooth = _blurred(scaled, inside, HALF_BLUR)
    depth = ndimage.distance_transform_edt(inside)
    tissue = inside & (small > np.percentile(small[inside], 30))
    varied = tissue.any() and small[tissue].std() > 0 and depth[tissue].std() > 0
    places = np.argwhere(inside)
    start, stop = places.min(axis=0), places.max(axis=0) + 1
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    both = inside[box] & inside[box][::-1]
    left, right = smooth[box][both], smooth[box][::-1][both]
    finer = _blurred(scaled, inside, SIDE_BLUR)[box]
    brighter, _ = ndimage.label(both & (finer - finer[::-1] > SIDE_STEP))
    told = np.count_nonzero(both) >= FEWEST_VOXELS and left.std() > 0
    return {
        "inside": float(np.corrcoef(small[tissue], depth[tissue])[0, 1]) if varied else 0.0,
        "symmetry": float(np.corrcoef(left, right)[0, 1]) if told else 0.0,
        "lopsided": float(np.percentile(np.abs(left - right), 99)) if told else 0.0,
        "one_sided": float(np.log1p(np.bincount(brighter.ravel())[1:].max(initial=0))),
        "bulk_bright": float(smooth[depth > 2].max()) if (depth > 2).any() else 0.0,
        "bulk_dark": float(smooth[depth > 2].min()) if (depth > 2).any() else 0.0,
    }


def _blurred(values: Voxels, inside: Mask, deviation: float) -> Array:
    """Gaussian mean over the voxels inside alone; 0 outside."""
    weight = ndimage.gaussian_filter(inside.astype(np.float32), deviation)
    return np.where(inside, ndimage.gaussian_filter(values, deviation) / np.maximum(weight, 0.2), 0)


def _shape(brain: Mask, spacing: Array) -> dict[str, float]:
    """Size, proportions, which end is which, and how much of it touches the image's border."""
    profiles = [brain.sum(axis=tuple(a for a in range(3) if a != axis)).astype(float) for axis in range(3)]
    ends = [(int(np.flatnonzero(p)[0]), int(np.flatnonzero(p)[-1]) + 1) for p in profiles]
    sides = np.array([stop - start for start, stop in ends])
    _, along_y, along_z = (p[start:stop] for p, (start, stop) in zip(profiles, ends, strict=True))
    fifth = max(1, len(along_z) // 5)
    width, length, height = np.log(sides * spacing)
    voxels = float(along_z.sum())
    return {
        "brain_volume": float(np.log(voxels * spacing.prod() / 1000)),
        "width": float(width),
        "length": float(length),
        "height": float(height),
        "fullness": float(voxels / sides.prod()),
        "lean_y": _skewness(along_y),
        "lean_z": float(np.log(along_z[:fifth].sum() / along_z[-fifth:].sum())),
        "cut_off": float(max(max(p[0], p[-1]) / p.max() for p in profiles)),
    }


def _skewness(profile: Array) -> float:
    """Of the places along an axis on which this much lies."""
    away = np.arange(profile.size) - np.average(np.arange(profile.size), weights=profile)
    deviation = np.sqrt(np.average(away**2, weights=profile))
    return float(np.average(away**3, weights=profile) / deviation**3) if deviation > 0 else 0.0
