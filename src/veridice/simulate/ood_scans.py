"""Scans that nobody should judge lesions on, made of good ones: from what the models learn what they do not know.

Outlier exposure (Hendrycks et al. 2019, arXiv:1812.04606) needs examples; TorchIO makes the artefacts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torchio as tio
from scipy import ndimage

from veridice.imaging.scan import Scan
from veridice.imaging.volume import Geometry, Volume
from veridice.simulate.ood_objects import (
    Parameters,
    a_knee,
    a_phantom,
    an_abdomen,
    as_ct,
    head_mask,
    levels,
    with_cavity,
    with_infarct,
    with_mass,
    with_oedema,
    with_rings,
)
from veridice.types import Array, Voxels

Rng = np.random.Generator


@dataclass(frozen=True)
class Corruption:
    """One kind of odd scan.

    Args:
        draw: numbers from a generator, JSON-ready.
        apply: the odd scan; the same numbers make the same.
        needs_t1: cannot be made without a T1w.
    """

    draw: Callable[[Rng], Parameters]
    apply: Callable[[Scan, Parameters], Scan]
    needs_t1: bool = False


def make_odd(kind: str, scan: Scan, rng: Rng) -> Scan:
    """An odd version of a known scan, without its given brain mask.

    Args:
        kind: one of :data:`CORRUPTIONS`; see :func:`possible`.
        scan: on one grid.
        rng: of the parameters.
    """
    corruption = CORRUPTIONS[kind]
    flair = scan.flair.with_voxels(scan.flair.voxels.astype(np.float32))
    return corruption.apply(Scan(flair, scan.t1), corruption.draw(rng))


def possible(scan: Scan) -> list[str]:
    """Kinds that can be made of this scan."""
    return [kind for kind, corruption in CORRUPTIONS.items() if scan.t1 is not None or not corruption.needs_t1]


def _uniform(**ranges: tuple[float, float]) -> Callable[[Rng], Parameters]:
    """Draws a number from each range, and a seed."""

    def draw(rng: Rng) -> Parameters:
        return {**{name: float(rng.uniform(*ends)) for name, ends in ranges.items()}, "seed": float(rng.integers(2**31))}

    return draw


def _of_seed(parameters: Parameters) -> Rng:
    return np.random.default_rng(int(parameters["seed"]))


def _flair(change: Callable[[Voxels, Array, Parameters, Rng], Voxels]) -> Callable[[Scan, Parameters], Scan]:
    """Changes the FLAIR's voxels alone, by chance as the drawn seed has it."""

    def apply(scan: Scan, parameters: Parameters) -> Scan:
        spacing = np.array(scan.flair.geometry.voxel_spacing)
        return replace(scan, flair=scan.flair.with_voxels(change(scan.flair.voxels, spacing, parameters, _of_seed(parameters))))

    return apply


def _object(make: Callable[[tuple[int, int, int], Parameters, Rng], Voxels]) -> Callable[[Scan, Parameters], Scan]:
    """Puts something else into the FLAIR's grid; there is no T1w of it."""

    def apply(scan: Scan, parameters: Parameters) -> Scan:
        return Scan(scan.flair.with_voxels(make(scan.flair.shape, parameters, _of_seed(parameters))))

    return apply


def _t1_as_flair(scan: Scan, _parameters: Parameters) -> Scan:
    assert scan.t1 is not None  # noqa: S101 (see `possible`)
    return Scan(scan.t1)


def _exchanged(scan: Scan, _parameters: Parameters) -> Scan:
    assert scan.t1 is not None  # noqa: S101 (see `possible`)
    return Scan(scan.t1, scan.flair)


def _background(voxels: Voxels) -> Array:
    """Padding of a stripped scan, which no scanner's noise reaches."""
    padding: Array = voxels == voxels.min()
    return padding if padding.mean() > 0.3 else np.zeros_like(padding)


def _inverted(voxels: Voxels, _spacing: Array, parameters: Parameters, _rng: Rng) -> Voxels:
    inside = head_mask(voxels)
    low, _, high = levels(voxels, inside)
    share = np.clip((voxels - low) / (high - low), 0, 1)
    return np.where(inside, low + (high - low) * (1.05 - share) ** parameters["gamma"], voxels).astype(np.float32)


def _noisy(voxels: Voxels, _spacing: Array, parameters: Parameters, rng: Rng) -> Voxels:
    middle = levels(voxels, head_mask(voxels))[1]
    real, imaginary = rng.normal(0, middle / parameters["snr"], (2, *voxels.shape))
    return np.where(_background(voxels), voxels, np.hypot(voxels + real, imaginary)).astype(np.float32)


