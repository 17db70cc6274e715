"""The three losses of the paper: soft Dice (Eq. 1), SSIM (Eq. 5-8), Huber (Eq. 9, `torch.nn.HuberLoss`)."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from monai.losses import DiceLoss
from torch import Tensor, nn
from torch.nn import functional

SsimForm = Literal["windowed", "printed"]
IGNORED_LOGIT = -30.0


class SegmentationLoss(nn.Module):
    """Soft Dice loss ``1 - 2|y p| / (|y| + |p|)`` on logits (Eq. 1), optionally plus cross-entropy.

    Where the target is a share of a voxel, the product is replaced by ``(|y| + |p| - |y - p|) / 2``, which is the same for
    0 and 1 and best at ``p = y``, not at 0 or 1 (Wang, Popordanoska, Bertels, Lemmens, Blaschko 2023, arXiv:2303.16296).

    Args:
        cross_entropy: weight of a binary cross-entropy beside the Dice loss; 0 is the paper's loss. It gives a
            gradient where a patch holds no lesion at all, which Dice alone does not.
        batch_dice: one Dice over all patches of the batch in place of the mean of each patch's. False positives in
            patches without lesions then cost what they cost in a whole scan, not next to nothing.
    """

    def __init__(self, cross_entropy: float = 0.0, batch_dice: bool = False) -> None:
        super().__init__()
        self.dice = DiceLoss(sigmoid=True, smooth_nr=1e-5, smooth_dr=1e-5, batch=batch_dice, soft_label=True)
        self.cross_entropy = cross_entropy

    def forward(self, logits: Tensor, target: Tensor, ignore: Tensor | None = None) -> Tensor:
        """Scalar loss; logits and target (batch, parts, x, y, z). Voxels where ``ignore`` (batch, 1, x, y, z) is set count for
        nothing. The Dice loss is the mean of the parts'.
        """
        logits, target = logits.float(), target.float()
        valid = torch.ones_like(target) if ignore is None else (1.0 - ignore.float()).expand_as(target)
        # Probability 0 against target 0 adds to neither product nor sums of the Dice loss.
        value: Tensor = self.dice(logits.masked_fill(valid == 0, IGNORED_LOGIT), target * valid)
        if self.cross_entropy:
            voxelwise = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
            value = value + self.cross_entropy * (voxelwise * valid).sum() / valid.sum().clamp_min(1.0)
        return value


class SsimLoss(nn.Module):
    """``1 - mean(luminance * contrast * structure)`` over windows (paper, Eq. 5-8), images in [0, 1].

    ``windowed`` is the field's standard (Wang et al. 2004): squared constants, for which contrast times structure
    becomes ``(2 cov + c2) / (var + var + c2)``. ``printed`` follows the paper's text to the letter: constants not squared, the
    covariance in the contrast's numerator, c3 = c2 / 2. Windows are uniform cubes: separable, so that a 7-wide one
    costs a fraction of the dense 3D kernel in `monai.losses.SSIMLoss`, to which the result is equal (a test).

    Args:
        form: ``windowed`` or ``printed``.
        window: width of the cube in voxels; 0 takes the whole volume as one window.
        hole_weight: weight of the same loss over the windows that touch the hole alone; 0 is the paper's loss. Holes are
            about a hundredth of a volume, and what is there would hardly count.
    """

    def __init__(self, form: SsimForm = "windowed", window: int = 7, hole_weight: float = 0.0) -> None:
        super().__init__()
        self.form, self.window, self.hole_weight = form, window, hole_weight

    def forward(self, prediction: Tensor, target: Tensor, hole: Tensor | None = None) -> Tensor:
        """Scalar loss of two images and the hole that was cut out (all batch, 1, x, y, z; the hole is 0 or 1)."""
        similarity = ssim_map(prediction, target, self.form, self.window)
        value: Tensor = 1.0 - similarity.mean()
        if self.hole_weight and hole is not None and hole.any():
            value = value + self.hole_weight * (1.0 - similarity_at_hole(similarity, hole, self.window))
        return value


def similarity_at_hole(similarity: Tensor, hole: Tensor, window: int) -> Tensor:
    """Mean of a map from :func:`ssim_map` over those windows that touch the hole; NaN when there is none."""
    touched = functional.max_pool3d(hole, window, stride=1) if window else torch.ones_like(similarity)
    return (touched * similarity).sum() / touched.sum()


def mean_difference(prediction: Tensor, target: Tensor, hole: Tensor) -> Tensor:
    """Mean absolute difference of two images in the hole; NaN when there is none."""
    return (hole * (prediction.float() - target.float()).abs()).sum() / hole.sum()


def ssim_map(prediction: Tensor, target: Tensor, form: SsimForm = "windowed", window: int = 7) -> Tensor:
    """Local structural similarity of two images (batch, 1, x, y, z), one value a window position."""
    prediction, target = prediction.float(), target.float()
    average = partial(_window_means, window=window)
    mean_p, mean_t = average(prediction), average(target)
    variance_p = (average(prediction * prediction) - mean_p**2).clamp_min(0.0)
    variance_t = (average(target * target) - mean_t**2).clamp_min(0.0)
    covariance = average(prediction * target) - mean_p * mean_t
    c1, c2 = (0.01, 0.03) if form == "printed" else (0.01**2, 0.03**2)
    luminance = (2 * mean_p * mean_t + c1) / (mean_p**2 + mean_t**2 + c1)
    contrast = (2 * covariance + c2) / (variance_p + variance_t + c2)
    if form == "windowed":
        return luminance * contrast
    # The square root has an infinite slope at 0, where constant background would turn gradients into NaN.
    deviations = torch.sqrt(variance_p * variance_t + 1e-12)
    structure = (covariance + c2 / 2) / (deviations + c2 / 2)
    return luminance * contrast * structure


def _window_means(image: Tensor, window: int) -> Tensor:
    """Means over cubes, one axis after the other, of windows that lie wholly inside; 0: over the whole volume."""
    if not window:
        return functional.adaptive_avg_pool3d(image, 1)
    for axis in range(3):
        size = [1, 1, 1]
        size[axis] = min(window, image.shape[2 + axis])
        image = functional.avg_pool3d(image, (size[0], size[1], size[2]), stride=1)
    return image
