"""What is head or brain and what is air, however much air there is around it and whatever single voxels say."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from veridice.errors import InputError
from veridice.imaging.components import bounding_box, largest_component
from veridice.imaging.volume import Volume
from veridice.types import Mask, Voxels

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

LOW_SHARE, HIGH_SHARE = 0.1, 99.9
"""Percentiles between which the ordinary intensities of an image lie."""
OUTLYING = 4.0
"""Widths of that range beyond which a voxel is no tissue: the brightest of 29 clinical scans lay at 2.4."""
FEW_OUTLIERS = 1000
"""More of them are no single voxels; they are clipped, not replaced."""
FINE_SAMPLE = 2_000_000
"""Voxels from which on every second one along each axis is plenty for a percentile."""
CONSTANT_BACKGROUND = 0.1
"""Share of an image (its constant border planes taken off) that lies amid a constant background from which on it has one, be
it skull-stripped or masked by the scanner: 0.33 to 0.52 in seven such scans, at most 0.013 in 21 with noise for air."""
THICK_RATIO = 2.5
"""A voxel that is so much longer than wide has neighbours within its slice alone."""
AIR_SHARE = 0.83
"""What Otsu's method takes for the share of air, whatever it is: with the real one the threshold would follow the padding."""
EASE = 0.95
"""Part of that threshold from which on a voxel is head. With both, the boxes of 17 of 21 whole heads are exactly those that
Otsu's method finds in the whole images, and the others within two voxels."""
BINS = 256
ROUNDS = 6
"""Times that the box and the threshold in it are looked for; two to four were needed."""


def evened(voxels: Voxels) -> Voxels:
    """An image (x y z) without what no scanner measured: the same array where there is nothing of that kind.

    Single voxels far outside the range of all others become the median of their neighbourhood, and constant planes at the
    border (padding, of zeros or of anything else) get the level of the background that they surround.
    """
    calm = _without_outliers(voxels)
    inner = measured_box(calm)
    if all(side == (0, length) for side, length in zip(inner, calm.shape, strict=True)):
        return calm
    region = tuple(slice(start, stop) for start, stop in inner)
    if calm[region].min() == calm[region].max():  # a box of one intensity: the planes around it are all the background there is
        return calm
    level = float(np.percentile(_sample(calm[region]), LOW_SHARE))
    padding = np.ones(calm.shape, bool)
    padding[region] = False
    if (calm[padding] == level).all():
        return calm
    return np.where(padding, calm.dtype.type(level), calm)


def even_image(image: Volume) -> Volume:
    """The same of an image with its place."""
    return image.with_voxels(evened(image.voxels))


def foreground_mask(voxels: Voxels) -> Mask:
    """Head or brain against background, as the largest connected part (x y z, boolean).

    A skull-stripped scan has a constant background; otherwise the background is noise and Otsu's threshold parts it. The
    threshold is that of the box around the head, and air weighs the same in it however much of it there is.

    Raises:
        InputError: no foreground can be told from the background.
    """
    return foreground_and_room(voxels)[0]


def foreground_and_room(voxels: Voxels, given: Mask | None = None) -> tuple[Mask, Box]:
    """The same (or the mask that is given), and where it may have a margin: in air and in a constant background, but not in
    the padding of noisy air.
    """
    even = evened(voxels)
    room = measured_box(even)
    # One plane more, for a head that fills its box.
    region = tuple(slice(max(0, start - 1), stop + 1) for start, stop in room)
    inner = even[region]
    # The one value of the background; none where it is noise.
    low = float(np.percentile(inner, 1))
    level = low if _within(inner <= low).mean() >= CONSTANT_BACKGROUND else None
    if level is not None:
        room = ((0, voxels.shape[0]), (0, voxels.shape[1]), (0, voxels.shape[2]))
    if given is not None:
        return given, room
    bright = np.zeros(even.shape, bool)
    if inner.min() < inner.max():
        bright[region] = _brighter(inner) if level is None else inner > level
    if not bright.any():
        raise InputError("the image is constant or empty: no brain can be told from the background")
    return (bright if level is None else largest_component(bright)), room


