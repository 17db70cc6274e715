"""How simulated scans differ from real ones: intensities by tissue, lesion sizes, sharpness; and a blind contact sheet.

veridice simulate -n 24 --cohort training -o runs/look
python benchmarks/realism.py --data FOLDER --cohort runs/look -o runs/realism

Tissues are found the same way in both (three classes by k-means on the T1w inside the brain mask, without lesions), so
that the simulation's own label maps lend it nothing. `blind.png` shows real and simulated slices shuffled; `key.csv`
says which is which. `blind-brains.png` is the same without the heads, which may be handed on.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import nibabel as nib
import numpy as np
import pandas as pd
from scipy import ndimage
from simulated_cohort import patients
from sklearn.cluster import KMeans
from sklearn.metrics import roc_auc_score

from veridice.case import Case
from veridice.imaging.volume import Volume
from veridice.io.datasets import read_manifest
from veridice.io.nifti import read_image, read_mask
from veridice.types import Mask

mpl.use("Agg")
from matplotlib import pyplot as plt


@dataclass(frozen=True)
class Scan:
    """A labelled scan, real or simulated."""

    name: str
    origin: str
    flair: Volume
    t1: Volume
    truth: Mask
    brain: Mask


def real_scan(case: Case) -> Scan:
    flair = read_image(Path(str(case.flair)))
    t1 = read_image(Path(str(case.t1)), flair.geometry)
    truth = read_mask(Path(str(case.mask)), flair.geometry).voxels
    brain = read_mask(case.brain_mask, flair.geometry).voxels if case.brain_mask else flair.voxels > 0
    return Scan(case.id, f"real {case.id.split('-')[0]}", flair, t1, truth, brain)


def tissues(scan: Scan) -> dict[str, Mask]:
    """Fluid, grey and white matter: three classes of the T1w inside the brain, lesions and their rim left out."""
    healthy = ndimage.binary_erosion(scan.brain) & ~ndimage.binary_dilation(scan.truth, iterations=2)
    values = scan.t1.voxels[healthy].reshape(-1, 1)
    classes = KMeans(3, n_init=2, random_state=0).fit(values[:: max(1, len(values) // 50_000)])
    rank = np.argsort(np.argsort(classes.cluster_centers_.ravel()))[classes.predict(values)]
    found = {}
    for number, name in enumerate(("fluid", "grey", "white")):
        found[name] = np.zeros_like(healthy)
        found[name][healthy] = rank == number
    return found


def numbers(scan: Scan) -> dict[str, object]:
    """One row: FLAIR intensities relative to white matter, lesions against grey matter, lesion sizes, sharpness."""
    part = tissues(scan)
    image = scan.flair.voxels / np.median(scan.flair.voxels[part["white"]])
    labels, count = ndimage.label(scan.truth)
    sizes = np.bincount(labels.ravel())[1:] * scan.flair.geometry.voxel_volume_ml
    both = np.concatenate([image[scan.truth], image[part["grey"]]])
    marked = np.concatenate([np.ones(scan.truth.sum()), np.zeros(part["grey"].sum())])
    return {
        "scan": scan.name,
        "origin": scan.origin,
        "fluid": np.median(image[part["fluid"]]),
        "grey": np.median(image[part["grey"]]),
        "white_spread": image[part["white"]].std(),
        "grey_spread": image[part["grey"]].std(),
        "lesion": np.median(image[scan.truth]) if count else np.nan,
        "lesion_spread": image[scan.truth].std() if count else np.nan,
        "lesion_over_grey_auc": roc_auc_score(marked, both) if count else np.nan,
        "load_ml": sizes.sum(),
        "lesions": count,
        "median_lesion_ml": np.median(sizes) if count else np.nan,
        "largest_share": sizes.max() / sizes.sum() if count else np.nan,
        "high_frequency_share": sharpness(scan),
    }


def sharpness(scan: Scan) -> float:
    """Share of an axial slice's spectral power (without the mean) above a quarter of the sampling frequency, in the brain."""
    image, brain = axial(scan.flair, scan.flair.voxels), axial(scan.flair, scan.brain) > 0.5
    level = int(brain.sum(axis=(0, 1)).argmax())
    cut = np.where(brain[:, :, level], image[:, :, level] - image[brain].mean(), 0)
    power = np.abs(np.fft.fft2(cut)) ** 2
    radius = np.hypot(*np.meshgrid(*[np.fft.fftfreq(n) for n in cut.shape], indexing="ij"))
    return float(power[radius > 0.25].sum() / power[radius > 0].sum())


def axial(volume: Volume, voxels: np.ndarray) -> np.ndarray:
    return nib.as_closest_canonical(nib.Nifti1Image(np.asarray(voxels, np.float32), volume.affine)).get_fdata()


def blind_sheet(scans: list[Scan], file: Path, stripped: bool) -> None:
    """Slices with most lesion, without names."""
    columns = 6
    rows = -(-len(scans) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(columns * 2.2, rows * 2.5), facecolor="black", squeeze=False)
    for place, axis in enumerate(axes.ravel()):
        axis.axis("off")
        if place >= len(scans):
            continue
        scan = scans[place]
        image, truth, brain = (axial(scan.flair, v) for v in (scan.flair.voxels, scan.truth, scan.brain))
        level = int((truth + 1e-3 * brain).sum(axis=(0, 1)).argmax())
        spacing = nib.as_closest_canonical(nib.Nifti1Image(image, scan.flair.affine)).header.get_zooms()
        top = np.percentile(image[brain > 0.5], 99.8)
        image = np.where(brain > 0.5, image, 0) if stripped else image
        axis.imshow(image[:, :, level].T, origin="lower", cmap="gray", vmin=0, vmax=top, aspect=spacing[1] / spacing[0])
        axis.set_title(str(place + 1), color="white", fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=75)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, default=Path("data/training.csv"))
    parser.add_argument("--cohort", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/realism"))
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    scans = [real_scan(case) for case in read_manifest(arguments.manifest, arguments.data)]
    for p in patients(arguments.cohort):
        scans.append(Scan(p.name, f"simulated {p.severity}", p.flair, p.t1, p.truth, p.brain))
    table = pd.DataFrame([numbers(scan) for scan in scans])
    table.to_csv(arguments.output / "numbers.csv", index=False)
    print(table.drop(columns="scan").groupby("origin").agg("median").round(3).T.to_string())  # noqa: T201
    real = [scan for scan in scans if scan.origin.startswith("real")]
    alike = [scan for scan in scans if scan.origin == "simulated ordinary"]
    shown = real + alike[: len(real) + 2]
    shuffled = [shown[n] for n in np.random.default_rng(0).permutation(len(shown))]
    key = [{"number": number, "origin": scan.origin, "scan": scan.name} for number, scan in enumerate(shuffled, 1)]
    pd.DataFrame(key).to_csv(arguments.output / "key.csv", index=False)
    for name, stripped in (("blind.png", False), ("blind-brains.png", True)):
        blind_sheet(shuffled, arguments.output / name, stripped)


if __name__ == "__main__":
    main()
