"""Makes label maps of whole heads of many people, from which patients are made while a network trains.

    python scripts/make_heads.py DATA_FOLDER -o FOLDER [--jobs 2]
    python scripts/make_heads.py DATA_FOLDER -o FOLDER --split coverage --most 12     people to test on

IXI's training people and NiChart's 01 to 11 from T1w and regions, SynthSeg's heads from their labels; all turned to the
MNI152 (rigidly), 1 mm. Beside them ``bank.npz``: the single lesions of the same split that lie in white matter. Finished
ones are kept.
Sources: IXI (brain-development.org, CC BY-SA 3.0), regions CBICA/NiChart_Project; NiChart (SBIA licence); labels of Billot et
al. 2023 (Apache-2.0); lesions Slicer-LesionSimulatorExtension (Apache-2.0).
"""

from __future__ import annotations

import argparse
import csv
import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from make_more_donors import LEAST_WHITE, onto_template, parted, placed, read_crops, resampled, tissue_of_regions
from scipy import ndimage

from veridice.imaging.tissue import Tissue
from veridice.parallel import ProcessDiedError, in_processes
from veridice.progress import progress_bar
from veridice.simulate.heads import AROUND, LABELS, LEVELS

Array = np.ndarray[Any, Any]
FREE_OF_NICHART = 11
"""Last of its people that are free for training."""
LEVEL_SHARES = (0.15, 0.5, 0.85)
"""Of a tissue's voxels that are darker than each level's upper end."""
AROUND_LEVELS = 6
MARGIN = 4
LEFT_TO_THE_JUDGE = 3
"""Of so many training people of IXI no network sees the head of one: the predictor of the Dice learns from those."""
FREESURFER = {
    Tissue.WHITE: (2, 41, 77, 85, 251, 252, 253, 254, 255),
    Tissue.CORTEX: (3, 42, 17, 53),
    Tissue.VENTRICLE: (4, 5, 14, 15, 31, 43, 44, 63, 72),
    Tissue.FLUID: (24,),
    Tissue.DEEP_GREY: (10, 11, 12, 13, 18, 26, 28, 49, 50, 51, 52, 54, 58, 60, 136, 137, 163, 164),
    Tissue.BRAINSTEM: (16,),
    Tissue.CEREBELLUM: (7, 8, 46, 47),
}
"""Labels of the brain; what is not named is cortex. Amygdala and small nuclei count as deep grey."""
CEREBELLAR_WHITE = (7, 46)
FIRST_OUTSIDE = 202
"""First of the labels around the brain."""
PSEUDO_T1 = {Tissue.WHITE: 1.0, Tissue.CORTEX: 0.65, Tissue.DEEP_GREY: 0.75, Tissue.BRAINSTEM: 0.9, Tissue.CEREBELLUM: 0.7}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--split", choices=("training", "calibration", "coverage"), default="training")
    parser.add_argument("--most", type=int, help="people")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    write_bank(options.data / "lesion_bank", options.split, options.output / "bank.npz")
    people = everybody(options.data, options.split)[: options.most]
    waiting = [name for name in people if not (options.output / file_of(name)).exists()]
    work = partial(make_head, options.data, options.output)
    with progress_bar() as progress:
        bar = progress.add_task("heads", total=len(waiting), note="")
        for _, done in in_processes(waiting, work, options.jobs):
            if isinstance(done, ProcessDiedError):
                raise done
            progress.advance(bar)
    sys.stdout.write(f"{len(list(options.output.glob('head-*.nii.gz')))} heads -> {options.output}\n")


def everybody(data: Path, split: str) -> list[str]:
    """Names of all of a split; only IXI has people to test on."""
    with (data / "ixi/people.csv").open() as stream:
        ixi = [row["person"] for row in csv.DictReader(stream) if row["split"] == split]
    if split != "training":
        return ixi
    ixi = [name for number, name in enumerate(ixi) if number % LEFT_TO_THE_JUDGE]
    elderly = [folder.name for folder in sorted((data / "nichart").glob("Subj*")) if int(folder.name[4:]) <= FREE_OF_NICHART]
    drawn = [file.name.split(".")[0] for file in sorted((data / "synthseg_labels").glob("head-*.nii.gz"))]
    return [*elderly, *drawn, *ixi]


def file_of(name: str) -> str:
    """SynthSeg's names begin with what all files begin with."""
    return f"head-{name.removeprefix('head-')}.nii.gz"


def make_head(data: Path, output: Path, name: str) -> None:
    """Label map of one person."""
    if name.startswith("head-"):
        labels = from_labels(data / "synthseg_labels" / f"{name}.nii.gz")
    else:
        folder = data / "nichart" / name
        files = (data / "ixi/t1w" / f"{name}.nii.gz", data / "ixi/regions" / f"{name}.nii.gz")
        files = (folder / "t1.nii.gz", folder / "regions_t1_grid.nii.gz") if folder.exists() else files
        labels = from_regions(data / "ixi", *files)
    inside = ndimage.find_objects((labels > 0).astype(np.uint8))[0]
    box = tuple(slice(max(0, s.start - MARGIN), s.stop + MARGIN) for s in inside)
    hidden = output / f".{file_of(name)}"
    nib.Nifti1Image(labels[box], np.eye(4)).to_filename(hidden)
    hidden.replace(output / file_of(name))


