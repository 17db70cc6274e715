"""Training examples: cases are brought to the cube once, then varied without end, each example from its own seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import monai.transforms as mt
import numpy as np
import torch
import torchio as tio
from scipy import ndimage
from torch.utils.data import Dataset

from veridice.case import Case
from veridice.config import DataSettings
from veridice.errors import InputError
from veridice.intensity import SCALE, measure_range
from veridice.io.nifti import read_image, read_mask
from veridice.simulate import CSF, GREY, LESION, WHITE, insert_lesions, paint_scan
from veridice.spatial import fit_grid, scan_on_grid
from veridice.types import Mask, Voxels

Example = dict[str, torch.Tensor]


@dataclass(frozen=True)
class GridScan:
    """A real labelled scan on the cube, intensities in [0, 1]."""

    id: str
    flair: Voxels
    t1: Voxels
    lesion: Voxels
    ignored: Mask


@dataclass(frozen=True)
class GridAnatomy:
    """Soft tissue maps (3, x, y, z) of a person without lesions, and the person's own soft lesion map."""

    id: str
    tissues: Voxels
    lesion: Voxels


@dataclass(frozen=True)
class TrainingMaterial:
    """All that examples of one split are made of."""

    scans: tuple[GridScan, ...]
    anatomies: tuple[GridAnatomy, ...]
    lesions: tuple[Voxels, ...]


def prepare_material(cases: Sequence[Case], settings: DataSettings) -> TrainingMaterial:
    """Read the cases of one split and bring them to the cube.

    A scan with a brain mask is taken twice, as whole head and skull-stripped, since users have both.
    """
    scans: list[GridScan] = []
    anatomies: list[GridAnatomy] = []
    lesions: list[Voxels] = []
    for case in cases:
        if case.kind == "real":
            scans.append(_grid_scan(case, settings, stripped=False))
            if case.brain_mask is not None:
                scans.append(_grid_scan(case, settings, stripped=True))
        elif case.kind == "labels":
            anatomies.append(_grid_anatomy(case, settings))
        elif case.kind == "lesions":
            flair = read_image(_required(case, "flair"))
            transform = fit_grid(flair, (settings.grid,) * 3)
            mask = read_mask(_required(case, "mask"), flair.geometry)
            lesions.append(transform.to_grid(mask.voxels).astype(np.float16))
        else:
            raise InputError(f"case {case.id}: kind '{case.kind}' is unknown; use real, labels or lesions")
    if not scans and not anatomies:
        raise InputError("the manifest holds no scans and no label maps for this split")
    return TrainingMaterial(tuple(scans), tuple(anatomies), tuple(lesions))


def _required(case: Case, name: str) -> Path:
    path: Path | None = getattr(case, name)
    if path is None:
        raise InputError(f"case {case.id}: a {case.kind} case needs a file in column '{name}'")
    return path


def _grid_scan(case: Case, settings: DataSettings, stripped: bool) -> GridScan:
    flair = read_image(_required(case, "flair"))
    t1 = read_image(_required(case, "t1"), flair.geometry)
    lesion = read_mask(_required(case, "mask"), flair.geometry).voxels
    brain = None
    if stripped:
        brain = read_mask(_required(case, "brain_mask"), flair.geometry).voxels
        flair, t1 = (image.with_voxels(np.where(brain, image.voxels, 0)) for image in (flair, t1))
    transform = fit_grid(flair, (settings.grid,) * 3, brain)
    ignored = np.zeros(flair.shape, dtype=bool)
    if case.ventricles is not None and settings.rim_mm > 0:
        ventricles = read_mask(case.ventricles, flair.geometry).voxels
        distance = ndimage.distance_transform_edt(~ventricles, sampling=flair.geometry.voxel_spacing)
        ignored = (distance <= settings.rim_mm) & ~ventricles & ~lesion
    return GridScan(
        f"{case.id}{'-stripped' if stripped else ''}",
        scan_on_grid(flair, transform).astype(np.float16),
        scan_on_grid(t1, transform).astype(np.float16),
        transform.to_grid(lesion).astype(np.float16),
        transform.to_grid(ignored) >= 0.5,
    )


