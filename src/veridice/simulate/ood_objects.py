"""What may be in an image where a head with small lesions was expected: masses, holes, a CT's densities, other objects."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from veridice.imaging.foreground import foreground_mask
from veridice.simulate.fields import smooth_field
from veridice.types import Array, Mask, Voxels

Parameters = dict[str, float]
"""Drawn numbers of one odd scan, JSON-ready."""


SCALP_MM = 13.0
"""About how deep the brain lies under the skin."""


def head_mask(voxels: Voxels) -> Mask:
    """Head or stripped brain, holes filled (x, y, z)."""
    return np.asarray(ndimage.binary_fill_holes(ndimage.binary_closing(foreground_mask(voxels), iterations=2)))


def levels(voxels: Voxels, inside: Mask) -> tuple[float, float, float]:
    """Dark, middle and bright intensity (2nd, 50th, 98th percentile) of what lies inside."""
    low, middle, high = np.percentile(voxels[inside], [2, 50, 98])
    return float(low), float(middle), float(high)


def _depth_mm(inside: Mask, spacing: Array) -> Voxels:
    """Distance to the outside, mm; measured on voxels of about 4 mm."""
    step = np.maximum(1, np.round(4 / spacing)).astype(int)
    coarse = ndimage.distance_transform_edt(np.pad(inside[:: step[0], :: step[1], :: step[2]], 1), sampling=spacing * step)
    fine = coarse[1:-1, 1:-1, 1:-1].repeat(step[0], 0).repeat(step[1], 1).repeat(step[2], 2)
    return np.asarray(fine[: inside.shape[0], : inside.shape[1], : inside.shape[2]], np.float32)


def _distance_to(place: Array, shape: tuple[int, ...], spacing: Array, stretch: Array) -> Voxels:
    """Distance of every voxel to a place (voxels), mm, along axes that are stretched."""
    sides = [(np.arange(n) - p) * s / t for n, p, s, t in zip(shape, place, spacing, stretch, strict=True)]
    squares = [side**2 for side in sides]
    summed = squares[0][:, None, None] + squares[1][None, :, None] + squares[2][None, None, :]
    return np.sqrt(summed).astype(np.float32)


def _lump(inside: Mask, spacing: Array, parameters: Parameters, rng: np.random.Generator) -> tuple[Voxels, Voxels]:
    """Signed distance to an uneven ellipsoid (mm, negative within it) somewhere deep inside; and the depth there."""
    depth = _depth_mm(inside, spacing)
    places = np.flatnonzero(depth >= parameters["depth"] * depth.max())
    place = np.array(np.unravel_index(places[rng.integers(len(places))], inside.shape))
    distance = _distance_to(place, inside.shape, spacing, rng.uniform(0.85, 1.15, 3))
    uneven = smooth_field(inside.shape, max(2.0, 12 / float(spacing.min())), rng)
    return distance - np.float32(parameters["radius_mm"]) * (1 + 0.15 * uneven), depth


def with_mass(voxels: Voxels, spacing: Array, parameters: Parameters, rng: np.random.Generator) -> Voxels:
    """A mass of ``radius_mm`` with a dark, uneven core and bright oedema around it (FLAIR)."""
    inside = head_mask(voxels)
    _, middle, high = levels(voxels, inside)
    edge, _ = _lump(inside, spacing, parameters, rng)
    texture = smooth_field(voxels.shape, max(2.0, 5 / float(spacing.min())), rng)
    rim = middle * parameters["rim"] * (1 + 0.12 * texture)
    core = middle * parameters["core"] * (1 + 0.25 * texture)
    mass = np.where(edge < -parameters["rim_mm"], core, rim)
    oedema = middle * parameters["oedema"] * (1 + 0.05 * texture)
    width = parameters["oedema_mm"]
    share = np.clip(1 - edge / width, 0, 1) ** 0.5 * (edge >= 0)
    changed = np.where(edge < 0, mass, voxels * (1 - share) + oedema * share)
    kept = inside & (voxels > voxels.min())
    return np.where(kept, np.clip(changed, voxels.min(), max(2 * high, high + 1)), voxels).astype(np.float32)


def with_cavity(voxels: Voxels, spacing: Array, parameters: Parameters, rng: np.random.Generator) -> Voxels:
    """A hole of ``radius_mm`` full of dark fluid with a thin bright border: an old large infarct, a resection."""
    inside = head_mask(voxels)
    low, middle, _ = levels(voxels, inside)
    edge, _ = _lump(inside, spacing, parameters, rng)
    fluid = low + parameters["fluid"] * (middle - low)
    border = (edge >= 0) & (edge < parameters["border_mm"])
    changed = np.where(edge < 0, fluid, np.where(border, 1.25 * middle, voxels))
    return np.where(inside & (voxels > voxels.min()), changed, voxels).astype(np.float32)


def _brain_like(voxels: Voxels, inside: Mask, spacing: Array) -> tuple[Mask, Voxels]:
    """About where the brain is, and its depth (mm): all of a stripped scan, what lies under scalp and skull of a whole head."""
    depth = _depth_mm(inside, spacing)
    stripped = float((voxels == voxels.min()).mean()) > 0.3
    under = np.float32(0 if stripped else SCALP_MM)
    return inside & (depth > under), depth - under


def with_infarct(voxels: Voxels, spacing: Array, parameters: Parameters, rng: np.random.Generator) -> Voxels:
    """A bright wedge whose base is a patch of cortex, as a blocked artery leaves it; a whole territory where it is wide.

    Grey and white matter brighten alike, fluid stays dark.
    """
    inside = head_mask(voxels)
    brain, depth = _brain_like(voxels, inside, spacing)
    places = np.argwhere(brain)
    centre = places.mean(axis=0)
    shallow = np.argwhere(brain & (depth < 6))
    surface = shallow[rng.integers(len(shallow))]
    inwards = (centre - surface) * spacing
    inwards = inwards / max(float(np.linalg.norm(inwards)), 1e-6)
    apex = surface + inwards * parameters["length_mm"] / spacing
    distance = _distance_to(apex, voxels.shape, spacing, np.ones(3))
    sides = [(np.arange(n) - p) * s * -d for n, p, s, d in zip(voxels.shape, apex, spacing, inwards, strict=True)]
    outwards = (sides[0][:, None, None] + sides[1][None, :, None] + sides[2][None, None, :]).astype(np.float32)
    angle = np.arccos(np.clip(outwards / np.maximum(distance, 1e-3), -1, 1))
    uneven = smooth_field(voxels.shape, max(2.0, 10 / float(spacing.min())), rng)
    edge = (angle - np.radians(parameters["half_angle"]) * (1 + 0.15 * uneven)) * np.maximum(distance, 4)
    edge = np.maximum(edge, distance - 1.3 * parameters["length_mm"])
    return _brightened(voxels, brain & (edge < 3), edge, parameters["brightness"], levels(voxels, brain), rng, spacing)


def with_oedema(voxels: Voxels, spacing: Array, parameters: Parameters, rng: np.random.Generator) -> Voxels:
    """Swollen white matter of one side, which reaches between the gyri like fingers and spares the cortex."""
    inside = head_mask(voxels)
    brain, depth = _brain_like(voxels, inside, spacing)
    edge, _ = _lump(inside, spacing, parameters, rng)
    fingers = 5 * smooth_field(voxels.shape, max(2.0, 7 / float(spacing.min())), rng)
    edge = np.maximum(edge + fingers, 6 + 0.5 * fingers - depth)
    return _brightened(voxels, brain & (edge < 3), edge, parameters["brightness"], levels(voxels, brain), rng, spacing)


def with_rings(voxels: Voxels, spacing: Array, parameters: Parameters, rng: np.random.Generator) -> Voxels:
    """Some round masses with a bright ring, a dark middle and oedema around: metastases, abscesses."""
    for _ in range(int(parameters["count"])):
        one = {**parameters, "radius_mm": parameters["radius_mm"] * float(rng.uniform(0.6, 1.4))}
        voxels = with_mass(voxels, spacing, one, rng)
    return voxels


def _brightened(
    voxels: Voxels,
    where: Mask,
    edge: Voxels,
    brightness: float,
    ends: tuple[float, float, float],
    rng: np.random.Generator,
    spacing: Array,
) -> Voxels:
    """Tissue within a border (``edge`` in mm, negative inside) at so many times the middle intensity; fluid stays dark."""
    low, middle, high = ends
    share = where * np.clip(0.5 - edge / 3, 0, 1) * np.clip((voxels - low) / max(middle - low, 1e-6), 0, 1)
    texture = smooth_field(voxels.shape, max(2.0, 6 / float(spacing.min())), rng)
    bright = middle * brightness * (1 + 0.06 * texture)
    changed = voxels * (1 - share) + bright * share
    return np.clip(changed, voxels.min(), max(2 * high, high + 1)).astype(np.float32)


def as_ct(voxels: Voxels, spacing: Array, parameters: Parameters, rng: np.random.Generator) -> Voxels:
    """Hounsfield units: bright bone around a brain with almost no contrast, air at -1000; or a brain window of them."""
    inside = head_mask(voxels)
    low, middle, high = levels(voxels, inside)
    # Around a stripped brain the bone is added; in a whole head it lies under the skin.
    stripped = float((voxels == voxels.min()).mean()) > 0.3
    outer = ndimage.binary_dilation(inside, iterations=max(2, round(6 / float(np.median(spacing))))) if stripped else inside
    depth = _depth_mm(outer, spacing)
    bone = outer & (depth > (0 if stripped else 5)) & (depth < parameters["bone_mm"] + (0 if stripped else 5))
    tissue = 33 + parameters["contrast"] * np.clip((voxels - middle) / (high - low), -1, 1)
    units = np.where(inside, tissue, np.where(outer, 20.0, -1000.0))
    units = np.where(bone, 900.0 + 200 * smooth_field(voxels.shape, 6.0, rng), units)
    units = units + rng.normal(0, parameters["noise"], voxels.shape)
    return np.clip(units, *((0, 80) if parameters["window"] else (-1024, 3071))).astype(np.float32)


def _relative(shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Places of the voxels along each axis, -1 to 1, to be combined by broadcasting."""
    x, y, z = (np.linspace(-1, 1, n, dtype=np.float32) for n in shape)
    return x[:, None, None], y[None, :, None], z[None, None, :]


