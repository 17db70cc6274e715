"""Lesions of a simulated patient: those of real donors, bent into this brain, and grown ones, up to the planned load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from veridice.simulate.anatomy import Head
from veridice.simulate.donors import donors_by_name, load_lesions
from veridice.simulate.fields import smooth_field
from veridice.simulate.plan import LesionPlan
from veridice.types import Voxels

ML = 1000.0
"""Voxels of the canvas in a millilitre."""
SMALLEST_ML = 0.01
RIM_REACH_MM = 3.0
LARGEST_FOOT_ML = 0.06
"""Of a thin part on a ventricle's wall that belongs to a lesion from further off."""
OVERSHOOT = 1.25
"""A candidate may carry the load this far beyond its aim; larger ones are passed over."""


@dataclass(frozen=True)
class Candidate:
    """Soft lesion map of a small box of the canvas."""

    start: tuple[int, int, int]
    share: Voxels

    @property
    def box(self) -> tuple[slice, ...]:
        return tuple(slice(s, s + n) for s, n in zip(self.start, self.share.shape, strict=True))


def make_lesions(head: Head, plan: LesionPlan) -> Voxels:
    """Soft lesion map (x, y, z) on the canvas; its half-way surface is the true border.

    Candidates (donors' lesions, grown ones, haloes of the ventricles) are taken in random order until the load is
    reached, without the thin rims that they leave; where it is not, the halo is widened until it is.
    """
    lesion = np.zeros(head.shape, np.float32)
    if plan.load_ml <= 0:
        return lesion
    rng = np.random.default_rng(plan.seed)
    # Lesions may be in white matter and, partly, in deep grey matter; sharp towards the ventricles.
    deep = np.clip((head.depth - 12) / 10, 0, 1)
    room = (np.clip(1.6 * head.white + 0.35 * deep * head.grey, 0, 1) * (head.ventricles < 0.5)).astype(np.float32)
    aim = plan.load_ml * ML
    candidates = [*_donated(head, plan, rng), *_grown(head, room, plan, rng)]
    waiting = [candidates[number] for number in rng.permutation(len(candidates))]
    while waiting and (lesion >= 0.5).sum() < aim:
        waiting = _take(lesion, waiting, room, aim)
        lesion = _without_thin_rims(head, lesion)
    if (lesion >= 0.5).sum() < 0.8 * aim:
        lesion = _widen_halo(head, room, lesion, aim, plan, rng)
    return _without_crumbs(lesion)


def _take(lesion: Voxels, candidates: list[Candidate], room: Voxels, aim: float) -> list[Candidate]:
    """Put candidates into the lesion map, in place, until the load is reached; return those not yet looked at."""
    volume = float((lesion >= 0.5).sum())
    for number, candidate in enumerate(candidates):
        merged = np.maximum(lesion[candidate.box], candidate.share * room[candidate.box])
        added = float((merged >= 0.5).sum() - (lesion[candidate.box] >= 0.5).sum())
        if added < SMALLEST_ML * ML or volume + added > aim * OVERSHOOT:
            continue
        lesion[candidate.box] = merged
        volume += added
        if volume >= aim:
            return candidates[number + 1 :]
    return []


def _without_thin_rims(head: Head, lesion: Voxels) -> Voxels:
    """Take away what lies along a ventricle and is thinner than three voxels: such rims are normal, see ``MimicPlan``.

    A lesion that comes from further off keeps its small foot on the wall, or it would end short of the ventricle.
    """
    near = head.ventricle_distance <= RIM_REACH_MM
    # All of this happens beside the ventricles; the canvas is ten times as large.
    box = tuple(slice(max(0, s.start - 4), s.stop + 4) for s in ndimage.find_objects(near.astype(np.uint8))[0])
    inside, near = lesion[box] >= 0.5, near[box]
    thick = ndimage.binary_dilation(ndimage.binary_opening(inside), iterations=2)
    rims, number = ndimage.label(inside & near & ~thick)
    rest = inside & ~(rims > 0)
    size = np.bincount(rims.ravel(), minlength=number + 1)
    touching = np.bincount(rims[ndimage.binary_dilation(rest & ~near)], minlength=number + 1) > 0
    foot = touching & (size <= LARGEST_FOOT_ML * ML)
    foot[0] = False
    kept = lesion.copy()
    kept[box][near & ~thick & ~foot[rims]] = 0
    return kept