def _grid_anatomy(case: Case, settings: DataSettings) -> GridAnatomy:
    image = read_image(_required(case, "labels"))
    labels = image.voxels
    transform = fit_grid(image, (settings.grid,) * 3, labels > 0)
    lesion = labels == LESION
    # Lesions become white matter, so that other lesions can be put in.
    shares = [transform.to_grid(labels == value) for value in (CSF, GREY)]
    shares.append(transform.to_grid((labels == WHITE) | lesion))
    return GridAnatomy(case.id, np.stack(shares).astype(np.float16), transform.to_grid(lesion).astype(np.float16))


class ExampleStream(Dataset[Example]):
    """Endless varied examples; example ``i`` depends on seed and ``i`` alone, so training resumes exactly.

    Items are dictionaries of float32 tensors: ``images`` (2, x, y, z; FLAIR, T1w in [0, 1]), ``lesion`` and
    ``ignored`` (1, x, y, z).

    Args:
        material: what examples are made of.
        settings: how they are varied.
        crop: edge of the patch; 0 takes the whole cube.
        seed: first part of every example's seed.
        length: number of examples.
        patches: examples from this one on are whole cubes; all are patches when absent. Statistics of a patch differ
            from those of a cube, and with them what instance normalisation does to the background.
    """

    def __init__(
        self,
        material: TrainingMaterial,
        settings: DataSettings,
        crop: int,
        seed: int,
        length: int,
        patches: int | None = None,
    ) -> None:
        self.material, self.settings, self.seed, self.length = material, settings, seed, length
        self.patches = length if patches is None else patches
        self.patch_variation, self.cube_variation = spatial_variation(settings, crop), spatial_variation(settings, 0)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng([self.seed, index])
        scan = draw_scan(self.material, self.settings, rng)
        variation = self.patch_variation if index < self.patches else self.cube_variation
        variation.set_random_state(seed=int(rng.integers(2**31)))
        example: dict[str, Any] = variation(scan)
        images = vary_appearance(example["images"].as_tensor(), self.settings, rng)
        if rng.random() < self.settings.t1_absent:
            images[1] = 0.0
        return {
            "images": images,
            "lesion": (example["lesion"].as_tensor() >= 0.5).float(),
            "ignored": (example["ignored"].as_tensor() >= 0.5).float(),
        }


def draw_scan(material: TrainingMaterial, settings: DataSettings, rng: np.random.Generator) -> Example:
    """One scan before variation: a real one or one painted from a label map, with or without inserted lesions."""
    simulated = bool(material.anatomies) and (not material.scans or rng.random() < settings.simulated_fraction)
    insert = bool(material.lesions) and rng.random() < settings.inserted_fraction
    donor = _draw_lesion(material, rng) if insert else None
    if simulated:
        anatomy = material.anatomies[rng.integers(len(material.anatomies))]
        tissues = anatomy.tissues.astype(np.float32)
        lesion = anatomy.lesion.astype(np.float32)
        if donor is not None:
            lesion = donor * ndimage.uniform_filter(tissues[2], 3)
        flair, t1 = paint_scan(tissues, lesion, rng)
        flair, t1 = (measure_range(image).normalise(image) / np.float32(SCALE) for image in (flair, t1))
        ignored = np.zeros_like(lesion)
    else:
        scan = material.scans[rng.integers(len(material.scans))]
        flair, t1 = scan.flair.astype(np.float32), scan.t1.astype(np.float32)
        lesion, ignored = scan.lesion.astype(np.float32), scan.ignored.astype(np.float32)
        # Thick slices of a whole head offer no white matter map; lesions go into stripped scans only.
        if donor is not None and (flair == 0).mean() > 0.3:
            flair, t1, added = insert_lesions(flair, t1, donor, _bright_in_t1(t1), rng)
            lesion = np.maximum(lesion, added)
            ignored = np.where(added >= 0.5, 0.0, ignored)
    return {
        "images": torch.from_numpy(np.stack([flair, t1])),
        "lesion": torch.from_numpy(lesion[None]),
        "ignored": torch.from_numpy(ignored[None].astype(np.float32)),
    }


