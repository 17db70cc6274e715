"""What a judged study holds for the desk: its scans, their files, and whether these are still what was judged. No torch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from veridice.case import Assessment
from veridice.cohort.records import COMPARISON, RECORDS, Record, read_record
from veridice.config import LESION
from veridice.errors import InputError
from veridice.io.bids import ASSESSMENT_SUFFIX, MAPS, REPORT_SUFFIX, THUMBNAIL_SUFFIX, in_time, read_assessment

LAYERS = {
    "flair": ("FLAIR", "image"),
    "t1": ("T1w", "image"),
    "judged_mask": ("Judged mask", "mask"),
    "own_mask": ("Mask of veridice", "mask"),
    "probability": ("Lesion probability", "map"),
    "entropy": ("Entropy", "map"),
    "missed": ("Missed", "map"),
    "false_positive": ("Falsely marked", "map"),
    "numbers": ("Lesion numbers", "labels"),
}
"""What the viewer can show of a scan: its name in words, and how it is drawn."""
FROM_MAPS = {
    "probability": "lesion_probability",
    "entropy": "entropy",
    "missed": "missed",
    "false_positive": "false_positive",
    "numbers": "lesion_numbers",
}
T1W = re.compile(r"_T1w\.nii(\.gz)?$")


@dataclass(frozen=True)
class StudiedScan:
    """One scan of a study, with the files that the desk may hand out.

    Args:
        name: beginning of its file names.
        participant, session: with ``sub-`` and ``ses-``; no session is empty.
        folder: of its results, relative to the study's.
        record: what was done to it.
        assessment: None where it could not be judged.
        layers: files by the names of :data:`LAYERS`; only those that are there.
        site, acquired: of the participant, and when; where the table of the study says so.
        looks: size and time of each layer when it was last read, by which a changed file is noticed.
        version: checksum of what a person looks at, the record and the judged mask's size; a rating is of one version.
    """

    name: str
    participant: str
    session: str
    folder: Path
    record: Record
    assessment: Assessment | None
    layers: Mapping[str, Path]
    site: str = ""
    acquired: str = ""
    looks: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    version: str = ""

    @property
    def needs_look(self) -> bool:
        """A scan that was judged has a mask to look at."""
        return self.assessment is not None and {"flair", "judged_mask"} <= self.layers.keys()

    def value(self, name: str) -> float | None:
        """A score of the assessment, or None."""
        return self.assessment.scores.get(name) if self.assessment else None


def open_study(output: Path, dataset: Path | None) -> dict[str, StudiedScan]:
    """The scans of a folder of derivatives that ``veridice run`` made, by name.

    Args:
        output: the folder.
        dataset: root of the BIDS data set, where the FLAIR and T1w are; None: looked for above ``output``.

    Raises:
        InputError: it is no such folder, or the scans are not found.
    """
    if not (output / RECORDS).is_dir():
        raise InputError(f"{output}: holds no judged study; run veridice run BIDS_DIR {output.name} participant first")
    dataset = dataset or dataset_of(output)
    described = _described(output)
    scans = {}
    for file in sorted((output / RECORDS).glob("*.json")):
        record = None if file.stem.endswith(COMPARISON) else read_record(output, file.stem)
        if record is not None and record.scan == file.stem:
            scans[record.scan] = read_scan_of_study(output, dataset, record, *described.get(record.scan, ("", "")))
    if not scans:
        raise InputError(f"{output}: no scan was judged yet; run veridice run … participant first")
    judged = [scan for scan in scans.values() if scan.assessment]
    if other := next((scan.assessment.task for scan in judged if scan.assessment and scan.assessment.task != LESION), None):
        raise InputError(f"{output}: is a study of the {other.target}; the desk is for lesions, look at report.html there")
    if judged and not any("flair" in scan.layers for scan in judged):
        raise InputError(f"{dataset}: holds none of the FLAIRs that were judged; give the root of the data set to --bids-dir")
    if judged and not any(scan.needs_look for scan in judged):
        raise InputError(f"{output}: holds none of the masks that were judged; copy the folder whole, or run veridice again")
    return scans


def dataset_of(output: Path) -> Path:
    """Root of the data set whose derivatives a folder holds; the folder above where there is none."""
    above = [folder for folder in output.resolve().parents[:4] if (folder / "dataset_description.json").is_file()]
    return above[0] if above else output.resolve().parent


def _described(output: Path) -> dict[str, tuple[str, str]]:
    """Site and time of acquisition of each scan, from the table that ``veridice run … group`` wrote; nothing without it."""
    import csv

    with suppress(OSError, ValueError, KeyError), (output / "veridice.tsv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
        return {row["scan"]: (_known(row.get("site")), _known(row.get("acquired"))) for row in rows}
    return {}


def _known(cell: str | None) -> str:
    return "" if cell in (None, "n/a") else str(cell)


def read_scan_of_study(output: Path, dataset: Path, record: Record, site: str = "", acquired: str = "") -> StudiedScan:
    """One scan as it is on the disk now."""
    folder = Path(record.files[0]).parent if record.files else Path()
    session = next((part for part in folder.parts if part.startswith("ses-")), "")
    participant = next((part for part in folder.parts if part.startswith("sub-")), record.scan.split("_")[0])
    assessment, layers = None, {}
    stored = next((name for name in record.files if name.endswith(ASSESSMENT_SUFFIX)), None)
    if record.status == "done" and stored is not None:
        with suppress(InputError):
            assessment = read_assessment(output / stored)
            layers = dict(_layers(output / folder, dataset / folder, record, assessment))
    looks = {name: look for name, path in layers.items() if (look := _look(path)) is not None}
    size = looks.get("judged_mask", (0, 0))[0]
    version = hashlib.sha256(f"{record.model_dump_json()}{size}".encode()).hexdigest()[:32]
    return StudiedScan(record.scan, participant, session, folder, record, assessment, layers, site, acquired, looks, version)


def _layers(results: Path, images: Path, record: Record, assessment: Assessment) -> Iterator[tuple[str, Path]]:
    names = [entry.name for entry in record.inputs]
    files = {"flair": images / names[0] if names else None}
    files["t1"] = next((images / name for name in names[1:] if T1W.search(name)), None)
    files["judged_mask"] = _map(results, assessment, assessment.judged_map)
    files["own_mask"] = _map(results, assessment, "lesion_mask") if "input_mask" in assessment.maps else None
    files |= {layer: _map(results, assessment, name) for layer, name in FROM_MAPS.items()}
    for layer, path in files.items():
        if path is not None and path.is_file():
            yield layer, path


def _map(results: Path, assessment: Assessment, name: str) -> Path | None:
    """A stored map; the record names plain files beside it, so anything else is none."""
    file = assessment.maps.get(name)
    return results / file if file and Path(file).name == file and name in MAPS else None


def _look(path: Path) -> tuple[int, int] | None:
    with suppress(OSError):
        state = path.stat()
        return state.st_size, state.st_mtime_ns
    return None


def moved_layers(scan: StudiedScan) -> set[str]:
    """Layers whose file is another than when the scan was read."""
    return {name for name, look in scan.looks.items() if _look(scan.layers[name]) != look}


def unlike_record(scan: StudiedScan) -> set[str]:
    """Images that are not those that were judged, by their size."""
    known = {entry.name: entry.size for entry in scan.record.inputs}
    looks = {name: scan.looks.get(name) for name in ("flair", "t1")}
    return {name for name, look in looks.items() if look is not None and look[0] != known.get(scan.layers[name].name)}


def previous_visit(scans: Mapping[str, StudiedScan], scan: StudiedScan) -> StudiedScan | None:
    """The latest earlier visit of the same participant that can be shown."""
    visits = {
        other.session: other
        for other in scans.values()
        if other.participant == scan.participant and other.session and other.needs_look
    } | {scan.session: scan}
    ordered = in_time({session: visit.acquired for session, visit in visits.items()})
    earlier = ordered[: ordered.index(scan.session)]
    return visits[earlier[-1]] if scan.session and earlier else None


def page_of(scan: StudiedScan, suffix: str) -> str | None:
    """Relative path of a page or picture of the scan."""
    if suffix not in (REPORT_SUFFIX, THUMBNAIL_SUFFIX):
        return None
    return next((name for name in scan.record.files if name.endswith(suffix)), None)


def describe(scan: StudiedScan) -> dict[str, Any]:
    """What the list of scans says of one, where nothing is hidden."""
    told: dict[str, Any] = {
        "scan": scan.name,
        "participant": scan.participant,
        "session": scan.session,
        "site": scan.site,
        "status": scan.record.status if scan.assessment or scan.record.status == "failed" else "missing",
        "reason": scan.record.reason,
    }
    if scan.assessment is not None:
        told |= {
            "verdict": scan.assessment.verdict,
            "predicted_dice": scan.assessment.predicted_dice,
            "interval": scan.assessment.interval,
            "volume_ml": scan.assessment.volumes_ml.get("judged_mask"),
            "lesion_count": scan.value("lesion_count"),
            "judged_mask": scan.assessment.judged_mask,
        }
    return told
