"""The people whose brains and lesions simulated patients are made of, and the split that each of them belongs to."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from scipy import ndimage

from veridice.errors import InputError
from veridice.types import Mask

MORE_DONORS = "VERIDICE_DONORS"
"""Environment variable that names a folder of further donors, as ``scripts/make_more_donors.py`` makes it."""
CSF, GREY, WHITE, VENTRICLE = 1, 2, 3, 4
"""Values of the tissue label maps; where none is VENTRICLE, the deep fluid is taken for ventricles."""
VENTRICLE_DEPTH_MM = 25.0
"""Fluid deeper than this below the brain's surface belongs to the ventricles."""

Bytes = np.ndarray[Any, np.dtype[np.uint8]]


@dataclass(frozen=True)
class Donor:
    """One brain or one lesion mask in the template box (1 mm), whose it is, and the cohorts that it is for."""

    person: str
    kind: str
    split: str
    file: str
    flair: str = ""
    t1: str = ""

    @property
    def name(self) -> str:
        """File name without suffix, for the record of a simulated patient."""
        return self.file.removesuffix(".nii.gz")


@dataclass(frozen=True)
class Anatomy:
    """A brain without lesions in the template box.

    Args:
        shares: (4, x, y, z) CSF, grey matter, white matter, ventricles; 255 is all of a voxel.
        images: (2, x, y, z) the person's own FLAIR and T1w, lesions filled in; only for a real pair.
    """

    shares: Bytes
    images: Bytes | None


@cache
def all_donors() -> tuple[Donor, ...]:
    """Every donor that ships with the package, and those of the folder in :data:`MORE_DONORS`.

    Raises:
        InputError: there is no such folder.
    """
    tables = [resources.files("veridice") / "donors" / "donors.csv"]
    if named := os.environ.get(MORE_DONORS):
        tables.append(Path(named) / "donors.csv")
    try:
        rows = [row for table in tables for row in csv.DictReader(table.read_text(encoding="utf-8").splitlines())]
    except OSError as error:
        raise InputError(f"{MORE_DONORS}={named}: no donors there; make them with scripts/make_more_donors.py") from error
    return tuple(Donor(**row) for row in rows)


@cache
def donors_by_name() -> dict[str, Donor]:
    """The same by their names in the records of simulated patients."""
    return {donor.name: donor for donor in all_donors()}


def donor_names() -> set[str]:
    """What may be asked for: splits and people."""
    return {donor.split for donor in all_donors()} | {donor.person for donor in all_donors()}


def people_of(selection: str) -> tuple[str, ...]:
    """Splits or people of a list with commas between them."""
    return tuple(name.strip() for name in selection.split(",") if name.strip())


def choose_donors(selection: str) -> tuple[Donor, ...]:
    """Donors of a split (``training``, ``validation``, ``reserved``) or of the people named, separated by commas.

    Raises:
        InputError: nobody of that name, or no brain among them.
    """
    names = set(people_of(selection))
    if unknown := sorted(names - donor_names()):
        raise InputError(
            f"donors '{', '.join(unknown)}': unknown; use one of {', '.join(sorted(donor_names()))}; {MORE_DONORS} adds more"
        )
    chosen = tuple(donor for donor in all_donors() if donor.split in names or donor.person in names)
    for kind in ("anatomy", "lesions"):
        if not any(donor.kind == kind for donor in chosen):
            raise InputError(f"donors '{selection}': none of them has {kind}; add somebody who has, for example lesjak-01")
    return chosen


def _read(file: str) -> Bytes:
    with resources.as_file(resources.files("veridice") / "donors" / file) as shipped:
        path = shipped if shipped.exists() else Path(os.environ.get(MORE_DONORS, "")) / file
        return np.asarray(nib.load(path).dataobj, dtype=np.uint8)


@cache
def load_anatomy(donor: Donor) -> Anatomy:
    """Tissue shares of a donor's brain; borders are softened to the width that partial volume has at 1 mm."""
    labels = _read(donor.file)
    ventricles, fluid = _ventricles(labels), (labels == CSF) | (labels == VENTRICLE)
    shares = [_soften(mask) for mask in (fluid, labels == GREY, labels == WHITE, ventricles)]
    images = np.stack([_read(donor.flair), _read(donor.t1)]) if donor.flair else None
    return Anatomy(np.stack(shares), images)


@cache
def load_lesions(donor: Donor) -> Bytes:
    """A donor's lesions (x, y, z) in the template box, borders softened; 255 is all of a voxel."""
    return _soften(_read(donor.file) > 0)


def _soften(mask: Mask) -> Bytes:
    return np.round(ndimage.gaussian_filter(mask.astype(np.float32), 0.6) * 255).astype(np.uint8)


def _ventricles(labels: Bytes) -> Mask:
    if (known := labels == VENTRICLE).any():
        return np.asarray(known)
    depth = ndimage.distance_transform_edt(labels > 0)
    fluid = labels == CSF
    core = fluid & (depth > VENTRICLE_DEPTH_MM)
    parts, count = ndimage.label(core)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    large = np.flatnonzero(sizes > 200)
    grown: Mask = ndimage.binary_dilation(np.isin(parts, large[large > 0]), iterations=3, mask=fluid & (depth > 14))
    return grown
