"""What the scanner makes of an ideal head: bias, slices, blur, Gibbs ringing, artefacts, noise, stored integers."""

from __future__ import annotations

from typing import Any

import nibabel as nib
import numpy as np
import torch
import torchio as tio
from scipy import fft

from veridice.imaging.grid import interpolate_axis
from veridice.imaging.volume import Geometry, Volume
from veridice.simulate.anatomy import turn
from veridice.simulate.fields import smooth_field
from veridice.simulate.scanners import AcquisitionPlan
from veridice.types import Voxels

LARGEST_STORED = 32000


def sample(canvas: Voxels, plan: AcquisitionPlan) -> Voxels:
    """Down-sample a canvas (1 mm): every slice is the mean of layers at most 1 mm apart, as a slice profile is."""
    # Slices first: thick ones leave least to do for the other axes.
    for axis in sorted(range(3), key=lambda a: a != plan.slice_axis):
        count, spacing = plan.matrix[axis], plan.voxel_spacing[axis]
        layers = max(1, int(np.ceil(spacing - 0.3)))
        places = (np.arange(count * layers) + 0.5) / layers - count / 2
        fine = interpolate_axis(canvas, places * spacing + (canvas.shape[axis] - 1) / 2, axis)
        canvas = fine if layers == 1 else _mean_of_layers(fine, layers, axis)
    return canvas


def stored(voxels: np.ndarray[Any, Any], plan: AcquisitionPlan) -> Volume:
    """The volume in the orientation in which it is stored.

    Its middle is the canvas's middle and the origin, its axes are the canvas's; tilted slices give an oblique affine.
    """
    affine = np.eye(4)
    affine[:3, :3] = turn(plan.tilt) * np.array(plan.voxel_spacing)
    middle = (np.array(plan.matrix) - 1) / 2
    affine[:3, 3] = [-sum(affine[i, j] * middle[j] for j in range(3)) for i in range(3)]
    image = nib.Nifti1Image(voxels, affine.round(6))
    order = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(image.affine), nib.orientations.axcodes2ornt(plan.orientation)
    )
    turned = image.as_reoriented(order)
    return Volume(np.asarray(turned.dataobj), Geometry(turned.shape, turned.affine))


def _mean_of_layers(fine: Voxels, layers: int, axis: int) -> Voxels:
    split = [*fine.shape[:axis], fine.shape[axis] // layers, layers, *fine.shape[axis + 1 :]]
    parts = np.moveaxis(fine.reshape(split), axis + 1, 0)
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return np.asarray(total / np.float32(layers))


def acquire(canvas: Voxels, plan: AcquisitionPlan, keep: Voxels | None) -> Volume:
    """Take an image of ``canvas`` (white matter 1) as planned.

    Args:
        canvas: (x, y, z) ideal image.
        plan: the acquisition.
        keep: (x, y, z) brain mask on the canvas; what lies outside becomes 0 after the scan (skull stripping).

    Returns:
        int16 volume in the scanner's grid.
    """
    rng = np.random.default_rng(plan.seed)
    field = smooth_field(canvas.shape, max(canvas.shape) / 2.5, rng)
    image = sample(canvas * np.exp(plan.bias * np.clip(field, -1.5, 1.5)), plan)
    if plan.gibbs:
        image = _truncate_k_space(image, plan)
    image = _disturb(image, plan, rng)
    real, imaginary = (rng.standard_normal(image.shape, dtype=np.float32) / np.float32(plan.snr) for _ in range(2))
    image = np.sqrt((image + real) ** 2 + imaginary**2)
    if keep is not None:
        image = image * (sample(keep, plan) >= 0.5)
    return stored(np.clip(np.round(image * plan.scale), 0, LARGEST_STORED).astype(np.int16), plan)


def _truncate_k_space(image: Voxels, plan: AcquisitionPlan) -> Voxels:
    axes = tuple(axis for axis in range(3) if axis != plan.slice_axis)
    spectrum = fft.fftn(image, axes=axes, workers=1)
    for axis in axes:
        outside = np.abs(fft.fftfreq(image.shape[axis])) > 0.5 * (1 - plan.gibbs)
        spectrum[tuple(outside if a == axis else slice(None) for a in range(3))] = 0
    return np.abs(fft.ifftn(spectrum, axes=axes, workers=1)).astype(np.float32)


def _disturb(image: Voxels, plan: AcquisitionPlan, rng: np.random.Generator) -> Voxels:
    """Motion, ghosts and spikes (TorchIO), with parameters drawn from the plan's seed."""
    transforms: list[tio.Transform] = []
    if plan.motion:
        degrees, shifts = (rng.uniform(-plan.motion, plan.motion, (2, 3)) for _ in range(2))
        times = np.sort(rng.uniform(0.1, 0.9, 2))
        transforms.append(tio.Motion(degrees, shifts, times, image_interpolation="linear"))
    if plan.ghosting:
        transforms.append(
            tio.Ghosting(num_ghosts=int(rng.integers(3, 9)), axis=int(rng.integers(2)), intensity=plan.ghosting, restore=0.02)
        )
    if plan.spike:
        place = rng.uniform(0.1, 0.4, (1, 3))
        transforms.append(tio.Spike(spikes_positions=place, intensity=plan.spike))
    tensor = torch.from_numpy(np.ascontiguousarray(image))[None]
    for transform in transforms:
        tensor = transform(tio.ScalarImage(tensor=tensor, affine=np.diag([*plan.voxel_spacing, 1.0]))).data
    return np.asarray(tensor[0].numpy(), dtype=np.float32)
