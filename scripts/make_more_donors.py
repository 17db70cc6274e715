"""Makes donors of many more people, outside the package: brains of IXI (T1w and regions), and patterns of single MS lesions.

    python scripts/make_more_donors.py DATA_FOLDER -o FOLDER [--jobs 2]
    VERIDICE_DONORS=FOLDER veridice simulate --donors more-calibration ...

Each brain is turned to the MNI152 (rigidly), parted into fluid, grey and white matter by a Gaussian mixture of its T1w whose
prior are its regions, and scaled into the box of the other donors. Nobody of one split is in another. Finished ones are kept.
Sources: IXI (brain-development.org, CC BY-SA 3.0), its regions CBICA/NiChart_Project; lesions Slicer-LesionSimulatorExtension
(Apache-2.0).
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from make_donors import BOX, FIRST, crop, to_box
from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
from scipy import ndimage
from sklearn.mixture import GaussianMixture

from veridice.parallel import ProcessDiedError, in_processes
from veridice.progress import progress_bar

TISSUES = {"csf": 0, "ventricle": 0, "grey": 1, "deep_grey": 1, "white": 2, "tissue": 2, "mixed": 1}
"""Class of each kind of region: fluid, grey, white."""
PRIOR_WIDTH = 1.2
"""Deviation (mm) of the Gaussian that makes the regions a prior: as far as they may be off."""
LEAST_PRIOR = 0.03
HALF = 0.5
PATTERNS = {"training": 120, "calibration": 60, "coverage": 60}
"""Sets of lesions that are drawn from those of each split."""
LEAST_WHITE = 0.4
"""Part of a lesion of the bank that lies in white matter; others are cortical."""
PLACES = (24.0, 60.0)
"""Lesions of one person lie together: deviation (mm) of the neighbourhoods that a pattern prefers, drawn between these."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--splits", nargs="*", default=list(PATTERNS), choices=list(PATTERNS))
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    with (options.data / "ixi/people.csv").open() as stream:
        people = [row for row in csv.DictReader(stream) if row["split"] in options.splits]
    rows = [(row["person"], "anatomy", f"more-{row['split']}", f"anatomy-{row['person']}.nii.gz", "", "") for row in people]
    work = partial(make_anatomy, options.data / "ixi", options.output)
    waiting = [row["person"] for row in people if not (options.output / f"anatomy-{row['person']}.nii.gz").exists()]
    with progress_bar() as progress:
        bar = progress.add_task("brains", total=len(waiting), note="")
        for _, done in in_processes(waiting, work, options.jobs):
            if isinstance(done, ProcessDiedError):
                raise done
            progress.advance(bar)
    for split, number, pattern in lesion_patterns(options.data / "lesion_bank", options.splits):
        name = f"bank-{split}-{number:03d}"
        save(options.output / f"lesions-{name}.nii.gz", pattern)
        rows.append((name, "lesions", f"more-{split}", f"lesions-{name}.nii.gz", "", ""))
    with (options.output / "donors.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("person", "kind", "split", "file", "flair", "t1"))
        writer.writerows(rows)
    sys.stdout.write(f"{len(rows)} donors -> {options.output}\n")


def make_anatomy(ixi: Path, output: Path, person: str) -> None:
    """Label map (1 fluid, 2 grey, 3 white, 4 ventricles) of one person in the box."""
    t1, regions = (nib.load(ixi / kind / f"{person}.nii.gz") for kind in ("t1w", "regions"))
    numbers = np.asarray(regions.dataobj).astype(int)
    classes = tissue_of_regions(ixi)[numbers]
    image = placed(np.asarray(t1.dataobj, np.float32) * (classes >= 0), t1.affine)
    move = onto_template(image)
    shown = resampled(image, move, sitk.sitkBSpline)
    *priors, ventricles = [
        resampled(placed(part.astype(np.float32), t1.affine), move, sitk.sitkLinear)
        for part in (*(classes == tissue for tissue in range(3)), np.isin(numbers, ventricle_regions(ixi)))
    ]
    fluid, grey, white = parted(shown, np.stack(priors))
    inside = fluid & (ndimage.gaussian_filter(ventricles, PRIOR_WIDTH) >= HALF)
    save(output / f"anatomy-{person}.nii.gz", to_box(np.stack([fluid & ~inside, grey, white, inside]), np.ones(3)))


@cache
def tissue_of_regions(ixi: Path) -> np.ndarray[Any, Any]:
    """Class of every region by its number; -1 is no brain."""
    table = np.full(1000, -1)
    with (ixi / "regions.csv").open() as stream:
        for row in csv.DictReader(stream):
            table[int(row["region"])] = TISSUES[row["tissue"]]
    return table


@cache
def ventricle_regions(ixi: Path) -> list[int]:
    """Numbers of the regions that are ventricles: the lateral ones with their temporal horns, the third and the fourth."""
    with (ixi / "regions.csv").open() as stream:
        return [int(row["region"]) for row in csv.DictReader(stream) if row["tissue"] == "ventricle"]


def parted(t1: np.ndarray[Any, Any], priors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """One class a voxel (3, x, y, z) by Bayes' rule: three Gaussians of the T1w times the smoothed regions."""
    brain = priors.sum(axis=0) >= 0.5
    soft = np.stack([ndimage.gaussian_filter(prior, PRIOR_WIDTH) for prior in priors])[:, brain] + LEAST_PRIOR
    values = t1[brain].clip(*np.percentile(t1[brain], (0.5, 99.5)))
    means = np.array([[np.median(values[priors[tissue][brain] > 0.9])] for tissue in range(3)])
    mixture = GaussianMixture(3, means_init=means, random_state=0).fit(values[::5, None])
    order = np.argsort(mixture.means_.ravel())
    deviations = np.sqrt(mixture.covariances_.reshape(3))[order]
    away = (values - mixture.means_[order]) / deviations[:, None]
    posterior = np.exp(-0.5 * away**2) / deviations[:, None] * soft
    one_hot = np.zeros((3, *brain.shape), bool)
    one_hot[:, brain] = posterior.argmax(axis=0) == np.arange(3)[:, None]
    return one_hot


@cache
def template() -> sitk.Image:
    """The MNI152's brain on 1 mm."""
    image, brain = load_mni152_template(resolution=1), load_mni152_brain_mask(resolution=1)
    return placed(np.asarray(image.dataobj, np.float32) * (np.asarray(brain.dataobj) > 0), image.affine)


def placed(voxels: np.ndarray[Any, Any], affine: np.ndarray[Any, Any]) -> sitk.Image:
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.transpose(2, 1, 0), np.float32))
    lps, spacing = np.diag([-1.0, -1, 1, 1]) @ affine, nib.affines.voxel_sizes(affine)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    return image