def _without_crumbs(lesion: Voxels) -> Voxels:
    """Take away lesions below the smallest volume, such as tissue borders and cuts leave, with their soft borders."""
    labels, _ = ndimage.label(lesion >= 0.5)
    small = (np.bincount(labels.ravel()) < SMALLEST_ML * ML)[labels]
    around_others = ndimage.binary_dilation((labels > 0) & ~small, iterations=3)
    lost = small | (ndimage.binary_dilation(small, iterations=3) & ~around_others)
    return np.where(lost, 0, lesion).astype(np.float32)


def _donated(head: Head, plan: LesionPlan, rng: np.random.Generator) -> Iterator[Candidate]:
    for name, mirrored in zip(plan.donors, plan.mirrored, strict=True):
        shift = rng.integers(-4, 5, 3)
        template = np.roll(load_lesions(donors_by_name()[name]), tuple(shift), axis=(0, 1, 2))
        soft = head.warp(template, mirrored)
        # Grown or shrunk by moving the level of the border.
        soft = np.clip(soft + rng.uniform(-0.25, 0.25), 0, 1) * (soft > 0.02)
        labels, _ = ndimage.label(soft >= 0.5)
        for box in ndimage.find_objects(labels):
            wide = tuple(slice(max(0, s.start - 2), s.stop + 2) for s in box)
            yield Candidate((wide[0].start, wide[1].start, wide[2].start), soft[wide])


def _grown(head: Head, room: Voxels, plan: LesionPlan, rng: np.random.Generator) -> Iterator[Candidate]:
    """Ellipsoids with an uneven surface where a prior puts them: beside the ventricles, deep, or below the cortex."""
    places = np.flatnonzero((room > 0.8).ravel())
    if not len(places):
        return
    near = head.ventricle_distance.ravel()[places]
    depth = head.depth.ravel()[places]
    # Brain stem and cerebellum have few lesions, but not none.
    height = places % head.shape[2] / head.shape[2]
    high = np.where(height > 0.42, 1.0, 0.08)
    priors = [
        high * prior for prior in (np.exp(-near / 5), np.exp(-(((near - 15) / 10) ** 2)), np.exp(-np.maximum(0, depth - 4) / 3))
    ]
    for _ in range(plan.grown):
        weight = priors[rng.choice(3, p=(0.5, 0.3, 0.2))]
        chosen = places[np.searchsorted(np.cumsum(weight), rng.random() * weight.sum()).clip(0, len(places) - 1)]
        centre = np.array(np.unravel_index(chosen, head.shape))
        yield _ellipsoid(centre, head.shape, plan.border_mm, rng)


def _ellipsoid(
    centre: np.ndarray[Any, Any], canvas: tuple[int, int, int], border: float, rng: np.random.Generator
) -> Candidate:
    volume = ML * min(6.0, max(0.015, np.exp(rng.normal(np.log(0.12), 1.2))))
    stretch = rng.uniform(0.6, 1.7, 3)
    radii = stretch * (volume / np.prod(stretch) / 4.19) ** (1 / 3)
    edge = int(np.ceil(radii.max() * 1.4)) + 3
    offset = np.stack(np.meshgrid(*[np.arange(-edge, edge + 1.0)] * 3, indexing="ij"))
    axes = np.linalg.qr(rng.standard_normal((3, 3)))[0].round(6)
    along = [sum(axes[i, j] * offset[j] for j in range(3)) / radii[i] for i in range(3)]
    radius = np.sqrt(along[0] ** 2 + along[1] ** 2 + along[2] ** 2)
    radius = radius * (1 + 0.2 * smooth_field(radius.shape, max(3.0, float(radii.min())), rng))
    share = np.clip((1 - radius) * radii.min() / (2 * border) + 0.5, 0, 1).astype(np.float32)
    first, last = np.maximum(0, edge - centre), np.minimum(2 * edge + 1, np.array(canvas) - centre + edge)
    x, y, z = (int(s) for s in centre - edge + first)
    return Candidate((x, y, z), share[tuple(slice(int(f), int(n)) for f, n in zip(first, last, strict=True))])


def _widen_halo(head: Head, room: Voxels, lesion: Voxels, aim: float, plan: LesionPlan, rng: np.random.Generator) -> Voxels:
    """Add a confluent halo of the ventricles, as wide as the load asks for (found by bisection)."""
    uneven = 1 + 0.45 * smooth_field(head.shape, 14.0, rng)
    low, high = 0.0, 30.0
    for _ in range(9):
        width = (low + high) / 2
        halo = room * np.clip((width * uneven - head.ventricle_distance) / (2 * plan.border_mm) + 0.5, 0, 1)
        merged = _without_thin_rims(head, np.maximum(lesion, halo * (head.ventricle_distance < 40)))
        low, high = (width, high) if float((merged >= 0.5).sum()) < aim else (low, width)
    return merged
