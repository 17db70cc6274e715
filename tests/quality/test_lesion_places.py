"""Where lesions lie, against looking at every voxel, and by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from veridice.assessment.models import load_models
from veridice.config import InferenceSettings
from veridice.imaging.grid import GridTransform
from veridice.imaging.tissue import Tissue
from veridice.imaging.volume import Geometry
from veridice.inference.passes import choose_backend
from veridice.inference.tissue_map import tissue_map
from veridice.metrics.catalogue import PLACE_NAMES
from veridice.networks.mc_unet import McUnet
from veridice.quality.lesion_places import LEAST_PART, PLACES, TOUCHES_MM, by_place, places_of

EDGE = 24


def layered() -> np.ndarray:
    """Ventricle in the middle, white matter, cortex, and a cerebellum below; 1.5 mm."""
    away = np.abs(np.arange(EDGE) - EDGE / 2 + 0.5)
    x, y, _ = np.meshgrid(away, away, away, indexing="ij")
    tissue = np.full((EDGE,) * 3, Tissue.WHITE, np.uint8)
    tissue[np.maximum(x, y) < 3] = Tissue.VENTRICLE
    tissue[np.maximum(x, y) > 10] = Tissue.CORTEX
    tissue[:, :, :4] = Tissue.CEREBELLUM
    return tissue


def transform(flip: bool = False) -> GridTransform:
    """From a grid twice as fine, turned over where asked."""
    affine = np.diag([-0.75 if flip else 0.75, 0.75, 0.75, 1.0])
    return GridTransform(Geometry((2 * EDGE,) * 3, affine), ((0, 2 * EDGE),) * 3, (EDGE,) * 3)


def lesion(labels: np.ndarray, number: int, *middle: int, half: int = 1) -> None:
    labels[tuple(slice(2 * n - half, 2 * n + half + 1) for n in middle)] = number


def test_by_hand() -> None:
    labels = np.zeros((2 * EDGE,) * 3, np.int16)
    lesion(labels, 1, 16, 12, 14)  # a voxel beside the ventricle
    lesion(labels, 2, 21, 12, 14)  # below the cortex
    lesion(labels, 3, 12, 18, 2)  # in the cerebellum
    lesion(labels, 4, 18, 12, 14)  # far from either
    lesion(labels, 5, 18, 12, 20, half=9)  # from the ventricle to the cortex
    wanted = ["periventricular", "juxtacortical", "infratentorial", "deep_white", "periventricular"]
    assert places_of(labels, 5, layered(), transform()) == wanted
    assert places_of(labels[::-1], 5, layered(), transform(flip=True)) == wanted
    assert places_of(labels * 0, 0, layered(), transform()) == []


def slow_places(labels: np.ndarray, count: int, tissue: np.ndarray) -> list[str]:
    where = {kind: np.argwhere(tissue == kind) * 1.5 for kind in (Tissue.VENTRICLE, Tissue.CORTEX)}
    found = []
    for number in range(1, count + 1):
        voxels = np.unique(np.argwhere(labels == number) // 2, axis=0)
        weights = [np.count_nonzero((np.argwhere(labels == number) // 2 == voxel).all(axis=1)) for voxel in voxels]
        near = {}
        for kind, places in where.items():
            reached = [np.sqrt(((places - 1.5 * voxel) ** 2).sum(axis=1)).min() <= TOUCHES_MM for voxel in voxels]
            near[kind] = np.average(reached, weights=weights)
        below = np.average([tissue[tuple(v)] in (Tissue.BRAINSTEM, Tissue.CEREBELLUM) for v in voxels], weights=weights)
        touches = {kind: share >= LEAST_PART for kind, share in near.items()}
        place = "juxtacortical" if touches[Tissue.CORTEX] else "deep_white"
        place = "periventricular" if touches[Tissue.VENTRICLE] else place
        found.append("infratentorial" if below > 0.5 else place)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_against_every_voxel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.zeros((2 * EDGE,) * 3, np.int16)
    for number in range(1, 9):
        lesion(labels, number, *(int(n) for n in rng.integers(3, EDGE - 3, 3)), half=int(rng.integers(1, 4)))
    count = int(labels.max())
    present = [number for number in range(1, count + 1) if (labels == number).any()]
    ours = places_of(labels, count, layered(), transform())
    slow = slow_places(np.select([labels == n for n in present], range(1, len(present) + 1)), len(present), layered())
    assert [ours[number - 1] for number in present] == slow


def test_counts_and_volumes() -> None:
    found = by_place(["deep_white", "deep_white", "infratentorial"], [0.5, 0.25, 1.0])
    assert found["deep_white"] == {"count": 2, "volume_ml": 0.75}
    assert found["periventricular"] == {"count": 0, "volume_ml": 0.0}
    assert tuple(found) == PLACES == tuple(PLACE_NAMES)


def test_the_map_is_the_likeliest_tissue_of_each_voxel() -> None:
    torch.manual_seed(0)
    network = McUnet(features=2, depth=3, classes=8).eval()
    images = np.random.default_rng(0).random((2, 16, 16, 16), dtype=np.float32)
    backend = choose_backend(InferenceSettings(device="cpu"))
    found = tissue_map(images, network, 16, backend)
    with torch.inference_mode():
        slow = network(torch.from_numpy(images)[None])[0].argmax(dim=0).numpy()
    assert np.mean(found == slow) > 0.98  # bf16 may decide a tie the other way
    assert tissue_map(images, network, 8, backend).shape == (16, 16, 16)


def test_weights_without_an_anatomy_judge_all_the_same(tiny_weights: Path) -> None:
    assert load_models(tiny_weights).anatomy is not None
    (tiny_weights / "anatomy.json").unlink()
    assert load_models(tiny_weights).anatomy is None
