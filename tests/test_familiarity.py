"""Scans that are unlike the known ones are told."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from veridice.familiarity import DESCRIPTORS, Familiarity, describe_scan, fit_familiarity

EDGE = 40
PLACE = np.stack(np.meshgrid(*[np.linspace(-1, 1, EDGE)] * 3, indexing="ij"))
BRAIN = (PLACE**2).sum(axis=0) < 0.6


def flair(seed: int) -> np.ndarray:
    """Grey on the outside, a little darker white inside, dark ventricles, some noise."""
    rng = np.random.default_rng(seed)
    radius = np.sqrt((PLACE**2).sum(axis=0))
    tissue = np.where(radius > 0.55, 0.55, 0.45) * rng.uniform(0.95, 1.05)
    image = np.where(BRAIN, np.where(radius < 0.15 * rng.uniform(0.8, 1.2), 0.1, tissue), 0)
    return np.clip(ndimage.gaussian_filter(image, 0.7) + rng.normal(0, 0.02, image.shape) * BRAIN, 0, 1)


def features(seed: int, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, 20)


@pytest.fixture(scope="module")
def known() -> Familiarity:
    scans = [describe_scan(flair(seed), BRAIN, 0.03) for seed in range(80)]
    return fit_familiarity(scans, [features(seed) for seed in range(80)], [f"p{seed // 2}" for seed in range(80)])


def odd_scans() -> dict[str, np.ndarray]:
    usual = flair(500)
    blob = ((PLACE - np.array([0.35, 0.1, 0.1])[:, None, None, None]) ** 2).sum(axis=0) < 0.08
    return {
        "T1w": np.where(BRAIN, 0.9 - usual, 0),
        "tumour": np.where(blob & BRAIN, 1.0, usual),
        "noise": np.clip(usual + np.random.default_rng(0).normal(0, 0.25, usual.shape), 0, 1),
        "ghosts": np.clip(usual + 0.4 * np.roll(usual, EDGE // 2, axis=1), 0, 1),
        "blurred": ndimage.gaussian_filter(usual, 3),
    }


def test_known_scans_are_familiar(known: Familiarity) -> None:
    distances = np.array([known.distance(describe_scan(flair(s), BRAIN, 0.03), features(s)) for s in range(200, 260)])
    assert (distances > known.limit).mean() < 0.15


@pytest.mark.parametrize("name", odd_scans())
def test_odd_scans_are_not(known: Familiarity, name: str) -> None:
    described = describe_scan(odd_scans()[name], BRAIN, 0.03)
    assert known.distance(described, features(300)) > known.limit
    assert known.oddities(described)
    assert set(known.oddities(described)) <= set(DESCRIPTORS.values())


def test_features_alone_can_tell(known: Familiarity) -> None:
    usual = describe_scan(flair(501), BRAIN, 0.03)
    assert known.distance(usual, features(301)) < known.distance(usual, features(301, shift=4.0))
    assert known.distance(usual, features(301, shift=4.0)) > known.limit
    assert known.oddities(usual) == []


def test_no_brain_is_unfamiliar(known: Familiarity) -> None:
    described = describe_scan(flair(1), np.zeros_like(BRAIN), 0.03)
    assert known.distance(described, features(1)) == np.inf
    assert len(known.oddities(described)) == 3


def test_stored_and_back(known: Familiarity) -> None:
    again = Familiarity.from_arrays(known.arrays())
    described = describe_scan(flair(7), BRAIN, 0.03)
    assert again.distance(described, features(7)) == pytest.approx(known.distance(described, features(7)), rel=1e-3)
    assert again.limit == pytest.approx(known.limit)
    with pytest.raises(KeyError):
        Familiarity.from_arrays({})
