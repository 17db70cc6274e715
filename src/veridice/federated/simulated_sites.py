"""Hospitals that never were: simulated patients of one scanner each, as files with a manifest. No Flower."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from veridice.io.atomic import write_text
from veridice.simulate.cohorts import TRUTH, Cohort, write_cohort
from veridice.simulate.severity import MIX

DONORS = {"train": "training", "validation": "validation", "test": "reserved"}
"""Whose brains and lesions the patients of a split are made of; no person gives to two splits."""


def write_site(
    folder: Path,
    scanner: str,
    patients: Mapping[str, int],
    seed: int,
    jobs: int = 1,
    on_step: Callable[[], None] = lambda: None,
) -> Path:
    """Write the scans of one hospital; finished ones are kept.

    Args:
        folder: of the hospital; each split is a BIDS data set in it.
        scanner: a row of the paper's Table 3.
        patients: how many of the splits train, validation, test.
        seed: of everything that is drawn.
        jobs: processes.
        on_step: called after each scan.

    Returns:
        The manifest, whose files are relative to ``folder``.

    Raises:
        OutputError: the folder holds other patients, or cannot be written.
    """
    rows = []
    for number, (split, count) in enumerate(patients.items()):
        if not count:
            continue
        cohort = Cohort(f"{folder.name}-{split}", seed + number, DONORS[split], MIX, (scanner,))
        write_cohort(folder / split, cohort, count, jobs, on_step)
        for scan in sorted(path.name for path in (folder / split).glob("sub-*")):
            images, truth = folder / split / scan / "anat", folder / split / TRUTH / scan / "anat"
            files = {
                "flair": images / f"{scan}_FLAIR.nii.gz",
                "t1": images / f"{scan}_T1w.nii.gz",
                "mask": truth / f"{scan}_label-lesion_mask.nii.gz",
            }
            inside = {name: str(file.relative_to(folder)) for name, file in files.items()}
            name = f"{folder.name}-{split}-{scan}"
            rows.append({"id": name, "patient": name, "split": split, **inside})
    manifest = folder / "manifest.csv"
    write_text(manifest, pd.DataFrame(rows).to_csv(index=False))
    return manifest