def from_regions(ixi: Path, t1_file: Path, regions_file: Path) -> Array:
    """Labels of a head whose regions are known: tissue by a mixture of the T1w, places by the regions."""
    t1, regions = nib.load(t1_file), nib.load(regions_file)
    numbers, values = np.asarray(regions.dataobj).astype(int), np.asarray(t1.dataobj, np.float32)
    classes = tissue_of_regions(ixi)[numbers]
    move = onto_template(placed(values * (classes >= 0), t1.affine))
    place = lambda part, how=sitk.sitkLinear: resampled(placed(part.astype(np.float32), t1.affine), move, how)  # noqa: E731
    whole = place(values, sitk.sitkBSpline)
    tissue = parted(whole, np.stack([place(classes == number) for number in range(3)]))
    kinds = kind_of_regions(ixi)[numbers]
    near = np.stack([ndimage.gaussian_filter(place(kinds == kind), 0.7) for kind in Tissue])
    kind = joined(tissue, near)
    labels = np.zeros(kind.shape, np.uint8)
    for each in list(Tissue)[1:]:
        inside = kind == each
        labels[inside] = each * LEVELS + levels(whole[inside], LEVEL_SHARES)
    seen = sitk.OtsuThreshold(sitk.GetImageFromArray(np.sqrt(whole.clip(0))), 0, 1)
    head = (kind == 0) & (sitk.GetArrayFromImage(seen) > 0)
    labels[head] = AROUND + levels(whole[head], np.linspace(0, 1, AROUND_LEVELS + 1)[1:-1])
    return labels


def joined(tissue: Array, near: Array) -> Array:
    """One :class:`Tissue` a voxel, from fluid, grey and white matter and the nearness of the regions of each kind."""
    fluid, grey, white = tissue
    found = np.zeros(fluid.shape, np.uint8)
    inner = near[Tissue.VENTRICLE] > near[Tissue.FLUID]
    found[fluid] = np.where(inner[fluid], Tissue.VENTRICLE, Tissue.FLUID)
    found[grey], found[white] = Tissue.CORTEX, Tissue.WHITE
    for each in (Tissue.DEEP_GREY, Tissue.BRAINSTEM, Tissue.CEREBELLUM):
        found[(grey | white) & (near[each] > 0.5)] = each
    # What is deep inside a ventricle and not fluid is choroid plexus.
    found[(grey | white) & (near[Tissue.VENTRICLE] > 0.7)] = Tissue.VENTRICLE
    return found


@cache
def kind_of_regions(ixi: Path) -> Array:
    """:class:`Tissue` of every region by its number."""
    table = np.zeros(1000, int)
    names = {"csf": Tissue.FLUID, "ventricle": Tissue.VENTRICLE, "grey": Tissue.CORTEX, "deep_grey": Tissue.DEEP_GREY}
    with (ixi / "regions.csv").open() as stream:
        for row in csv.DictReader(stream):
            kind = names.get(row["tissue"], Tissue.WHITE)
            kind = Tissue.CEREBELLUM if row["name"].startswith("Cerebell") else kind
            table[int(row["region"])] = Tissue.BRAINSTEM if row["name"] == "BrainStem" else kind
    return table


def levels(values: Array, shares: Any) -> Array:
    """Number of the brightness level of each value."""
    return (
        np.searchsorted(np.quantile(values[::7] if values.size > 1000 else values, shares), values) if values.size else values
    )


def from_labels(file: Path) -> Array:
    """Labels of a head of SynthSeg: its tissues and, around them, its substances."""
    image = nib.load(file)
    numbers = np.asarray(image.dataobj).astype(int)
    table = np.zeros(300, np.uint8)
    table[1:FIRST_OUTSIDE] = Tissue.CORTEX * LEVELS + 1
    for tissue, named in FREESURFER.items():
        table[list(named)] = tissue * LEVELS + 1
    table[list(CEREBELLAR_WHITE)] = Tissue.CEREBELLUM * LEVELS + LEVELS - 1
    table[FIRST_OUTSIDE:] = (
        AROUND + AROUND_LEVELS + np.arange(300 - FIRST_OUTSIDE).clip(max=LABELS - AROUND - AROUND_LEVELS - 1)
    )
    found = table[numbers]
    shown = np.zeros(LEVELS * len(Tissue))
    for tissue, value in PSEUDO_T1.items():
        shown[tissue * LEVELS : (tissue + 1) * LEVELS] = value
    pseudo = np.where(found < AROUND, shown[found.clip(max=shown.size - 1)], 0)
    move = onto_template(placed(pseudo.astype(np.float32), image.affine))
    return resampled(placed(found.astype(np.float32), image.affine), move, sitk.sitkNearestNeighbor).astype(np.uint8)


def write_bank(bank: Path, split: str, output: Path) -> None:
    """Packed crops, their corners (voxels of the MNI152, 1 mm, left to right), shapes and volumes."""
    with (bank / "lesions.csv").open() as stream:
        table = list(csv.DictReader(stream))
    crops = read_crops(bank / "lesions.npz")
    rows = [row for row in table if row["split"] == split and float(row["white_share"]) >= LEAST_WHITE]
    chosen = [crops[int(row["row"])] for row in rows]
    bits = [np.packbits(mask) for mask, _ in chosen]
    np.savez_compressed(
        output,
        bits=np.concatenate(bits),
        length=np.array([len(each) for each in bits]),
        corner=np.array([corner for _, corner in chosen], np.int16),
        shape=np.array([mask.shape for mask, _ in chosen], np.int16),
    )


if __name__ == "__main__":
    main()