def box_around(mask: Mask) -> Box:
    """Start and stop of what is set, along each axis; the mask is not empty."""
    x, y, z = ((side.start, side.stop) for side in bounding_box(mask))
    return x, y, z


def _without_outliers(voxels: Voxels) -> Voxels:
    low, high = (float(end) for end in np.percentile(_sample(voxels), (LOW_SHARE, HIGH_SHARE)))
    if not high > low:
        return voxels
    least, most = low - OUTLYING * (high - low), low + OUTLYING * (high - low)
    if voxels.min() >= least and voxels.max() <= most:
        return voxels
    places = np.argwhere((voxels < least) | (voxels > most))
    calm = voxels.clip(least, most)
    if len(places) > FEW_OUTLIERS:
        return calm
    for place in places:
        around = voxels[tuple(slice(max(0, at - 1), at + 2) for at in place)]
        calm[tuple(place)] = np.median(around).clip(least, most)
    return calm


def _sample(voxels: Voxels) -> Voxels:
    return voxels[::2, ::2, ::2] if voxels.size > FINE_SAMPLE else voxels


def measured_box(voxels: Voxels) -> Box:
    """What is left when constant planes are taken off at the borders."""
    sides = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        varied = np.flatnonzero(voxels.min(axis=others) < voxels.max(axis=others))
        sides.append((int(varied[0]), int(varied[-1]) + 1) if varied.size else (0, voxels.shape[axis]))
    return sides[0], sides[1], sides[2]


def _within(flat: Mask) -> Mask:
    """Voxels of a mask whose neighbours belong to it too; of thick slices, those in the slice."""
    longest = max(flat.shape)
    size = [3 if length * THICK_RATIO > longest else 1 for length in flat.shape]
    return np.asarray(ndimage.minimum_filter(flat, size, mode="nearest"))


def _brighter(voxels: Voxels) -> Mask:
    low, high = np.percentile(voxels, (LOW_SHARE, HIGH_SHARE))
    threshold = _otsu(voxels, float(low), float(high), None)
    box: Box | None = None
    mask = largest_component(voxels > threshold)
    for _ in range(ROUNDS):
        if not mask.any():
            break
        found = box_around(mask)
        inside = voxels[tuple(slice(start, stop) for start, stop in found)]
        low, high = np.percentile(inside, (LOW_SHARE, HIGH_SHARE))
        if not high > low:
            break
        better = threshold
        for _ in range(3):
            better = _otsu(inside, float(low), float(high), better)
        better = float(low) + EASE * (better - float(low))
        if found == box and abs(better - threshold) < (high - low) / BINS:
            break
        box, threshold = found, better
        mask = largest_component(voxels > threshold)
    return mask


def _otsu(voxels: Voxels, low: float, high: float, air_below: float | None) -> float:
    """Otsu's threshold (1979) of what lies between two intensities.

    Args:
        voxels: any shape.
        low, high: what lies beyond counts as them.
        air_below: what is not brighter is weighed to be :data:`AIR_SHARE` of everything; None leaves all as it is.
    """
    if not high > low:
        return low
    counts, edges = np.histogram(voxels.clip(low, high), BINS, (low, high))
    weights, middles = counts.astype(np.float64), (edges[1:] + edges[:-1]) / 2
    if air_below is not None:
        air = edges[1:] <= air_below
        weights[air] *= AIR_SHARE / (1 - AIR_SHARE) * weights[~air].sum() / max(weights[air].sum(), 1.0)
    below, sums = np.cumsum(weights), np.cumsum(weights * middles)
    above = below[-1] - below
    told = (below > 0) & (above > 0)
    if not told.any():
        return low
    apart = (sums[-1] - sums[told]) / above[told] - sums[told] / below[told]
    between = below[told] * above[told] * apart**2
    return float(edges[1:][told][int(between.argmax())])