def a_knee(shape: tuple[int, int, int], parameters: Parameters, rng: np.random.Generator) -> Voxels:
    """Two bright bones with a gap, muscle and fat around them."""
    x, y, z = _relative(shape)
    across = np.sqrt((x / parameters["width"]) ** 2 + (y / parameters["width"]) ** 2)
    limb = (across < 0.95) & (np.abs(z) < 2)
    bone = (across < 0.5 + 0.12 * np.cos(4 * z)) & (np.abs(z) > 0.06)
    fat = limb & (across > 0.8)
    tissue = np.where(bone, 0.75, np.where(fat, 0.95, np.where(limb, 0.35, 0.0)))
    return _finished(tissue, 0.05, rng)


def an_abdomen(shape: tuple[int, int, int], parameters: Parameters, rng: np.random.Generator) -> Voxels:
    """A wide body with a rim of fat, and some organs of different brightness in it."""
    x, y, z = _relative(shape)
    body = np.sqrt(x**2 + (y / (0.75 * parameters["width"])) ** 2) + 0 * z
    tissue = np.where(body < 0.95, np.where(body > 0.82, 0.95, 0.3), 0.0)
    for _ in range(7):
        place, size = rng.uniform(-0.5, 0.5, 3), rng.uniform(0.12, 0.4, 3)
        organ = sum(((side - p) / s) ** 2 for side, p, s in zip((x, y, z), place, size, strict=True)) < 1
        tissue = np.where(organ & (body < 0.8), rng.uniform(0.15, 0.85), tissue)
    return _finished(tissue, 0.06, rng)


def a_phantom(shape: tuple[int, int, int], parameters: Parameters, rng: np.random.Generator) -> Voxels:
    """An even ball or cylinder of water, with or without rods, as scanners are tested with."""
    x, y, z = _relative(shape)
    ball = parameters["ball"] > 0.5
    vessel = (x**2 + y**2 + (z**2 if ball else 0 * z)) < 0.8
    tissue = np.where(vessel, 0.7, 0.0)
    if parameters["rods"] > 0.5:
        tissue = np.where(vessel & (np.sin(9 * x) ** 2 + np.sin(9 * y) ** 2 < 0.25), 0.1, tissue)
    return _finished(tissue, 0.0, rng)


def _finished(tissue: Array, texture: float, rng: np.random.Generator) -> Voxels:
    shape = tissue.shape
    image = ndimage.gaussian_filter(tissue.astype(np.float32), 0.7)
    image *= 1 + np.float32(texture) * smooth_field(shape, 6.0, rng) + 0.15 * smooth_field(shape, max(shape) / 2, rng)
    noise = rng.normal(0, 0.02, (2, *shape)).astype(np.float32)
    return np.asarray(1000 * np.hypot(image + noise[0], noise[1]), np.float32)
