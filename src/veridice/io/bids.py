"""Names and side files of BIDS derivatives, and output that appears whole or not at all."""

from __future__ import annotations

import contextlib
import csv
import os
import re
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from veridice._version import __version__
from veridice.case import Assessment, plain_name
from veridice.config import LESION, Task
from veridice.errors import InputError, OutputError
from veridice.imaging.volume import Volume
from veridice.io.atomic import write_json, write_text
from veridice.io.image_header import PAIR_SUFFIXES, SUFFIXES
from veridice.io.nifti import write_image

MAPS = {
    "lesion_mask": ("label-lesion_mask", "Mean lesion probability at 0.5 or above", "1"),
    "lesion_probability": ("label-lesion_probseg", "Mean lesion probability over the stochastic passes", "1"),
    "input_mask": ("label-lesion_desc-input_mask", "The given lesion mask that was judged", "1"),
    "false_positive": ("desc-falsepositive_probseg", "Chance that a voxel of the judged mask is no lesion, by the critic", "1"),
    "missed": ("desc-missed_probseg", "Chance that a voxel that is not in the judged mask is a lesion, by the critic", "1"),
    "best_mask": ("label-lesion_desc-best_mask", "Of several tools' masks the one that is expected to be best", "1"),
    "consensus_mask": ("label-lesion_desc-consensus_mask", "A lesion mask made of several tools' masks", "1"),
    "edited_mask": ("label-lesion_desc-edited_mask", "A lesion mask that a person corrected", "1"),
    "lesion_numbers": (
        "desc-lesions_dseg",
        "Connected parts of the judged mask, then places that look missed, numbered as in *_lesions.tsv",
        "1",
    ),
    "brain_mask": ("desc-brain_mask", "Brain, given or found by veridice", "1"),
    "shadow": ("desc-shadow_dseg", "Shadowed set of the mean lesion probability: 0 surely out, 1 undecided, 2 surely in", "1"),
    "entropy": ("desc-entropy_uncertainty", "Entropy of the mean lesion probability", "bit"),
    "variance": ("desc-variance_uncertainty", "Variance of the lesion probability over the stochastic passes", "1"),
    "mutual_information": ("desc-mutualinformation_uncertainty", "Entropy of the mean minus mean entropy of the passes", "bit"),
    "reconstruction": (
        "desc-reconstruction_FLAIR",
        "FLAIR rebuilt with the judged mask cut out; intensities of the crop scaled to [0, 1]",
        "1",
    ),
    "reconstruction_error": ("desc-reconstruction_error", "FLAIR scaled to [0, 1] minus its reconstruction", "1"),
}
"""File names of the maps after the case's name (the FLAIR's own grid, hence no ``space`` entity), meaning and unit."""


def maps_of(task: Task) -> dict[str, tuple[str, str, str]]:
    """:data:`MAPS` in the words of a task; masks of several parts are label maps."""
    if task.name == LESION.name:
        return MAPS
    known = {}
    for name, (suffix, meaning, unit) in MAPS.items():
        file = task.rename(suffix)
        if task.parts and name in (LESION.own_mask, "input_mask"):
            file = f"{file.removesuffix('_mask')}_dseg"
        known[task.rename(name)] = file, task.say(meaning), unit
    return known


UNKNOWN_TO_BIDS = (
    "records",
    "review",
    "ratings.*",
    "veridice.*",
    "visits",
    "visits.*",
    "comparison.*",
    "tools.tsv",
    "pairs.tsv",
    "*_comparison.json",
    "report.html",
    "*_lesions.*",
    "*_uncertainty.*",
    "*_error.*",
    "*_veridice.json",
    "*_report.html",
    "*_thumbnail.png",
    "*_rating.json",
    "*_desc-reconstruction_FLAIR.*",
    "*_desc-reconstruction_T1w.*",
)
ROUNDING = 2.0**-12
"""Step of stored maps: a quarter of a thousandth costs nobody anything and makes files many times smaller."""
ASSESSMENT_SUFFIX = "_veridice.json"
REPORT_SUFFIX = "_report.html"
THUMBNAIL_SUFFIX = "_thumbnail.png"
RATING_SUFFIX = "_rating.json"


def case_name(flair: Path) -> str:
    """Name of the case after its FLAIR: ``sub-01_ses-2_FLAIR.nii.gz`` gives ``sub-01_ses-2``, ``a b.nii`` gives ``a b``."""
    stem = flair.name
    for suffix in (*SUFFIXES, *PAIR_SUFFIXES):
        stem = stem.removesuffix(suffix)
    return plain_name(re.sub(r"_(FLAIR|flair|T1w)$", "", stem)) or "scan"


def file_stem(case: str) -> str:
    """The case's name as the beginning of BIDS file names: safe characters only, ``sub-`` in front."""
    if re.fullmatch(r"sub-[A-Za-z0-9]+(_[a-z]+-[A-Za-z0-9]+)*", case):
        return case
    return "sub-" + (re.sub(r"[^A-Za-z0-9]", "", case)[:80] or "scan")


def in_time(sessions: Mapping[str, str]) -> list[str]:
    """Sessions of one person in order: by time of acquisition where each has one, else by name, ``2`` before ``10``.

    Args:
        sessions: time of acquisition, empty where it is not known, by the name of the session.
    """
    if all(sessions.values()):
        return sorted(sessions, key=sessions.__getitem__)
    return sorted(sessions, key=lambda name: [int(part) if part.isdecimal() else part for part in re.split("([0-9]+)", name)])