def _draw_lesion(material: TrainingMaterial, rng: np.random.Generator) -> Voxels:
    """A donor's lesions, mirrored or not, thinned out or not, on the cube (float32)."""
    donor = material.lesions[rng.integers(len(material.lesions))].astype(np.float32)
    if rng.random() < 0.5:
        donor = donor[::-1]
    if rng.random() < 0.5:
        labels, count = ndimage.label(donor >= 0.5)
        kept = np.concatenate([[False], rng.random(count) < rng.uniform(0.1, 0.9)])
        donor = donor * ndimage.binary_dilation(kept[labels])
    return np.ascontiguousarray(donor)


def _bright_in_t1(t1: Voxels) -> Mask:
    """White matter of a stripped scan, roughly: the brighter half of its T1w, without its rim."""
    return ndimage.binary_erosion(t1 > np.median(t1[t1 > 0.02])) if (t1 > 0.02).any() else t1 > 1


def spatial_variation(settings: DataSettings, crop: int) -> mt.Compose:
    """Mirror, rotate, scale, shift and cut out a patch in a single resampling (MONAI)."""
    keys = ["images", "lesion", "ignored"]
    edge = crop or settings.grid
    # A patch is cut at a random place by the shift that the affine step makes anyway.
    shift = max(4.0, (settings.grid - edge) / 2)
    return mt.Compose(
        [
            mt.RandFlipd(keys, prob=0.5, spatial_axis=0),
            mt.RandAffined(
                keys,
                prob=1.0,
                rotate_range=(settings.rotation,) * 3,
                scale_range=(settings.scaling,) * 3,
                translate_range=(shift,) * 3,
                spatial_size=(edge,) * 3,
                padding_mode="zeros",
            ),
        ]
    )


def vary_appearance(images: torch.Tensor, settings: DataSettings, rng: np.random.Generator) -> torch.Tensor:
    """Bias field, contrast, TorchIO artefacts and noise of random amplitude; result in [0, 1] (2, x, y, z)."""
    variation = mt.Compose(
        [
            mt.RandBiasField(prob=0.5, coeff_range=(0.0, settings.bias)),
            mt.RandAdjustContrast(prob=0.5, gamma=(1 / settings.gamma, settings.gamma)),
        ]
    )
    varied = []
    for channel in images:
        variation.set_random_state(seed=int(rng.integers(2**31)))
        image = torch.as_tensor(np.asarray(variation(channel[None])), dtype=torch.float32)
        # A bias field must not push lesions over the upper end, where the clamp would hide them.
        varied.append(image / max(1.0, float(np.percentile(image.numpy()[:, ::2, ::2, ::2], 99.9))))
    images = torch.cat(varied)
    artefacts: list[tio.Transform] = [
        tio.RandomAnisotropy(axes=(1, 2), downsampling=(2.0, 6.0)),
        tio.RandomGhosting(intensity=(0.2, 0.6)),
        tio.RandomSpike(intensity=(0.1, 0.4)),
    ]
    drawn = [artefact for artefact in artefacts if rng.random() < settings.artefact]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(rng.integers(2**31)))
        for artefact in drawn:
            images = artefact(images)
        images = images + torch.randn(images.shape) * rng.uniform(0.0, settings.noise)
    return images.clamp(0.0, 1.0)


def validation_examples(material: TrainingMaterial, settings: DataSettings, seed: int) -> list[Example]:
    """Whole-cube examples that never change: every real scan as it is, and painted ones from fixed seeds."""
    examples = []
    for index in range(len(material.scans)):
        only = TrainingMaterial((material.scans[index],), (), ())
        examples.append(draw_scan(only, settings, np.random.default_rng(0)))
    if material.anatomies:
        painted = TrainingMaterial((), material.anatomies, material.lesions)
        stream = ExampleStream(painted, settings, 0, seed + 900_001, settings.simulated_validation)
        examples += [stream[index] for index in range(settings.simulated_validation)]
    return examples
