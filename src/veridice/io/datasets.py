"""Data sets as people keep them, to cases."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from veridice.case import Case
from veridice.config import LESION, Task
from veridice.errors import InputError

FILE_COLUMNS = ("flair", "t1", "mask", "brain_mask", "ventricles")
SPLITS = ("train", "validation", "test")


def read_manifest(table: Path, root: Path, splits: bool = True) -> list[Case]:
    """Read a CSV manifest: columns ``id, patient, split`` and any of the file columns, relative to ``root``; if there
    is one, ``dataset``, the scanner.

    Without ``splits`` that column is not needed and not read.

    Raises:
        InputError: a column or file is missing, a split is unknown, or one patient stands in two splits.
    """
    if not table.is_file():
        raise InputError(f"{table}: no such manifest; give a CSV file with columns id, patient, split, flair, ...")
    try:
        # Not pandas' comment="#", which would also cut a name at that sign.
        lines = [line for line in table.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        rows = pd.read_csv(io.StringIO("\n".join(lines)), dtype=str, keep_default_na=False).fillna("")
    except ValueError as error:  # what pandas and the decoder raise for anything that is no table
        raise InputError(f"{table}: not a CSV table ({' '.join(str(error).split())}); save it as UTF-8 CSV") from error
    if not splits:
        rows["split"] = ""
    if missing := {"id", "patient", "split"} - set(rows.columns):
        raise InputError(f"{table}: columns {', '.join(sorted(missing))} are missing")
    cases = []
    for row in rows.to_dict("records"):
        if splits and row["split"] not in SPLITS:
            raise InputError(f"{table}: case {row['id']} has split '{row['split']}'; use one of {', '.join(SPLITS)}")
        files = {name: root / row[name] for name in FILE_COLUMNS if row.get(name)}
        for path in files.values():
            if not path.is_file():
                raise InputError(f"{table}: case {row['id']} names {path}, which does not exist; check --data")
        cases.append(Case(id=row["id"], patient=row["patient"], split=row["split"], dataset=row.get("dataset", ""), **files))
    counts = rows.groupby("patient")["split"].nunique()
    if (counts > 1).any():
        raise InputError(f"{table}: patient {counts.index[counts > 1][0]} stands in more than one split")
    return cases


@dataclass(frozen=True)
class Reading:
    """What a folder held: the cases, and one line for each that was left out."""

    cases: tuple[Case, ...]
    left_out: tuple[str, ...]


def read_dataset(layout: str, root: Path, task: Task = LESION) -> Reading:
    """Cases of a data set in the folder layout in which it is handed out; see docs/datasets.md.

    Args:
        layout: one of :data:`LAYOUTS`.
        root: the folder that was unpacked; what is looked for may lie at any depth below it.
        task: whose true masks are wanted; of the layouts, only ``bids`` has others than lesions.

    Raises:
        InputError: the layout is unknown, or nothing in ``root`` is laid out so.
    """
    if layout not in LAYOUTS:
        raise InputError(f"unknown data set '{layout}'; use one of {', '.join(LAYOUTS)}")
    pattern, find = LAYOUTS[layout]
    cases: list[Case] = []
    left_out: list[str] = []
    for place in sorted(root.rglob(pattern)):
        if "derivatives" in place.relative_to(root).parts:
            continue
        found = _bids(place, root, task) if find is _bids else find(place, root)
        if missing := [name for name in ("flair", task.truth) if getattr(found, name) is None]:
            left_out.append(f"{found.id}: no {' and no '.join(missing)} in {place.relative_to(root)}")
        else:
            cases.append(found)
    if not cases and not left_out:
        raise InputError(f"{root}: holds nothing named '{pattern}', so it is no '{layout}' data set; see docs/datasets.md")
    return Reading(tuple(cases), tuple(left_out))


def _first(folder: Path, *patterns: str) -> Path | None:
    """The first file, by name, of the first pattern that there is."""
    return next((file for pattern in patterns for file in sorted(folder.glob(pattern)) if file.is_file()), None)


def _files(folder: Path, *patterns: Sequence[str]) -> tuple[Path | None, Path | None, Path | None]:
    """FLAIR, T1w and mask of a case."""
    flair, t1, mask = (_first(folder, *kind) for kind in patterns)
    return flair, t1, mask


def _wmh2017(images: Path, root: Path) -> Case:
    patient = images.parent
    name = "-".join(("wmh2017", *patient.relative_to(root).parts))
    files = _files(patient, ["pre/FLAIR.nii*", "orig/FLAIR.nii*"], ["pre/T1.nii*"], ["wmh.nii*"])
    centre = next((part for part in patient.relative_to(root).parts if part in ("Utrecht", "Singapore", "Amsterdam")), "")
    return Case(name, *files, patient=name, dataset=f"wmh2017{'-' * bool(centre)}{centre}", ignored_label=2)


def _isbi2015(preprocessed: Path, _root: Path) -> Case:
    patient = preprocessed.parent
    # The first time point that has a FLAIR: more of one person would count that person twice.
    flair = _first(preprocessed, "*_flair_pp.nii*")
    scan = flair.name.split("_flair")[0] if flair else patient.name
    t1 = _first(preprocessed, f"{scan}_mprage_pp.nii*")
    mask = _first(patient / "masks", f"{scan}_mask1.nii*", f"{scan}_mask2.nii*")
    return Case(f"isbi2015-{scan}", flair, t1, mask, patient=f"isbi2015-{patient.name}", dataset="isbi2015")


def _msseg2016(patient: Path, root: Path) -> Case:
    name = "-".join(("msseg2016", *patient.relative_to(root).parts))
    files = _files(
        patient,
        ["Preprocessed_Data/FLAIR_preprocessed.nii*", "FLAIR_preprocessed.nii*", "Raw_Data/FLAIR.nii*", "3DFLAIR.nii*"],
        ["Preprocessed_Data/T1_preprocessed.nii*", "T1_preprocessed.nii*", "Raw_Data/T1.nii*", "3DT1.nii*"],
        ["Masks/Consensus.nii*", "Consensus.nii*", "Masks/ManualSegmentation_1.nii*", "ManualSegmentation_1.nii*"],
    )
    return Case(name, *files, patient=name, dataset="msseg2016")


def _lesjak2017(patient: Path, _root: Path) -> Case:
    files = _files(patient, ["*_FLAIR.nii*"], ["*_T1W.nii*"], ["*_consensus_gt.nii*"])
    return Case(f"lesjak2017-{patient.name}", *files, patient=f"lesjak2017-{patient.name}", dataset="lesjak2017")


def _bids(flair: Path, root: Path, task: Task = LESION) -> Case:
    inside = flair.relative_to(root)
    scan = flair.name.split("_FLAIR.nii")[0]
    masks = root / "derivatives"
    mask = _first(masks, f"*/{inside.parent}/{scan}_*label-{task.target}*_mask.nii*")
    t1 = _first(flair.parent, f"{scan}_T1w.nii*", f"{inside.parts[0]}*_T1w.nii*")
    truth: dict[str, Any] = {task.truth: mask}
    return Case(scan, flair, t1, **truth, patient=inside.parts[0], dataset=root.resolve().name)


LAYOUTS: dict[str, tuple[str, Callable[[Path, Path], Case]]] = {
    "wmh2017": ("pre/", _wmh2017),
    "isbi2015": ("preprocessed/", _isbi2015),
    "msseg2016": ("*atient_*/", _msseg2016),
    "lesjak2017": ("patient[0-9]*/", _lesjak2017),
    "bids": ("sub-*_FLAIR.nii*", _bids),
}
"""By name: what to look for, and the case that belongs to such a place. Docs: docs/datasets.md."""
