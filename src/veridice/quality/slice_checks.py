"""Whether the slices of a FLAIR are all there, in order, alike in brightness and not wrapped around a border. No torch."""

from __future__ import annotations

from dataclasses import dataclass

import nibabel as nib
import numpy as np
from scipy import ndimage

from veridice.case import Notice
from veridice.imaging.foreground import evened, measured_box
from veridice.imaging.volume import Volume
from veridice.types import Array, Voxels

AXES = ("left to right", "back to front", "bottom to top")
SHOWN_EDGE = 48
"""Pixels of a slice, averaged, that are compared with those of another."""
LARGE = 2_000_000
"""Voxels from which on every second one within a slice is plenty."""
BRIGHT = 0.2
HEAD_SHARE = 0.15
"""Of the area that the largest slices show: a slice with more is one of the head."""
REPEATED = 0.2
"""Share of slices that equal the one before from which on they were repeated to a finer grid, not by mistake."""
DARK = 0.45
"""Brightness of a slice over that of brighter ones on both sides; at least 0.7 in 25 clean scans."""
GAP = 0.12
"""Share of the head that is dark from which on it is two heads, not a head without some slices."""
SAME = 0.05
"""Difference of two slices over that of others around; at least 0.65 in clean scans."""
UNEVEN, ONE_WAY = 0.08, 0.9
"""Logarithm of the brightness of every second slice over that of the others, and share of slices that have its sign: at most
0.03 and 0.78 in clean scans, 0.1 and 0.98 with every second slice at 0.9."""
WRAPPED, WRAPPED_AREA = 0.82, 0.05
"""Correlation of the first with the last slice of an image, and the area of the head in them, over the largest: at most 0.6 in
clinical scans whose head reaches both ends, 0.86 and more where it was moved around."""
ORDER_GAIN = 0.15
"""Usual differences of neighbours that turning a run of slices around would save; 0.00 in each of 45 clean images."""
MISFIT = 1.4
"""Mean difference of a slice from its two neighbours over that between these: at most 1.07 in clean scans."""
LONGEST_RUN = 24
FEWEST = 8
"""Slices below which nothing is said."""


@dataclass(frozen=True)
class SliceNumbers:
    """What is measured along one axis; see the constants of this module."""

    darkest: float
    gap: float
    likest: float
    uneven: float
    one_way: float
    ends: float
    continued: float
    gain: float
    misfit: float
    where: dict[str, int]


def slice_doubts(flair: Volume) -> list[Notice]:
    """What is wrong with the slices, of each kind along the axis that shows it best.

    Args:
        flair: in its own grid.
    """
    found: dict[str, Notice] = {}
    for axis, planes in enumerate(_planes(flair)):
        if len(planes) < FEWEST:
            continue
        for notice in _axis_doubts(AXES[axis], measure_slices(planes)):
            found[notice.code] = notice
    if "wrapped" in found:
        return [found["wrapped"]]
    return list(found.values())


def _axis_doubts(axis: str, seen: SliceNumbers) -> list[Notice]:
    if seen.continued >= WRAPPED and seen.ends >= WRAPPED_AREA:
        text = f"the head is wrapped around the border of the image ({axis}: the last slice goes on in the first)"
        return [Notice("wrapped", text)]
    if seen.uneven >= UNEVEN and seen.one_way >= ONE_WAY:
        share = 1 - np.exp(-seen.uneven)
        text = f"every second slice is darker than the others, by {share:.0%} ({axis}): interleaving or cross-talk"
        return [Notice("uneven_slices", text)]
    if seen.darkest < DARK:
        if seen.gap > GAP:
            return [Notice("slice_order", f"the slices are in the wrong order ({axis}): the head is shown more than once")]
        place = seen.where["dark"] + 1
        text = f"slices within the head are black or much too dark ({axis}, number {place}): lost, or in the wrong order"
        return [Notice("black_slices", text)]
    said = []
    if seen.likest < SAME:
        text = f"two neighbouring slices are the same ({axis}, number {seen.where['same'] + 1} and the next)"
        said.append(Notice("doubled_slices", text))
    if seen.gain > ORDER_GAIN or seen.misfit > MISFIT:
        text = f"slices are in the wrong order ({axis}, around number {seen.where['order'] + 1})"
        said.append(Notice("slice_order", text))
    return said


def _planes(flair: Volume) -> list[Array]:
    """Small slices along each anatomical axis, (slices, pixels, pixels), in [0, 1], without the constant ones at the ends."""
    even = evened(flair.voxels)
    inner = even[tuple(slice(start, stop) for start, stop in measured_box(even))]
    low, high = np.percentile(inner[::2, ::2, ::2], (1, 99.5))
    canonical = nib.orientations.apply_orientation(inner, nib.orientations.io_orientation(flair.affine))
    step = 2 if inner.size > LARGE else 1
    found = []
    for axis in range(3):
        planes = _small(np.moveaxis(canonical, axis, 0)[:, ::step, ::step])
        found.append(_once(((planes - low) / max(high - low, 1e-6)).clip(0, 1)))
    return found


