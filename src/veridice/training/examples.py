"""Training examples: cases are brought to the cube once and kept there, then varied without end, each from its own seed."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import monai.transforms as mt
import numpy as np
import torch
import torchio as tio
from torch.utils.data import Dataset

from veridice.assessment.analysis import task_grid
from veridice.case import Case
from veridice.errors import InputError
from veridice.imaging.grid import fit_grid, grid_images, resample_to
from veridice.io.atomic import replaced
from veridice.io.labelled_scan import read_labelled, views
from veridice.parallel import do_missing
from veridice.simulate.cohorts import COHORTS
from veridice.simulate.donors import donor_names, people_of
from veridice.simulate.patient import simulate_patient
from veridice.simulate.plan import PatientPlan
from veridice.training.cubes import LESION, Example, as_example
from veridice.training.settings import DataSettings

CUBE_FORMAT = 4
"""Raised when stored cubes of older versions must not be used any more."""
TURNING_MARGIN = 16
"""Voxels by which a patch is read larger when it is turned, so that its corners are not empty."""


@dataclass(frozen=True)
class CubeCase:
    """One labelled scan on the cube, stored as uint8 (3 + parts of the target, x, y, z).

    Args:
        id: of the scan.
        donors: people who gave something to it; the patient, for a real scan.
        simulated: made by the simulator.
        group: donor group that it belongs to, see :func:`real_groups`.
        file: NumPy array; read when needed, so that thousands of cases cost no memory.
    """

    id: str
    donors: tuple[str, ...]
    simulated: bool
    group: int
    file: Path

    def read(self) -> Example:
        """``images`` (2, x, y, z) in [0, 1], ``target`` (parts, x, y, z) and ``ignored`` (1, x, y, z) shares, float32."""
        return as_example(torch.from_numpy(np.load(self.file)).float() / 255)

    def read_patch(self, edge: int, centred: bool, rng: np.random.Generator) -> torch.Tensor:
        """Channels of a patch (channels, edge, edge, edge): around a random target voxel, or anywhere; it alone is read."""
        cube = np.load(self.file, mmap_mode="r")
        grid = cube.shape[1]
        centre = rng.integers(edge // 4, grid - edge // 4, 3)
        places = np.flatnonzero(np.asarray(cube[LESION:-1]).max(axis=0) >= 128) if centred else ()
        if len(places):
            place = np.array(np.unravel_index(places[rng.integers(len(places))], cube.shape[1:]))
            centre = place + rng.integers(-(edge // 4), edge // 4 + 1, 3)
        start = np.clip(centre - edge // 2, 0, grid - edge)
        # A copy: what is mapped from the file cannot be written to.
        patch = cube[(slice(None), *(slice(int(n), int(n) + edge) for n in start))]
        return torch.from_numpy(np.array(patch)).float() / 255


@dataclass(frozen=True)
class TrainingMaterial:
    """All scans of one split."""

    real: tuple[CubeCase, ...]
    simulated: tuple[CubeCase, ...]

    def __post_init__(self) -> None:
        if not self.real and not self.simulated:
            raise InputError("there are no scans for this split: name some in the manifest or simulate some (see [data])")

    def draw(self, simulated_fraction: float, rng: np.random.Generator) -> CubeCase:
        """A simulated scan with this chance, else a real one; whichever there is when there is only one kind."""
        simulated = bool(self.simulated) and (not self.real or rng.random() < simulated_fraction)
        pool = self.simulated if simulated else self.real
        return pool[rng.integers(len(pool))]


def prepare_material(
    cases: Sequence[Case], plans: Sequence[PatientPlan], settings: DataSettings, cubes: Path, on_step: Callable[[], None]
) -> TrainingMaterial:
    """Bring real cases and simulated patients to the cube; what lies in folder ``cubes`` already is used again.

    A real scan with a brain mask is taken twice, as whole head and skull-stripped, since users have both; to learn brains, one
    without is left out. ``on_step`` is called after each simulated patient.
    """
    cubes.mkdir(parents=True, exist_ok=True)
    groups = real_groups(cases, settings)
    used = [case for case in cases if getattr(case, settings.task.truth) is not None or settings.target == "lesion"]
    used = [case for case in used if groups[case.patient] not in settings.left_out]
    real = [_real_cube(case, settings, strip, groups[case.patient], cubes) for case in used for strip in views(case)]
    simulated = [_simulated_case(plan, settings, cubes) for plan in plans]
    tasks = [(plan, case.file) for plan, case in zip(plans, simulated, strict=True)]
    do_missing(tasks, lambda task: task[1].exists(), partial(_simulate_cube, settings), settings.jobs, on_step)
    return TrainingMaterial(tuple(real), tuple(simulated))


def real_groups(cases: Sequence[Case], settings: DataSettings) -> dict[str, int]:
    """Donor group of each real patient: the one that names the person, else by a checksum of the name."""
    named = {name: n for n, people in enumerate(settings.donor_groups) for name in people_of(people)}
    count = len(settings.donor_groups)
    return {case.patient: named.get(case.patient, zlib.crc32(case.patient.encode()) % count) for case in cases}


def planned_patients(split: str, settings: DataSettings) -> list[PatientPlan]:
    """Simulated patients of split ``train`` or ``validation``; the first in equal parts from the donor groups."""
    if split == "validation":
        return [COHORTS["validation"].plan(index) for index in range(settings.simulated_validation)]
    each = settings.simulated_patients // len(settings.donor_groups)
    plans = []
    for number, people in enumerate(settings.donor_groups):
        if number not in settings.left_out:
            # A group may name real patients too, of whom the simulator has nothing.
            known = ",".join(name for name in people_of(people) if name in donor_names())
            cohort = replace(COHORTS["training"], donors=known, seed=COHORTS["training"].seed + number)
            plans += [cohort.plan(index) for index in range(each)]
    return plans


def _store(file: Path, channels: Sequence[np.ndarray[Any, Any]]) -> None:
    cube = np.stack([np.round(channel.clip(0, 1) * 255).astype(np.uint8) for channel in channels])
    with replaced(file) as temporary:
        np.save(temporary, cube)


def _key(*parts: object) -> str:
    return hashlib.sha256(repr((CUBE_FORMAT, *parts)).encode()).hexdigest()[:16]


def _target_key(settings: DataSettings) -> tuple[str, ...]:
    return () if settings.target == "lesion" else (settings.target,)


def _simulated_case(plan: PatientPlan, settings: DataSettings, cubes: Path) -> CubeCase:
    name = f"simulated-{plan.seed}-{plan.index:05d}"
    file = cubes / f"{name}-{_key(plan.model_dump_json(), settings.grid, *_target_key(settings))}.npy"
    return CubeCase(name, plan.donors, simulated=True, group=plan.seed - COHORTS["training"].seed, file=file)


def _simulate_cube(settings: DataSettings, task: tuple[PatientPlan, Path]) -> None:
    plan, file = task
    patient = simulate_patient(plan)
    flair = patient.flair.with_voxels(patient.flair.voxels.astype(np.float32))
    transform = fit_grid(flair, (settings.grid,) * 3, None if plan.whole_head else patient.brain.voxels > 0)
    images = grid_images(flair, resample_to(patient.t1, flair.geometry), transform)
    target = transform.to_grid(patient.truth_of(settings.task).voxels)
    _store(file, [*images, target, np.zeros_like(target)])


def _real_cube(case: Case, settings: DataSettings, stripped: bool, group: int, cubes: Path) -> CubeCase:
    files = [case.flair, case.t1, case.mask, case.brain_mask, case.ventricles]
    sums = [hashlib.sha256(file.read_bytes()).hexdigest() if file else "" for file in files]
    name = f"{case.id}{'-stripped' if stripped else ''}"
    key = _key(sums, settings.grid, settings.rim_mm, case.ignored_label, settings.resample_t1, *_target_key(settings))
    file = cubes / f"real-{quote(name, safe='')[:100]}-{key}.npy"
    if not file.exists():
        _store(file, _real_channels(case, settings, stripped))
    return CubeCase(name, (case.patient,), simulated=False, group=group, file=file)


def _real_channels(case: Case, settings: DataSettings, stripped: bool) -> list[np.ndarray[Any, Any]]:
    known = read_labelled(case, settings.resample_t1, settings.rim_mm, stripped, settings.task)
    transform = task_grid(known.scan.flair, settings.task, (settings.grid,) * 3, known.brain if stripped else None)
    images = grid_images(known.scan.flair, known.scan.t1, transform)
    return [*images, *(transform.to_grid(part) for part in known.parts), transform.to_grid(~known.valid)]


class ExampleStream(Dataset[Example]):
    """Endless varied examples; example ``i`` depends on seed and ``i`` alone, so training resumes exactly.

    Items are dictionaries of float32 tensors: ``images`` (2, x, y, z; FLAIR, T1w in [0, 1]), ``target`` (parts, x, y, z;
    shares with ``soft_labels``, else 0 or 1) and ``ignored`` (1, x, y, z; 0 or 1).

    Args:
        material: what examples are made of.
        settings: how they are varied.
        crop: edge of the patch; 0 takes the whole cube.
        seed: first part of every example's seed.
        length: number of examples.
    """

    def __init__(self, material: TrainingMaterial, settings: DataSettings, crop: int, seed: int, length: int) -> None:
        self.material, self.settings, self.seed, self.length = material, settings, seed, length
        self.crop = crop or settings.grid

    def __len__(self) -> int:
        return self.length

    def case(self, index: int) -> CubeCase:
        """The scan that example ``index`` is made of."""
        return self.material.draw(self.settings.simulated_fraction, np.random.default_rng([self.seed, index]))

    def __getitem__(self, index: int) -> Example:
        rng = np.random.default_rng([self.seed, index])
        case = self.material.draw(self.settings.simulated_fraction, rng)
        # Resampling takes as long as everything else; simulated scans were turned and bent when they were made.
        turned = rng.random() < self.settings.turned_fraction
        wide = min(self.settings.grid, self.crop + TURNING_MARGIN) if turned else self.crop
        channels = case.read_patch(wide, bool(rng.random() < self.settings.lesion_centred), rng)
        if turned:
            variation = spatial_variation(self.settings, self.crop)
            variation.set_random_state(seed=int(rng.integers(2**31)))
            channels = torch.as_tensor(np.asarray(variation(channels)))
        if rng.random() < self.settings.mirrored_fraction:
            channels = channels.flip(1)
        scan = as_example(channels)
        images = vary_appearance(scan["images"], self.settings, rng)
        if rng.random() < self.settings.t1_absent:
            images[1] = 0.0
        return {
            "images": images,
            "target": scan["target"] if self.settings.soft_labels else (scan["target"] >= 0.5).float(),
            "ignored": (scan["ignored"] >= 0.5).float(),
        }


def spatial_variation(settings: DataSettings, edge: int) -> mt.RandAffine:
    """Rotate, scale and shift in a single resampling of all channels (MONAI); the middle ``edge`` voxels come back."""
    return mt.RandAffine(
        prob=1.0,
        rotate_range=(settings.rotation,) * 3,
        scale_range=(settings.scaling,) * 3,
        translate_range=(4.0,) * 3,
        spatial_size=(edge,) * 3,
        padding_mode="zeros",
    )


def vary_appearance(images: torch.Tensor, settings: DataSettings, rng: np.random.Generator) -> torch.Tensor:
    """Bias field, contrast, TorchIO artefacts and noise of random amplitude; result in [0, 1] (2, x, y, z)."""
    varied = []
    for channel in images:
        image = channel[None]
        if rng.random() < settings.bias_chance:
            bias = mt.RandBiasField(prob=1.0, coeff_range=(0.0, settings.bias))
            bias.set_random_state(seed=int(rng.integers(2**31)))
            image = torch.as_tensor(np.asarray(bias(image)), dtype=torch.float32)
            # A bias field must not push lesions over the upper end, where the clamp would hide them.
            image = image / max(1.0, float(np.percentile(image.numpy()[:, ::2, ::2, ::2], 99.9)))
        if rng.random() < 0.5:
            image = image.clamp(min=0) ** float(np.exp(rng.uniform(-1, 1) * np.log(settings.gamma)))
        varied.append(image)
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
        if rng.random() < 0.5:
            images = images + torch.randn(images.shape) * rng.uniform(0.0, settings.noise)
    return images.clamp(0.0, 1.0)


def validation_examples(material: TrainingMaterial) -> list[Example]:
    """Every scan as it is, with hard labels."""
    scans = (case.read() for case in (*material.real, *material.simulated))
    return [{**scan, **{name: (scan[name] >= 0.5).float() for name in ("target", "ignored")}} for scan in scans]