MOVES = 6
"""Movements while the middle of k-space is read."""


def _moved(voxels: Voxels, spacing: Array, parameters: Parameters, rng: Rng) -> Voxels:
    signs = rng.choice([-1.0, 1.0], (2, MOVES, 3)) * rng.uniform(0.5, 1.0, (2, MOVES, 3))
    times = 0.2 + 0.6 * (np.arange(MOVES) + rng.uniform(size=MOVES)) / MOVES
    motion = tio.Motion(
        parameters["degrees"] * signs[0], parameters["shift_mm"] * signs[1], times, image_interpolation="linear"
    )
    return _by_torchio(voxels, spacing, motion)


def _ghosted(voxels: Voxels, spacing: Array, parameters: Parameters, _rng: Rng) -> Voxels:
    axis, count = int(parameters["axis"]), int(parameters["ghosts"])
    return _by_torchio(voxels, spacing, tio.Ghosting(count, axis=axis, intensity=parameters["intensity"], restore=0.0))


def _spiked(voxels: Voxels, spacing: Array, parameters: Parameters, rng: Rng) -> Voxels:
    return _by_torchio(voxels, spacing, tio.Spike(rng.uniform(0.35, 0.48, (2, 3)), parameters["intensity"]))


def _by_torchio(voxels: Voxels, spacing: Array, artefact: tio.Transform) -> Voxels:
    tensor = torch.from_numpy(np.array(voxels, np.float32))[None]
    image = tio.ScalarImage(tensor=tensor, affine=np.diag([*spacing, 1.0]))
    # A scanner stores magnitudes.
    return np.abs(np.asarray(artefact(image).data[0].numpy(), np.float32))


def _blurred(voxels: Voxels, spacing: Array, parameters: Parameters, _rng: Rng) -> Voxels:
    return np.asarray(ndimage.gaussian_filter(voxels, parameters["sigma_mm"] / spacing), np.float32)


def _saturated(voxels: Voxels, _spacing: Array, parameters: Parameters, _rng: Rng) -> Voxels:
    """Unsigned bytes of a scan that was not scaled before."""
    inside = head_mask(voxels)
    low = float(voxels.min())
    top = float(np.quantile(voxels[inside & (voxels > low)], parameters["quantile"]))
    return np.round(np.clip((voxels - low) / (top - low), 0, 1) * 255).astype(np.float32)


def _only_noise(voxels: Voxels, _spacing: Array, parameters: Parameters, rng: Rng) -> Voxels:
    noise = rng.normal(0, 100, (2, *voxels.shape))
    smooth = ndimage.gaussian_filter(noise, (0, *[parameters["smooth"]] * 3)) if parameters["smooth"] > 0.5 else noise
    return np.hypot(*smooth).astype(np.float32)


def _cut(scan: Scan, parameters: Parameters) -> Scan:
    """Ends the field of view within the head."""
    axis, upper = int(parameters["axis"]), parameters["side"] > 0.5
    inside = np.flatnonzero(head_mask(scan.flair.voxels).any(axis=tuple(a for a in range(3) if a != axis)))
    first, last = int(inside[0]), int(inside[-1]) + 1
    place = round(first + parameters["share"] * (last - first))
    kept = slice(0, place) if upper else slice(first + last - place, None)
    where = tuple(kept if a == axis else slice(None) for a in range(3))
    affine = scan.flair.affine.copy()
    affine[:3, 3] += affine[:3, axis] * (where[axis].start or 0)

    def part(image: Volume) -> Volume:
        voxels = np.ascontiguousarray(image.voxels[where])
        return Volume(voxels, Geometry(voxels.shape, affine))

    return Scan(part(scan.flair), part(scan.t1) if scan.t1 is not None else None)


TURNS = (
    ((0, 1), (1, 1), (2, -1)),
    ((0, 1), (1, -1), (2, -1)),
    ((0, 1), (2, 1), (1, -1)),
    ((0, 1), (2, -1), (1, 1)),
    ((1, 1), (0, -1), (2, 1)),
    ((2, 1), (1, 1), (0, -1)),
    ((1, 1), (2, 1), (0, 1)),
)
"""Where a header may wrongly say that right, front and top lie: axis and sign of each. Left for right cannot be seen."""


