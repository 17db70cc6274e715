"""Makes the simulator's donors (`src/veridice/donors`) from the data folder: small, 1 mm, in one template box.

Every brain is scaled to the box of the Lesjak masks' brain, so that anybody's lesions fit into anybody's brain.
Usage: python scripts/make_donors.py DATA_FOLDER
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from nilearn.datasets import load_mni152_brain_mask, load_mni152_gm_template, load_mni152_wm_template
from scipy import ndimage
from sklearn.cluster import KMeans

TARGET = Path(__file__).parent.parent / "src/veridice/donors"
BOX = (134, 168, 150)
"""Voxels of the template box, 1 mm, RAS."""
FIRST = np.array([24, 25, -3])
"""Voxel of the masks' grid (182x218x182) at which the box begins."""
BRAIN_START, BRAIN_STOP = np.array([28, 29, 17]), np.array([155, 189, 143])
"""The brain in the masks' grid (bounding box of patient 07)."""
RESERVED = {5, 6, 8, *range(20, 31)}
VALIDATION = {4, 17, 18}
MASKS = [n for n in range(1, 31) if n not in (19, 26)]


def to_box(one_hot: np.ndarray, spacing: np.ndarray) -> np.ndarray:
    """Scale the classes (class, x, y, z; RAS) of a brain into the box; returns the label map (0 is outside).

    Width and length decide; the height follows from both, top to top, since some scans end above the brain stem.
    """
    brain = one_hot.sum(axis=0) > 0.5
    edges = [np.flatnonzero(brain.any(axis=tuple(a for a in range(3) if a != axis)))[[0, -1]] for axis in range(3)]
    start, stop = np.array([e[0] for e in edges]), np.array([e[1] + 1 for e in edges])
    scale = (BRAIN_STOP - BRAIN_START) / (stop - start)
    scale[2] = np.sqrt(np.prod(scale[:2] / spacing[:2])) * spacing[2]
    origin = BRAIN_START - FIRST - scale * start
    origin[2] = BRAIN_STOP[2] - FIRST[2] - scale[2] * stop[2]
    step = 1 / scale
    soft = [
        ndimage.affine_transform(
            ndimage.gaussian_filter(share.astype(np.float32), np.maximum(0, step - 1) / 2),
            step,
            offset=(0.5 - origin) * step - 0.5,
            output_shape=BOX,
            order=1,
        )
        for share in one_hot
    ]
    inside = sum(soft) >= 0.5
    return np.where(inside, 1 + np.argmax(soft, axis=0), 0).astype(np.uint8)


def crop(voxels: np.ndarray) -> np.ndarray:
    """The box of a volume on the masks' grid; zero where the box is larger."""
    padded = np.pad(voxels, [(8, 8)] * 3)
    return padded[tuple(slice(f + 8, f + 8 + n) for f, n in zip(FIRST, BOX, strict=True))]


def save(name: str, voxels: np.ndarray) -> str:
    affine = np.eye(4)
    affine[:3, 3] = FIRST + np.array([-91.0, -126.0, -72.0])
    image = nib.Nifti1Image(voxels.astype(np.uint8), affine)
    image.to_filename(TARGET / f"{name}.nii.gz")
    return f"{name}.nii.gz"


def split_of(number: int) -> str:
    return "reserved" if number in RESERVED else "validation" if number in VALIDATION else "training"


def real_pair(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """FLAIR and T1w of patient 07 in 0..255 with the lesions filled in, and a label map by k-means on the T1w."""
    flair, t1, lesion = (crop(nib.load(folder / f"{n}.nii.gz").get_fdata()) for n in ("flair", "t1", "lesion"))
    brain = ndimage.binary_fill_holes(flair > 0)
    values = t1[brain].reshape(-1, 1)
    classes = KMeans(3, n_init=3, random_state=0).fit(values[::7])
    rank = np.argsort(np.argsort(classes.cluster_centers_.ravel()))
    labels = np.zeros(BOX, np.uint8)
    labels[brain] = 1 + rank[classes.predict(values)]
    hole = ndimage.binary_dilation(lesion > 0, iterations=2) & brain
    labels[hole] = 3
    healthy = (labels == 3) & ~hole
    images = []
    for image in (flair, t1):
        image = image / np.percentile(image[brain], 99.9)
        weight = ndimage.gaussian_filter(healthy.astype(float), 4)
        filled = ndimage.gaussian_filter(image * healthy, 4) / np.maximum(weight, 1e-6)
        images.append(np.clip(np.where(hole, filled, image), 0, 1) * 255 * brain)
    return images[0], images[1], labels


def main(data: Path) -> None:
    TARGET.mkdir(exist_ok=True)
    rows = []
    for number in range(1, 9):
        image = nib.as_closest_canonical(nib.load(data / f"lesjak_labels/patient{number:02d}_labels.nii.gz"))
        labels = np.asarray(image.dataobj)
        one_hot = np.stack([labels == 1, labels == 2, (labels == 3) | (labels == 4)])
        file = save(f"anatomy-{number:02d}", to_box(one_hot, np.array(image.header.get_zooms()[:3], dtype=float)))
        rows.append((f"lesjak-{number:02d}", "anatomy", split_of(number), file, "", ""))
    brain, grey, white = (f(resolution=1) for f in (load_mni152_brain_mask, load_mni152_gm_template, load_mni152_wm_template))
    shares = np.stack([np.zeros(brain.shape), grey.get_fdata(), white.get_fdata()])
    shares[0] = np.clip(brain.get_fdata() - shares[1] - shares[2], 0, 1)
    rows.append(("mni152", "anatomy", "training", save("anatomy-mni152", to_box(shares, np.ones(3))), "", ""))
    flair, t1, labels = real_pair(data / "lesjak/patient07")
    names = (save("pair-07", labels), save("pair-07-flair", flair), save("pair-07-t1", t1))
    rows.append(("lesjak-07", "anatomy", "training", *names))
    for number in MASKS:
        mask = nib.load(data / f"lesjak_masks/patient{number:02d}_lesion_mni.nii.gz").get_fdata() > 0
        rows.append((f"lesjak-{number:02d}", "lesions", split_of(number), save(f"lesions-{number:02d}", crop(mask)), "", ""))
    with (TARGET / "donors.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("person", "kind", "split", "file", "flair", "t1"))
        writer.writerows(rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
