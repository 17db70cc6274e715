"""Losses against formulas written out by hand and against a library."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.losses import SSIMLoss

from veridice.networks.losses import SegmentationLoss, SsimLoss, mean_difference, ssim_map


def images(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    first, second = torch.rand((2, 1, 1, 11, 13, 12), generator=generator)
    return first, 0.5 * first + 0.5 * second


def test_dice_loss_is_equation_1() -> None:
    logits, target = torch.randn(1, 1, 5, 6, 7), (torch.rand(1, 1, 5, 6, 7) > 0.7).float()
    p = torch.sigmoid(logits)
    expected = 1 - 2 * (p * target).sum() / (p.sum() + target.sum())
    assert SegmentationLoss()(logits, target).item() == pytest.approx(expected.item(), abs=1e-5)


def test_a_share_is_best_predicted_as_it_is() -> None:
    share = torch.tensor([0.3, 0.0, 0.7, 1.0]).reshape(1, 1, 4, 1, 1)
    as_it_is = SegmentationLoss()(torch.logit(share, eps=1e-6), share).item()
    assert as_it_is == pytest.approx(0, abs=1e-4)
    for other in (share.round(), share * 0.8, (share + 0.1).clamp(max=1)):
        assert SegmentationLoss()(torch.logit(other, eps=1e-6), share).item() > as_it_is + 0.02


def test_batch_dice_is_the_dice_of_the_patches_laid_side_by_side() -> None:
    logits, target = torch.randn(3, 1, 4, 4, 4), (torch.rand(3, 1, 4, 4, 4) > 0.7).float()
    target[1] = 0
    joined = [image.permute(1, 0, 2, 3, 4).reshape(1, 1, 12, 4, 4) for image in (logits, target)]
    assert SegmentationLoss(batch_dice=True)(logits, target).item() == pytest.approx(
        SegmentationLoss()(*joined).item(), abs=1e-5
    )


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


@pytest.mark.parametrize("cross_entropy", [0.0, 1.0])
def test_ignored_voxels_are_as_good_as_cut_off(cross_entropy: float) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 1, 6, 6, 6, generator=generator)
    target = (torch.rand(1, 1, 6, 6, 6, generator=generator) > 0.7).float()
    ignore = torch.zeros(1, 1, 6, 6, 6)
    ignore[..., :3] = 1
    loss = SegmentationLoss(cross_entropy)
    assert loss(logits, target, ignore).item() == pytest.approx(loss(logits[..., 3:], target[..., 3:]).item(), abs=1e-5)


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_cross_entropy_is_added_with_its_weight(weight: float) -> None:
    logits, target = torch.tensor([-2.0, 0.5, 3.0, 1.0]), torch.tensor([0.0, 1.0, 1.0, 0.0])
    p = 1 / (1 + np.exp(-logits.numpy().astype(np.float64)))
    y = target.numpy()
    overlap = 1 - 2 * (p * y).sum() / (p.sum() + y.sum())
    entropy = -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean()
    value = SegmentationLoss(weight)(logits.reshape(1, 1, 4, 1, 1), target.reshape(1, 1, 4, 1, 1))
    assert value.item() == pytest.approx(overlap + weight * entropy, abs=1e-5)


def test_only_cross_entropy_learns_where_there_is_no_lesion() -> None:
    gradients = []
    for weight in (0.0, 1.0):
        logits = torch.full((1, 1, 4, 4, 4), -20.0, requires_grad=True)
        SegmentationLoss(weight)(logits, torch.ones(1, 1, 4, 4, 4)).backward()
        assert logits.grad is not None
        gradients.append(float(logits.grad.abs().sum()))
    assert gradients[0] < 1e-6 < 0.5 < gradients[1]


@pytest.mark.parametrize("form", ["windowed", "printed"])
def test_ssim_map_equals_a_loop_over_windows(form: str) -> None:
    first, second = (image[..., :5, :6, :4] for image in images(3))
    found = ssim_map(first, second, form, window=3)[0, 0].numpy()  # type: ignore[arg-type]
    a, b = (image[0, 0].numpy().astype(np.float64) for image in (first, second))
    assert found.shape == (3, 4, 2)
    c1, c2 = (0.01, 0.03) if form == "printed" else (0.01**2, 0.03**2)
    for x, y, z in np.ndindex(3, 4, 2):
        u, v = a[x : x + 3, y : y + 3, z : z + 3], b[x : x + 3, y : y + 3, z : z + 3]
        covariance = np.cov(u.ravel(), v.ravel(), ddof=0)[0, 1]
        expected = (2 * u.mean() * v.mean() + c1) / (u.mean() ** 2 + v.mean() ** 2 + c1)
        expected *= (2 * covariance + c2) / (u.var() + v.var() + c2)
        if form == "printed":
            expected *= (covariance + c2 / 2) / (u.std() * v.std() + c2 / 2)
        assert found[x, y, z] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("form", ["windowed", "printed"])
@pytest.mark.parametrize("level", [0.0, 0.7, 1.0])
def test_constant_images_give_finite_gradients(form: str, level: float) -> None:
    flat = torch.full((1, 1, 9, 9, 9), level, requires_grad=True)
    loss = SsimLoss(form)  # type: ignore[arg-type]
    loss(flat, images()[0][..., :9, :9, :9]).backward()
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()
    assert flat.grad.abs().max() > 0


def test_the_hole_counts_once_more_where_windows_touch_it() -> None:
    image, rebuilt = torch.rand(1, 1, 14, 14, 14), torch.rand(1, 1, 14, 14, 14)
    hole = torch.zeros(1, 1, 14, 14, 14)
    hole[..., 9, 5, 4] = 1
    similarity = ssim_map(rebuilt, image)[0, 0]
    touching = [
        1 - float(similarity[x, y, z])
        for x, y, z in np.ndindex(8, 8, 8)
        if all(start <= place < start + 7 for start, place in zip((x, y, z), (9, 5, 4), strict=True))
    ]
    expected = 1 - float(similarity.mean()) + 2.0 * float(np.mean(touching))
    assert SsimLoss(hole_weight=2.0)(rebuilt, image, hole).item() == pytest.approx(expected, abs=1e-5)
    assert SsimLoss(hole_weight=2.0)(rebuilt, image, 0 * hole).item() == pytest.approx(1 - float(similarity.mean()), abs=1e-6)


def test_the_difference_counts_in_the_hole_alone() -> None:
    image, elsewhere = torch.rand(2, 2, 1, 9, 9, 9)
    hole = (torch.rand(2, 1, 9, 9, 9) < 0.1).float()
    assert mean_difference(torch.where(hole > 0, image - 0.1, elsewhere), image, hole).item() == pytest.approx(0.1, abs=1e-5)