def _turned(scan: Scan, parameters: Parameters) -> Scan:
    """The voxels stay and the header says another orientation."""
    turn = np.zeros((4, 4))
    for row, (column, sign) in enumerate(TURNS[int(parameters["turn"])]):
        turn[row, column] = sign
    turn[3, 3] = 1

    def lied(image: Volume) -> Volume:
        return Volume(image.voxels, Geometry(image.shape, turn @ image.affine))

    return Scan(lied(scan.flair), lied(scan.t1) if scan.t1 is not None else None)


def _integers(**counts: tuple[int, int]) -> Callable[[Rng], Parameters]:
    """Draws a whole number from each range (its end left out)."""
    return lambda rng: {name: float(rng.integers(*ends)) for name, ends in counts.items()}


def _both(first: Callable[[Rng], Parameters], second: Callable[[Rng], Parameters]) -> Callable[[Rng], Parameters]:
    return lambda rng: {**first(rng), **second(rng)}


NOTHING = _integers()
MASS = _uniform(
    radius_mm=(15, 30), depth=(0.35, 0.8), rim=(1.2, 1.9), core=(0.2, 1.3), rim_mm=(3, 10), oedema=(1.3, 1.8), oedema_mm=(8, 22)
)
CAVITY = _uniform(radius_mm=(20, 35), depth=(0.3, 0.7), fluid=(0, 0.3), border_mm=(0, 4))
INFARCT = _uniform(length_mm=(25, 50), half_angle=(14, 28), brightness=(1.3, 2.0))
TERRITORY = _uniform(length_mm=(45, 75), half_angle=(26, 45), brightness=(1.25, 1.9))
OEDEMA = _uniform(radius_mm=(22, 40), depth=(0.4, 0.8), brightness=(1.25, 1.7))
RINGS = _both(
    _uniform(
        radius_mm=(6, 11),
        depth=(0.35, 0.8),
        rim=(1.3, 1.9),
        core=(0.3, 0.9),
        rim_mm=(2, 4),
        oedema=(1.25, 1.7),
        oedema_mm=(6, 16),
    ),
    _integers(count=(2, 6)),
)
CT = _both(_uniform(bone_mm=(5, 9), contrast=(4, 9), noise=(2, 6)), _integers(window=(0, 2)))
BODY = _uniform(width=(0.75, 1.0))
CORRUPTIONS: dict[str, Corruption] = {
    "T1w given as FLAIR": Corruption(NOTHING, _t1_as_flair, needs_t1=True),
    "FLAIR and T1w exchanged": Corruption(NOTHING, _exchanged, needs_t1=True),
    "inverted contrast": Corruption(_uniform(gamma=(0.7, 1.4)), _flair(_inverted)),
    "CT": Corruption(CT, _flair(as_ct)),
    "heavy noise": Corruption(_uniform(snr=(1.0, 2.5)), _flair(_noisy)),
    "heavy motion": Corruption(_uniform(degrees=(20, 40), shift_mm=(15, 30)), _flair(_moved)),
    "heavy ghosting": Corruption(
        _both(_uniform(intensity=(1.0, 2.0)), _integers(axis=(0, 2), ghosts=(3, 9))), _flair(_ghosted)
    ),
    "spikes": Corruption(_uniform(intensity=(1.0, 2.5)), _flair(_spiked)),
    "strong blur": Corruption(_uniform(sigma_mm=(4, 8)), _flair(_blurred)),
    "half the head": Corruption(_both(_uniform(share=(0.4, 0.6)), _integers(axis=(0, 3), side=(0, 2))), _cut),
    "wrong axes": Corruption(_integers(turn=(0, len(TURNS))), _turned),
    "large mass": Corruption(MASS, _flair(with_mass)),
    "large cavity": Corruption(CAVITY, _flair(with_cavity)),
    "infarct": Corruption(INFARCT, _flair(with_infarct)),
    "infarct of a territory": Corruption(TERRITORY, _flair(with_infarct)),
    "oedema": Corruption(OEDEMA, _flair(with_oedema)),
    "ring-shaped masses": Corruption(RINGS, _flair(with_rings)),
    "knee": Corruption(BODY, _object(a_knee)),
    "abdomen": Corruption(BODY, _object(an_abdomen)),
    "phantom": Corruption(_uniform(ball=(0, 1), rods=(0, 1)), _object(a_phantom)),
    "saturated": Corruption(_uniform(quantile=(0.25, 0.5)), _flair(_saturated)),
    "only noise": Corruption(_uniform(smooth=(0, 2)), _flair(_only_noise)),
}
"""Every kind by its name, which reports show."""
