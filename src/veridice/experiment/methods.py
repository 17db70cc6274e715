"""Methods that need more than the maps of one scan: other networks, changed images, other people's scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import SimpleITK as sitk
import torch
from sklearn.base import clone
from sklearn.covariance import LedoitWolf
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import QuantileTransformer
from torch import Tensor, nn
from torch.nn import functional

from veridice.imaging.tissue_classes import labels_with_mask
from veridice.inference.passes import Backend, all_outputs, deterministic_pass
from veridice.inference.uncertainty import uncertainty_maps
from veridice.metrics.maps import PackedMasks, StochasticMaps
from veridice.metrics.overlap import dice
from veridice.metrics.scores import SCORES, error_map
from veridice.networks.image_generator import ImageGenerator
from veridice.networks.probabilistic_unet import ProbabilisticUnet, drawn
from veridice.quality.predictor import FEATURES, fit_predictor
from veridice.types import Array, Mask, Voxels

LARGEST_TURN = 0.1
"""Radians about each axis."""
LARGEST_STRETCH = 0.05
LARGEST_NOISE = 0.05
"""Standard deviation, image in [0, 1]."""
REGISTRATION_STEPS = 60
SAMPLED_VOXELS = 0.2
SMALLEST_DEVIATION = 1e-6
"""Of a feature: one that is the same in all cases tells nothing."""


def packed(probability: Voxels) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """The mask of a probability map, eight voxels a byte; those of several parts one after the other."""
    return np.packbits((probability >= 0.5).ravel())


def ensemble_masks(members: Sequence[nn.Module], images: Voxels, backend: Backend) -> PackedMasks:
    """One mask a member (members, bytes), without dropout (deep ensembles: Lakshminarayanan et al. 2017)."""
    return np.stack([packed(deterministic_pass(member, images, backend)) for member in members])


def augmented_masks(
    segmenter: nn.Module, images: Voxels, backend: Backend, count: int, seed: int, mirrored_fraction: float = 0.5
) -> PackedMasks:
    """Masks (count, bytes) of changed images, brought back (test-time augmentation: Wang et al. 2019, arXiv:1807.07356).

    Each is turned, stretched and noisy by its own random amount, and a part of them is mirrored; the change of place is
    inverted exactly up to interpolation.
    """
    masks = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        change, mirrored = _small_affine(rng), rng.random() < mirrored_fraction
        there = _resample(torch.from_numpy(np.ascontiguousarray(images, np.float32)), change)
        there = there.flip(1) if mirrored else there
        noise = rng.standard_normal(there.shape).astype(np.float32) * rng.uniform(0, LARGEST_NOISE)
        found = torch.from_numpy(deterministic_pass(segmenter, there.numpy() + noise, backend))
        parts = found.reshape(-1, *there.shape[1:])
        parts = parts.flip(1) if mirrored else parts
        masks.append(packed(_resample(parts, np.linalg.inv(change)).numpy()))
    return np.stack(masks)


def probabilistic_samples(
    network: ProbabilisticUnet, images: Voxels, backend: Backend, count: int, seed: int
) -> StochasticMaps:
    """Maps of ``count`` samples of a probabilistic U-net (Kohl et al. 2018), as of as many stochastic passes."""
    network.eval().to(backend.device)
    shown = torch.from_numpy(np.ascontiguousarray(images, np.float32))[None].to(backend.device)
    with torch.inference_mode():
        # Together they share the body; float32, since the codes are what it is about.
        features, codes = network.body(shown), network.prior(shown)
        generators = (torch.Generator().manual_seed(seed * 1_000_003 + number) for number in range(count))
        return uncertainty_maps(
            torch.sigmoid(network.finish(features, drawn(codes, generator))[0].squeeze(0)) for generator in generators
        )


def generated_error(network: ImageGenerator, images: Voxels, mask: Mask, backend: Backend) -> Voxels:
    """First contrast minus the image that ``network`` makes of tissue classes and mask (x, y, z)."""
    made = all_outputs(network, labels_with_mask(images, mask), backend)[0, 0]
    return error_map(images[0], made.cpu().numpy())


def _small_affine(rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float64]]:
    change = np.diag([*rng.uniform(1 - LARGEST_STRETCH, 1 + LARGEST_STRETCH, 3), 1.0])
    for first, second in ((0, 1), (0, 2), (1, 2)):
        angle = rng.uniform(-LARGEST_TURN, LARGEST_TURN)
        turn = np.eye(4)
        turn[[first, second], [first, second]] = np.cos(angle)
        turn[first, second], turn[second, first] = -np.sin(angle), np.sin(angle)
        change = turn @ change
    return change


def _resample(images: Tensor, change: np.ndarray[Any, np.dtype[np.float64]]) -> Tensor:
    """Images (channels, x, y, z) on a cube, moved about its middle."""
    theta = torch.from_numpy(change[None, :3].astype(np.float32))
    grid = functional.affine_grid(theta, [1, *images.shape], align_corners=False)
    return functional.grid_sample(images[None], grid, align_corners=False)[0]


def reverse_classification(
    flair: Voxels, segmentation: Voxels, references: Sequence[tuple[Voxels, Mask]], seed: int = 0
) -> float:
    """Best Dice that the segmentation reaches as an atlas of people whose truth is known (RCA; Valindria et al. 2017).

    Args:
        flair: of the judged scan, on the coarse cube (x, y, z), about 2 mm.
        segmentation: judged, the same grid, as shares.
        references: FLAIR and true mask of training cases on such cubes. The scan is registered to each (affine, mutual
            information), and its segmentation carried over.
        seed: of the registration's sampling.
    """
    moving, carried = sitk.GetImageFromArray(flair.astype(np.float32)), sitk.GetImageFromArray(segmentation.astype(np.float32))
    best = 0.0
    for reference, truth in references:
        fixed = sitk.GetImageFromArray(reference.astype(np.float32))
        placed = sitk.Resample(carried, fixed, _register(fixed, moving, seed), sitk.sitkLinear, 0.0)
        best = max(best, dice(sitk.GetArrayFromImage(placed) >= 0.5, truth).dice)
    return best


def retrieved(features: Array, known: Array, count: int) -> Array:
    """Places (count,) of the known cases whose features (known, values) are nearest to a case's, each in deviations of the
    known ones (retrieved references, as in ConfIC-RCA: Cosarinsky et al. 2025, arXiv:2503.04522); the nearest first.
    """
    scale = np.maximum(known.std(axis=0), SMALLEST_DEVIATION)
    return np.argsort((((known - features) / scale) ** 2).sum(axis=1), kind="stable")[:count]


def feature_distances(features: Array, known: Array) -> Array:
    """Mahalanobis distance of each case's features (cases, values) from those of the training cases (Lee et al. 2018,
    arXiv:1807.03888), with a shrunk covariance (Ledoit and Wolf 2004).
    """
    scale = np.maximum(known.std(axis=0), SMALLEST_DEVIATION)
    return np.sqrt(LedoitWolf().fit(known / scale).mahalanobis(features / scale))


def _register(fixed: sitk.Image, moving: sitk.Image, seed: int) -> sitk.Transform:
    start = sitk.CenteredTransformInitializer(
        fixed, moving, sitk.AffineTransform(3), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    registration = sitk.ImageRegistrationMethod()
    registration.SetMetricAsMattesMutualInformation(32)
    registration.SetMetricSamplingStrategy(registration.RANDOM)
    registration.SetMetricSamplingPercentage(SAMPLED_VOXELS, seed + 1)
    registration.SetInterpolator(sitk.sitkLinear)
    registration.SetOptimizerAsGradientDescent(1.0, REGISTRATION_STEPS, 1e-6, 10)
    registration.SetOptimizerScalesFromPhysicalShift()
    registration.SetShrinkFactorsPerLevel([2, 1])
    registration.SetSmoothingSigmasPerLevel([1, 0])
    registration.SetInitialTransform(start, inPlace=False)
    try:
        return registration.Execute(fixed, moving)
    except RuntimeError:  # nothing overlaps: the images themselves say that this reference does not fit
        return start


Numbers = Mapping[str, float]
SIMPLE = ("volume", "lesion_count", "mask_contrast", "mean_foreground_entropy", "entropy_sum")
"""What anybody can read off a mask and an uncertainty map."""
NOT_EVIDENCE = ("dice", "dice_native", "load_ml", "true_error_sum", "true_absolute_error_sum", "ensemble", "probabilistic_dice")
"""The truth and what needs it; and the ensemble, which is not there for cases that its members know."""
ONLY_SERVED = {name for name in FEATURES if name not in SCORES}
"""Evidence that ``check`` alone reads: the combination is of scores that others have named."""


def forest_on_simple_features(known: Sequence[Numbers], judged: Mapping[str, Numbers], seed: int) -> dict[str, float]:
    """Dice of each judged case from a few simple features by a random forest (Breiman 2001)."""
    model = make_pipeline(SimpleImputer(keep_empty_features=True), _forest(seed))
    return _fit_and_predict(model, known, judged, SIMPLE)


def combination(known: Sequence[Numbers], people: Sequence[str], judged: Mapping[str, Numbers], seed: int) -> dict[str, float]:
    """Dice of each judged case from all scores by whichever model does best in cross-validation on the known ones.

    The choice and the fit see training cases alone: validation and test stay out. ``people`` says whose each known one is.
    """
    names = sorted(set.intersection(*(set(numbers) for numbers in known)) - set(NOT_EVIDENCE) - ONLY_SERVED)
    spread = QuantileTransformer(n_quantiles=max(2, min(50, len(known) // 2)), output_distribution="normal")
    imputer = SimpleImputer(keep_empty_features=True)
    candidates = [
        make_pipeline(imputer, spread, RidgeCV(np.logspace(-2, 4, 13))),
        make_pipeline(imputer, _forest(seed)),
        make_pipeline(imputer, GradientBoostingRegressor(n_estimators=100, max_depth=2, subsample=0.7, random_state=seed)),
    ]
    features, dice = _table(known, names), np.array([numbers["dice"] for numbers in known])
    folds = list(GroupKFold(min(5, len(set(people))), shuffle=True, random_state=seed).split(features, groups=people))
    errors = [np.abs(cross_val_predict(clone(model), features, dice, cv=folds) - dice).mean() for model in candidates]
    return _fit_and_predict(candidates[int(np.argmin(errors))], known, judged, names)


def as_served(known: Sequence[Numbers], people: Sequence[str], judged: Mapping[str, Numbers], seed: int) -> dict[str, float]:
    """Dice of each judged case as ``check`` predicts it (:mod:`veridice.quality.predictor`), learnt from the known ones."""
    predictor = fit_predictor(pd.DataFrame(known).assign(person=list(people)), seed)
    predicted, _ = predictor.predict(list(judged.values()))
    return dict(zip(judged, predicted.tolist(), strict=True))


def _forest(seed: int) -> RandomForestRegressor:
    return RandomForestRegressor(n_estimators=300, min_samples_leaf=3, random_state=seed)


def _table(cases: Sequence[Numbers], names: Sequence[str]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([[numbers[name] for name in names] for numbers in cases], np.float64)


def _fit_and_predict(
    model: Any, known: Sequence[Numbers], judged: Mapping[str, Numbers], names: Sequence[str]
) -> dict[str, float]:
    model.fit(_table(known, names), [numbers["dice"] for numbers in known])
    predicted = model.predict(_table(list(judged.values()), names)).clip(0, 1)
    return dict(zip(judged, map(float, predicted), strict=True))