def onto_template(image: sitk.Image) -> sitk.Transform:
    """Rigid, by mutual information, from where the middles meet."""
    fixed = template()
    start = sitk.CenteredTransformInitializer(
        fixed, image, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
    )
    search = sitk.ImageRegistrationMethod()
    search.SetNumberOfThreads(1)
    search.SetMetricAsMattesMutualInformation(40)
    search.SetMetricSamplingStrategy(search.REGULAR)
    search.SetMetricSamplingPercentage(0.2, 1)
    search.SetInterpolator(sitk.sitkLinear)
    search.SetOptimizerAsRegularStepGradientDescent(2.0, 0.01, 100, 0.7, 1e-6)
    search.SetOptimizerScales([3200.0] * 3 + [1.0] * 3)
    search.SetShrinkFactorsPerLevel([4, 2])
    search.SetSmoothingSigmasPerLevel([2, 1])
    search.SetInitialTransform(start, inPlace=True)
    search.Execute(fixed, image)
    return start


def resampled(image: sitk.Image, move: sitk.Transform, kind: int) -> np.ndarray[Any, Any]:
    """On the template's axes, 1 mm, with room around for large heads (x, y, z; RAS)."""
    fixed, room = template(), 20
    size = [n + 2 * room for n in fixed.GetSize()]
    origin = fixed.TransformIndexToPhysicalPoint([-room] * 3)
    shown = sitk.Resample(image, size, move, kind, origin, fixed.GetSpacing(), fixed.GetDirection(), 0.0, sitk.sitkFloat32)
    voxels = sitk.GetArrayFromImage(shown).transpose(2, 1, 0)
    # The template is stored from right to left or from left to right: the rest of the code has left to right.
    return voxels if fixed.GetDirection()[0] < 0 else voxels[::-1]


def lesion_patterns(bank: Path, splits: Sequence[str]) -> Iterator[tuple[str, int, np.ndarray[Any, Any]]]:
    """Split, number and mask (box) of sets of lesions that nobody of another split has."""
    with (bank / "lesions.csv").open() as stream:
        table = list(csv.DictReader(stream))
    crops = read_crops(bank / "lesions.npz")
    for split in splits:
        known = [row for row in table if row["split"] == split and float(row["white_share"]) >= LEAST_WHITE]
        places = np.array([[float(row[f"{axis}_mm"]) for axis in "xyz"] for row in known])
        volumes = np.array([float(row["volume_mm3"]) for row in known])
        for number in range(PATTERNS[split]):
            rng = np.random.default_rng([ord(split[1]), number])
            mask = np.zeros((182, 218, 182), bool)
            for place in chosen_lesions(places, volumes, rng):
                crop_, corner = crops[int(known[place]["row"])]
                mask[tuple(slice(c, c + n) for c, n in zip(corner, crop_.shape, strict=True))] |= crop_
            yield split, number, crop(mask)


def chosen_lesions(places: np.ndarray[Any, Any], volumes: np.ndarray[Any, Any], rng: np.random.Generator) -> list[int]:
    """Numbers of the lesions of one pattern: around a few places, up to a load between 2 and 60 ml."""
    aim = 1000 * np.exp(rng.uniform(np.log(2), np.log(60)))
    centres = places[rng.choice(len(places), rng.integers(2, 6))]
    width = rng.uniform(*PLACES)
    near = np.exp(-0.5 * (((places[:, None] - centres) / width) ** 2).sum(axis=-1)).sum(axis=1) + 0.02
    order = rng.choice(len(places), len(places), replace=False, p=near / near.sum())
    taken, load = [], 0.0
    for place in order:
        if load + volumes[place] > 1.2 * aim:
            continue
        taken.append(int(place))
        load += volumes[place]
        if load >= aim:
            break
    return taken


def read_crops(path: Path) -> list[tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]]:
    """Mask and corner of each lesion of the bank."""
    with np.load(path) as stored:
        ends = np.cumsum(stored["length"])
        packed = np.split(stored["bits"], ends[:-1])
        shapes, corners = stored["shape"].astype(int), stored["corner"].astype(int)
    masks = [
        np.unpackbits(bits, count=int(np.prod(shape))).reshape(shape) > 0 for bits, shape in zip(packed, shapes, strict=True)
    ]
    return list(zip(masks, corners, strict=True))


def save(path: Path, voxels: np.ndarray[Any, Any]) -> None:
    affine = np.eye(4)
    affine[:3, 3] = FIRST + np.array([-91.0, -126.0, -72.0])
    hidden = path.with_name(f".{path.name}")
    nib.Nifti1Image(voxels.astype(np.uint8).reshape(BOX), affine).to_filename(hidden)
    hidden.replace(path)


if __name__ == "__main__":
    main()
