"""Does the anatomy network put lesions where they are, and does it find white matter and ventricles?

``python benchmarks/places.py --heads FOLDER [--data FOLDER] [--resume resume/anatomy]``: simulated patients of heads that
nobody learnt from (``scripts/make_heads.py DATA -o FOLDER --split coverage --most 12``), with and without T1w; and with
``--data`` the elderly people of NiChart from 13 on, whose regions another tool drew, on the FLAIR's grid.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from torch import nn

from veridice.config import InferenceSettings
from veridice.imaging.foreground import even_image
from veridice.imaging.grid import GridTransform, fit_grid, grid_images
from veridice.imaging.registration import align, resample_aligned
from veridice.imaging.tissue import Tissue, TissueMap
from veridice.imaging.volume import Geometry
from veridice.inference.passes import Backend, choose_backend
from veridice.inference.tissue_map import tissue_map
from veridice.inference.weights import ARCHITECTURES
from veridice.io.nifti import read_image
from veridice.metrics.overlap import dice
from veridice.quality.lesion_places import PLACES, places_of
from veridice.quality.single_lesions import label_lesions
from veridice.simulate.cube_patient import cube_patient
from veridice.simulate.heads import read_heads
from veridice.simulate.lesion_bank import LesionBank
from veridice.training.endless import ResumePoint
from veridice.training.endless_examples import endless_plan

GRID, COARSE, SEED = 128, 96, 9100
TOLD = {"white matter": Tissue.WHITE, "ventricles": Tissue.VENTRICLE}
FIRST_RESERVED = 13
REGIONS = {"white matter": "white", "ventricles": "ventricle"}


def simulated(heads: Path, patients: int, network: nn.Module, backend: Backend, with_t1: bool) -> list[str]:
    """Dice of the tissues and share of lesions in the right place; broken scans are left out."""
    everybody, bank = read_heads(heads), LesionBank.read(heads)
    overlaps: dict[str, list[float]] = {name: [] for name in TOLD}
    pairs: Counter[tuple[str, str]] = Counter()
    number = 0
    while len(overlaps["ventricles"]) < patients:
        plan = endless_plan(SEED, number)
        head = everybody[number % len(everybody)]
        number += 1
        if plan.severity == "broken":
            continue
        patient = cube_patient(plan, head, bank, GRID, torch.device("cpu"))
        images = patient.images.numpy().copy()
        images[1] *= with_t1
        found, true = tissue_map(images, network, COARSE, backend), patient.tissue[0].numpy()
        for name, tissue in TOLD.items():
            overlaps[name].append(dice(found == tissue, true == tissue).dice)
        labels, count = label_lesions(patient.lesion[0].numpy() >= 0.5)
        transform = GridTransform(Geometry((GRID,) * 3, np.diag([*patient.spacing, 1.0])), ((0, GRID),) * 3, (GRID,) * 3)
        pairs.update(zip(places_of(labels, count, true, transform), places_of(labels, count, found, transform), strict=True))
    right = sum(count for (true, told), count in pairs.items() if true == told)
    lines = [f"{patients} simulated patients of {len(everybody)} heads, {'with' if with_t1 else 'without'} T1w"]
    lines += [f"  {name}: Dice {np.mean(values):.3f}, lowest {min(values):.3f}" for name, values in overlaps.items()]
    lines.append(f"  lesions in the right place: {right / pairs.total():.3f} of {pairs.total()}")
    for place in PLACES:
        row = {told: count for (true, told), count in pairs.items() if true == place}
        lines.append(f"    {place}: {sum(row.values())}, told " + ", ".join(f"{told} {row.get(told, 0)}" for told in PLACES))
    return lines


def real(data: Path, network: nn.Module, backend: Backend, with_t1: bool) -> list[str]:
    """The same tissues of real elderly people, against regions of another tool."""
    with (data / "ixi/regions.csv").open() as stream:
        tissue_of = {int(row["region"]): row["tissue"] for row in csv.DictReader(stream)}
    overlaps: dict[str, list[float]] = {name: [] for name in TOLD}
    folders = [f for f in sorted((data / "nichart").glob("Subj*")) if int(f.name[4:]) >= FIRST_RESERVED]
    for folder in folders:
        flair, t1 = (even_image(read_image(folder / f"{name}.nii.gz")) for name in ("flair", "t1"))
        # Regions lie on the T1w, which some of these headers put centimetres away from the FLAIR.
        alignment = align(flair, t1)
        transform = fit_grid(flair, (GRID,) * 3)
        images = grid_images(flair, resample_aligned(t1, alignment, flair.geometry) if with_t1 else None, transform)
        numbers = np.asarray(nib.load(folder / "regions_t1_grid.nii.gz").dataobj).astype(int)
        found = tissue_map(images, network, COARSE, backend)
        for name, tissue in TOLD.items():
            wanted = [region for region, known in tissue_of.items() if known == REGIONS[name]]
            drawn = t1.with_voxels(np.isin(numbers, wanted).astype(np.float32))
            true = resample_aligned(drawn, alignment, flair.geometry).voxels >= 0.5
            overlaps[name].append(dice(native(found, tissue, transform), true).dice)
    lines = [f"{len(folders)} people of NiChart, {'with' if with_t1 else 'without'} T1w"]
    return lines + [f"  {name}: Dice {np.mean(values):.3f}, lowest {min(values):.3f}" for name, values in overlaps.items()]


def native(found: TissueMap, tissue: Tissue, transform: GridTransform) -> np.ndarray:
    """One tissue in the scan's own grid; the cerebellum's white matter counts as cerebellum here."""
    return transform.to_native((found == tissue).astype(np.float32)) >= 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--resume", type=Path, default=Path("resume/anatomy"))
    parser.add_argument("--patients", type=int, default=24)
    options = parser.parse_args()
    point = ResumePoint.read(options.resume)
    if point is None:
        raise SystemExit(f"{options.resume}: no resume point")
    network = ARCHITECTURES["anatomy"](**point.arguments)
    network.load_state_dict(point.weights)
    backend = choose_backend(InferenceSettings(device="cpu"))
    sys.stdout.write(f"step {point.step}\n")
    for with_t1 in (True, False):
        lines = simulated(options.heads, options.patients, network.eval(), backend, with_t1)
        lines += real(options.data, network.eval(), backend, with_t1) if options.data else []
        sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