def refuse_overwriting(
    folder: Path, case: str, inputs: Iterable[Path], task: Task = LESION, maps: Collection[str] | None = None
) -> None:
    """Make sure that no map of ``case`` in ``folder`` replaces an input.

    Args:
        folder: where results go.
        case: whose.
        inputs: files that are judged.
        task: gives the names of maps.
        maps: those that may be written; None: all.

    Raises:
        OutputError: it would.
    """
    # Not Path.resolve, which fails on links that lead to themselves.
    names = [suffix for name, (suffix, _, _) in maps_of(task).items() if maps is None or name in maps]
    results = {os.path.realpath(folder / f"{file_stem(case)}_{name}.nii.gz") for name in names}
    for path in inputs:
        if os.path.realpath(path) in results:
            raise OutputError(f"{path}: would be overwritten by a result of the same name; give another folder for the results")


def refuse_another_case(folder: Path, case: str) -> None:
    """Make sure that ``folder`` has no results of another case whose name differs in signs alone.

    Raises:
        OutputError: it has.
    """
    stored = folder / f"{file_stem(case)}{ASSESSMENT_SUFFIX}"
    with contextlib.suppress(InputError):
        if (there := read_assessment(stored).case) != case:
            raise OutputError(f"{stored}: is of '{there}', not of '{case}'; give another -o folder, or another --case")


def write_maps(
    folder: Path, case: str, maps: dict[str, Volume], provenance: dict[str, Any], task: Task = LESION
) -> dict[str, str]:
    """Write maps with a JSON sidecar each; returns their file names by map name."""
    known = maps_of(task)
    files = {name: f"{file_stem(case)}_{known[name][0]}.nii.gz" for name in maps}
    # Compressing leaves Python's lock to the next map.
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda name: write_image(folder / files[name], _rounded(maps[name])), maps))
    for name, file in files.items():
        _, description, units = known[name]
        sidecar = {"Description": description, "Units": units, "SpatialReference": "orig", "Rounding": ROUNDING, **provenance}
        write_json(folder / file.replace(".nii.gz", ".json"), sidecar)
    return files


def _rounded(volume: Volume) -> Volume:
    if volume.voxels.dtype.kind in "bui":
        return volume
    steps = volume.voxels * np.float32(1 / ROUNDING)
    return volume.with_voxels(np.multiply(np.rint(steps, out=steps), np.float32(ROUNDING), out=steps))


def write_table(folder: Path, case: str, name: str, rows: list[dict[str, Any]], columns: dict[str, str]) -> str:
    """Write rows as TSV with a JSON dictionary of its columns; returns the TSV's name. Texts are words of our own."""
    file = f"{file_stem(case)}_{name}.tsv"
    with (folder / file).open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([_cell(row.get(column)) for column in columns] for row in rows)
    write_json(folder / file.replace(".tsv", ".json"), {column: {"Description": text} for column, text in columns.items()})
    return file


def _cell(value: Any) -> Any:
    if value is None or value != value:
        return "n/a"
    return f"{value:.6g}" if isinstance(value, float) else value


def read_table(path: Path) -> list[dict[str, Any]]:
    """Rows of a table by :func:`write_table`; what is a number is one, ``n/a`` is None."""
    with path.open(encoding="utf-8", newline="") as stream:
        return [{name: _value(cell) for name, cell in row.items()} for row in csv.DictReader(stream, delimiter="\t")]


def _value(cell: str) -> Any:
    if cell == "n/a":
        return None
    try:
        return float(cell)
    except ValueError:
        return cell


def neutral_cell(cell: Any) -> Any:
    """Texts that a spreadsheet would take for a formula begin with an apostrophe; line breaks and tabs become spaces."""
    if not isinstance(cell, str):
        return cell
    text = " ".join(cell.split())
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def write_dataset_files(folder: Path, goes_to: Path | None = None) -> None:
    """What makes a folder a BIDS data set of derivatives; what is there already stays, and is ignored as before.

    Args:
        folder: where the files are written.
        goes_to: the folder that they will be moved to; None: ``folder`` itself.

    Raises:
        OutputError: they cannot be written.
    """
    place = goes_to or folder
    description = {
        "Name": "veridice: quality of lesion segmentations",
        "BIDSVersion": "1.10.0",
        "DatasetType": "derivative",
        "GeneratedBy": [{"Name": "veridice", "Version": __version__}],
    }
    ignored = place / ".bidsignore"
    try:
        if not (place / "dataset_description.json").exists():
            write_json(folder / "dataset_description.json", description)
        if not (place / "README.md").exists():
            write_text(folder / "README.md", README)
        known = ignored.read_text(encoding="utf-8").splitlines() if ignored.exists() else []
        if more := [pattern for pattern in UNKNOWN_TO_BIDS if pattern not in known]:
            write_text(folder / ".bidsignore", "\n".join([*known, *more]) + "\n")
    except (OSError, ValueError) as error:
        raise OutputError(f"{place}: cannot be written ({error}); give a folder of yours to -o") from error


README = """# veridice: can these lesion masks be trusted?

Made by veridice from scans without any true mask: a predicted Dice with an interval, maps of where a mask is doubtful, and a
verdict (accept, review, reject). `*_report.html` is the page of a scan, `report.html` that of the study, `veridice.tsv` its
table. Maps lie on the FLAIR's own grid. Research use only, not a medical device.
"""


def read_assessment(path: Path) -> Assessment:
    """Read a stored assessment.

    Raises:
        InputError: missing or not an assessment.
    """
    try:
        return Assessment.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a stored assessment; run veridice check again") from error
