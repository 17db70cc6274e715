"""Losses against formulas written out by hand and against a library."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.losses import SSIMLoss

from veridice.losses import SegmentationLoss, SsimLoss, ssim_map


def images(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.rand((2, 1, 1, 11, 13, 12), generator=generator)
    return first, 0.5 * first + 0.5 * second


def test_dice_loss_is_equation_1() -> None:
    logits, target = torch.randn(1, 1, 5, 6, 7), (torch.rand(1, 1, 5, 6, 7) > 0.7).float()
    p = torch.sigmoid(logits)
    expected = 1 - 2 * (p * target).sum() / (p.sum() + target.sum())
    assert SegmentationLoss()(logits, target).item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("cross_entropy", [0.0, 1.0])
def test_ignored_voxels_count_for_nothing(cross_entropy: float) -> None:
    loss = SegmentationLoss(cross_entropy)
    logits = torch.randn(1, 1, 6, 6, 6, requires_grad=True)
    target = (torch.rand(1, 1, 6, 6, 6) > 0.7).float()
    ignore = torch.zeros(1, 1, 6, 6, 6)
    ignore[..., :3] = 1
    other = torch.where(ignore.bool(), 1 - target, target)
    value = loss(logits, target, ignore)
    assert value.item() == pytest.approx(loss(logits, other, ignore).item())
    value.backward()
    assert logits.grad is not None
    assert logits.grad[..., :3].abs().max() == 0
    assert logits.grad[..., 3:].abs().max() > 0


def test_windowed_ssim_is_monais() -> None:
    first, second = images()
    library = SSIMLoss(spatial_dims=3, kernel_type="uniform", win_size=7)
    assert SsimLoss()(first, second).item() == pytest.approx(library(first, second).item(), abs=1e-5)


def test_printed_ssim_is_the_papers_text_to_the_letter() -> None:
    first, second = images()
    y, z = second.numpy().astype(np.float64), first.numpy().astype(np.float64)
    covariance = ((y - y.mean()) * (z - z.mean())).mean()
    c1, c2 = 0.01, 0.03
    luminance = (2 * y.mean() * z.mean() + c1) / (y.mean() ** 2 + z.mean() ** 2 + c1)
    contrast = (2 * covariance + c2) / (y.var() + z.var() + c2)
    structure = (covariance + c2 / 2) / (y.std() * z.std() + c2 / 2)
    expected = 1 - luminance * contrast * structure
    assert SsimLoss("printed", window=0)(first, second).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("form", ["windowed", "printed"])
@pytest.mark.parametrize("window", [0, 7])
def test_an_image_is_like_itself_and_gradients_are_finite(form: str, window: int) -> None:
    loss = SsimLoss(form, window)  # type: ignore[arg-type]
    first, second = images()
    assert loss(first, first).item() == pytest.approx(0, abs=1e-4)
    assert loss(first, second).item() > 0.01
    flat = torch.zeros(1, 1, 9, 9, 9, requires_grad=True)
    loss(flat, torch.zeros(1, 1, 9, 9, 9)).backward()
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()


def test_a_window_larger_than_the_image_is_cut() -> None:
    assert ssim_map(torch.rand(1, 1, 3, 9, 9), torch.rand(1, 1, 3, 9, 9)).shape == (1, 1, 1, 3, 3)


@pytest.mark.parametrize("delta", [0.1, 1.0])
def test_huber_loss_is_equation_9_with_hubers_own_constant(delta: float) -> None:
    true, predicted = torch.rand(50), 2 * torch.rand(50)
    expected = 0.0
    for y, z in zip(true.tolist(), predicted.tolist(), strict=True):
        difference = abs(y - z)
        expected += 0.5 * difference**2 if difference <= delta else delta * difference - 0.5 * delta**2
    assert torch.nn.HuberLoss(delta=delta)(predicted, true).item() == pytest.approx(expected / 50, abs=1e-6)