def _small(planes: Voxels) -> Array:
    for axis in (1, 2):
        length = planes.shape[axis]
        edge = max(1, -(-length // SHOWN_EDGE))
        count = length // edge
        planes = planes.take(np.arange(count * edge), axis)
        shape = (*planes.shape[:axis], count, edge, *planes.shape[axis + 1 :])
        planes = planes.reshape(shape).mean(axis=axis + 1, dtype=np.float32)
    return planes


def _once(planes: Array) -> Array:
    """Slices without their repetitions, where these are many."""
    step = np.abs(np.diff(planes, axis=0)).mean(axis=(1, 2))
    same = (step < SAME * np.percentile(step, 90)) & (planes[1:].mean(axis=(1, 2)) > 0.02)
    return planes[np.concatenate([[True], ~same])] if same.mean() > REPEATED else planes


def measure_slices(planes: Array) -> SliceNumbers:
    """Numbers of one axis from small slices (slices, pixels, pixels) in [0, 1]."""
    area = (planes > BRIGHT).mean(axis=(1, 2))
    largest = max(float(np.percentile(area, 98)), 1e-6)
    head = area > HEAD_SHARE * largest
    places = np.flatnonzero(head)
    first, last = (int(places[0]), int(places[-1])) if places.size else (0, len(planes) - 1)
    level = planes.mean(axis=(1, 2))
    sides = np.minimum(np.maximum.accumulate(level), np.maximum.accumulate(level[::-1])[::-1])
    valley = (level / np.maximum(sides, 1e-6))[first : last + 1]
    step = np.abs(np.diff(planes, axis=0)).mean(axis=(1, 2))
    around = ndimage.median_filter(step, 7, mode="nearest")
    likeness = np.where(head[:-1] & head[1:], step / np.maximum(around, 1e-6), np.inf)
    uneven, one_way = _alternation(planes, head)
    gain, where = _order_gain(planes, step, head)
    misfits = np.where(head[:-2] & head[1:-1] & head[2:], _misfits(planes, step), 0)
    if gain <= ORDER_GAIN:
        where = int(misfits.argmax()) + 1
    flat = planes[0].std() == 0 or planes[-1].std() == 0
    return SliceNumbers(
        darkest=float(valley.min()),
        gap=float((valley < DARK).mean()),
        likest=float(likeness.min()),
        uneven=uneven,
        one_way=one_way,
        ends=float(min(area[0], area[-1]) / largest),
        continued=0.0 if flat else float(np.corrcoef(planes[0].ravel(), planes[-1].ravel())[0, 1]),
        gain=gain,
        misfit=float(misfits.max()),
        where={"dark": first + int(valley.argmin()), "same": int(likeness.argmin()), "order": where},
    )


def _misfits(planes: Array, step: Array) -> Array:
    beyond = np.abs(planes[2:] - planes[:-2]).mean(axis=(1, 2))
    return np.asarray((step[:-1] + step[1:]) / 2 / np.maximum(beyond, 0.1 * np.median(step)))


def _alternation(planes: Array, head: Array) -> tuple[float, float]:
    """Median logarithm of how much each slice is brighter than its neighbours, with a sign that alternates; and how many have
    the sign of most."""
    ratios = []
    for place in range(1, len(planes) - 1):
        before, here, behind = planes[place - 1 : place + 2]
        both = (before > BRIGHT) & (behind > BRIGHT)
        if head[place - 1 : place + 2].all() and np.count_nonzero(both) >= 20:
            ratio = np.log(np.maximum(here[both], 1e-3) / np.sqrt(before * behind)[both])
            ratios.append((-1) ** place * float(np.median(ratio)))
    if len(ratios) < FEWEST // 2:
        return 0.0, 0.0
    signs = np.array(ratios) > 0
    return abs(float(np.median(ratios))), float(max(signs.mean(), 1 - signs.mean()))


def _order_gain(planes: Array, step: Array, head: Array) -> tuple[float, int]:
    """Most that turning around a run of the head's slices shortens the way through all of them, in usual steps; and where.

    The exchange of two edges with which Croes (1958) mends a tour of cities.
    """
    inside = head[:-1] & head[1:]
    usual = float(np.median(step[inside])) if inside.any() else 1.0
    best, where = 0.0, 0
    far = {lag: np.abs(planes[lag:] - planes[:-lag]).mean(axis=(1, 2)) for lag in range(1, min(LONGEST_RUN + 1, len(planes)))}
    for lag in range(1, min(LONGEST_RUN, len(planes) - 2)):
        # Runs first..first + lag of slices that have a neighbour on either side.
        first = np.arange(1, len(planes) - lag - 1)
        whole = head[first - 1] & head[first] & head[first + lag] & head[first + lag + 1]
        if not whole.any():
            continue
        now = step[first - 1] + step[first + lag]
        turned = far[lag + 1][first - 1] + far[lag + 1][first] if lag + 1 in far else np.full(first.size, np.inf)
        gains = np.where(whole, now - turned, -np.inf) / max(usual, 1e-6)
        if gains.max() > best:
            best, where = float(gains.max()), int(first[gains.argmax()])
    return best, where
