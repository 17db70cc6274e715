"""What a scanner and the way to the cube make of an ideal image that is on the cube already. Torch, any device.

The NumPy simulator takes the image in the scanner's grid, as a file has it; this is its short cut for training, where nobody
needs the file: voxels coarser than the cube's become means and are interpolated, finer ones only lower the noise.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from veridice.simulate.cube_fields import Noise, from_slices, sample, to_slices
from veridice.simulate.scanners import AcquisitionPlan
from veridice.types import Array

ENDS = (0.001, 0.999)
"""Quantiles of the image that become 0 and 1, as :mod:`veridice.imaging.intensity` has them."""
PHASE_AXIS = 2
"""Of (channels, x, y, z): from back to front."""


def slice_counts(plan: AcquisitionPlan, box_mm: Array) -> tuple[int, int, int]:
    """Voxels of the scanner across the box of the cube."""
    x, y, z = (max(4, round(float(length / step))) for length, step in zip(box_mm, plan.voxel_spacing, strict=True))
    return x, y, z


def truth_in(lesion: Tensor, counts: tuple[int, int, int]) -> Tensor:
    """The true mask in the scanner's grid, as shares of the cube's voxels."""
    if all(n >= s for n, s in zip(counts, lesion.shape[1:], strict=True)):
        return lesion
    return from_slices((to_slices(lesion, counts) >= 0.5).float(), tuple(lesion.shape[1:]))


def acquire_on_cube(
    image: Tensor,
    plan: AcquisitionPlan,
    counts: tuple[int, int, int],
    keep: Tensor | None,
    noise: Noise,
    rng: np.random.Generator,
) -> Tensor:
    """An image (1, x, y, z) as planned, in [0, 1].

    Args:
        image: white matter is 1.
        plan: bias, signal to noise, artefacts; its voxels come as ``counts``, see :func:`slice_counts`.
        counts: voxels of the scanner along each axis.
        keep: (1, x, y, z) brain; what lies outside becomes 0 (skull stripping); None keeps all.
        noise: fields of this patient.
        rng: of single numbers.
    """
    shape = tuple(image.shape[1:])
    if plan.bias:
        field = noise.smooth([n / 2.5 for n in shape]).clamp(-1.5, 1.5)
        image = image * torch.exp(plan.bias * field)
    image = to_slices(image, counts)
    image = _disturbed(image, plan, rng)
    finer = np.prod([min(1.0, s / n) for n, s in zip(counts, shape, strict=True)])
    image = _rician(image, float(np.sqrt(finer)) / plan.snr, noise)
    image = from_slices(image, shape)
    if keep is not None:
        image = image * keep
    return scaled(image)


def _rician(image: Tensor, deviation: float, noise: Noise) -> Tensor:
    real, imaginary = (
        torch.randn(image.shape, generator=noise.generator, device=image.device).mul_(deviation) for _ in range(2)
    )
    return torch.sqrt((image + real) ** 2 + imaginary**2)


def _disturbed(image: Tensor, plan: AcquisitionPlan, rng: np.random.Generator) -> Tensor:
    """Gibbs ringing, motion between parts of k-space, ghosts and a spike, each where the plan has it."""
    if not (plan.gibbs or plan.motion or plan.ghosting or plan.spike):
        return image
    axes = tuple(1 + axis for axis in range(3) if axis != plan.slice_axis)
    spectrum = torch.fft.fftn(image, dim=axes)
    if plan.motion and PHASE_AXIS in axes:
        moved = torch.fft.fftn(_moved(image, plan.motion, rng), dim=axes)
        lines = torch.fft.fftfreq(image.shape[PHASE_AXIS], device=image.device)
        late = (lines > rng.uniform(-0.3, 0.3)).view(1, 1, -1, 1)
        spectrum = torch.where(late, moved, spectrum)
    for axis in axes:
        frequency = torch.fft.fftfreq(image.shape[axis], device=image.device).abs()
        shape = [-1 if a == axis else 1 for a in range(4)]
        if plan.gibbs:
            spectrum = spectrum * (frequency <= 0.5 * (1 - plan.gibbs)).view(shape)
        if plan.ghosting and axis == axes[-1]:
            every = int(rng.integers(2, 6))
            weak = torch.arange(image.shape[axis], device=image.device) % every == 0
            spectrum = spectrum * torch.where(weak & (frequency > 0.02), 1 - plan.ghosting, 1.0).view(shape)
    if plan.spike:
        place = tuple(int(rng.integers(n // 8, max(n // 8 + 1, n // 3))) for n in image.shape[1:])
        spectrum[(0, *place)] += plan.spike * spectrum.abs().max()
    return torch.fft.ifftn(spectrum, dim=axes).abs()


def _moved(image: Tensor, most: float, rng: np.random.Generator) -> Tensor:
    """Turned about z by up to so many degrees and shifted by up to as many voxels."""
    angle, shift = np.deg2rad(rng.uniform(-most, most)), rng.uniform(-most, most, 2) / 2
    x, y, z = (torch.arange(n, device=image.device, dtype=torch.float32) for n in image.shape[1:])
    cx, cy = (image.shape[1] - 1) / 2, (image.shape[2] - 1) / 2
    px, py = x[:, None] - cx, y[None] - cy
    turned = torch.stack([np.cos(angle) * px - np.sin(angle) * py + cx, np.sin(angle) * px + np.cos(angle) * py + cy])
    turned = turned + torch.tensor(shift, device=image.device, dtype=torch.float32).view(2, 1, 1)
    flat = turned[..., None].expand(-1, -1, -1, len(z))
    return sample(image, torch.cat([flat, z.expand(1, *flat.shape[1:])]))


def scaled(image: Tensor) -> Tensor:
    """Linear, so that :data:`ENDS` become 0 and 1; clipped."""
    low, high = torch.quantile(image[:, ::2, ::2, ::2].flatten(), torch.tensor(ENDS, device=image.device))
    return ((image - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
