"""Which scans a BIDS data set has: the contrasts of every session, with what the data set says of them."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from veridice.config import CONTRASTS, LESION, Task
from veridice.errors import InputError
from veridice.io.image_header import is_unfetched_link

ENTITIES = {
    "subject": "sub",
    "session": "ses",
    "acquisition": "acq",
    "ceagent": "ce",
    "reconstruction": "rec",
    "direction": "dir",
    "inversion": "inv",
    "resolution": "res",
    "extension": "ext",
}
"""Long names of entities, as BIDS filter files have them (fMRIPrep's ``--bids-filter-file``), to those in file names."""
KINDS = {"flair": "FLAIR", "t1w": "T1w"}
"""Queries of a filter file and the suffix of the files that they choose from."""
IMAGES = (".nii", ".nii.gz")
NAMES_A_SCAN = ("sub", "ses", "acq", "ce", "rec", "run", "echo", "part", "inv")
SITES = ("site", "site_id", "centre", "center", "institution", "hospital")
"""Columns of ``participants.tsv`` that name the site, the first that is there."""
VALIDATOR = "bids-validator-deno"
VALIDATION_SECONDS = 1800
Filter = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class BidsScan:
    """One FLAIR of a data set and the T1w that goes with it; of a task that takes no FLAIR the T1w is in its place.

    Args:
        name: beginning of the FLAIR's file name, such as ``sub-01_ses-2``.
        subject, session: without ``sub-`` and ``ses-``; no session is empty.
        flair, t1: files; no T1w is None.
    """

    name: str
    subject: str
    session: str
    flair: Path
    t1: Path | None

    @property
    def folder(self) -> Path:
        """Where its results lie in a folder of derivatives."""
        return Path(f"sub-{self.subject}", *([f"ses-{self.session}"] if self.session else []), "anat")


def check_dataset(folder: Path) -> str:
    """Name of a BIDS data set; what its ``dataset_description.json`` must say is there.

    Raises:
        InputError: it is none.
    """
    file = folder / "dataset_description.json"
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; give the root of a BIDS data set")
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return str(said["Name"]) if said["BIDSVersion"] else ""
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file}: needed with Name and BIDSVersion; give the root of a BIDS data set, or --skip-bids-validation"
        ) from error


def validate_dataset(folder: Path) -> str:
    """Ask the BIDS validator (the extra ``validator``); returns a note where it is not installed or does not answer.

    Raises:
        InputError: it finds errors.
    """
    beside = Path(sys.executable).with_name(VALIDATOR)
    program = str(beside) if beside.exists() else shutil.which(VALIDATOR)
    if program is None:
        return "the data set was not validated: pip install 'veridice[validator]'"
    try:
        # It must not ask its servers for a newer schema.
        done = subprocess.run(
            [program, str(folder), "--json", "--ignoreWarnings", "--ignoreNiftiHeaders"],
            capture_output=True,
            text=True,
            timeout=VALIDATION_SECONDS,
        )
        found = json.loads(done.stdout)["issues"]["issues"]
    except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired) as error:
        return f"the data set was not validated: {VALIDATOR} failed ({type(error).__name__})"
    if errors := [issue for issue in found if issue.get("severity") == "error" and not _is_unfetched(folder, issue)]:
        first = "; ".join(f"{issue.get('code')} {issue.get('location', '')}".strip() for issue in errors[:3])
        raise InputError(f"{folder}: no valid BIDS, {len(errors)} errors ({first}); mend them or give --skip-bids-validation")
    return ""


def _is_unfetched(folder: Path, issue: Mapping[str, Any]) -> bool:
    """Content that git-annex has elsewhere is no fault of the data set; of the scans that need it, it is said."""
    place = folder / str(issue.get("location", "")).lstrip("/")
    return issue.get("code") == "SYMLINK_BROKEN" and is_unfetched_link(place)


def read_filter(path: Path) -> dict[str, dict[str, Any]]:
    """A BIDS filter file: JSON with ``flair`` and ``t1w``, each entities with a value, a list, or null for 'must be absent'.

    Raises:
        InputError: unreadable, or it names what there is not.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f'{path}: not a JSON file; write for example {{"flair": {{"acquisition": "3d"}}}}') from error
    if not isinstance(content, dict) or not all(isinstance(query, dict) for query in content.values()):
        raise InputError(f'{path}: not a BIDS filter; write for example {{"flair": {{"acquisition": "3d"}}}}')
    if unknown := sorted(set(content) - set(KINDS)):
        raise InputError(f"{path}: chooses '{unknown[0]}', which is not looked for; use {' and '.join(KINDS)}")
    return content


def find_scans(
    folder: Path,
    subjects: Sequence[str] = (),
    sessions: Sequence[str] = (),
    chosen: Filter | None = None,
    task: Task = LESION,
) -> list[BidsScan]:
    """Every FLAIR of a data set, with the T1w of the same session whose name is most like it; or what another task takes.

    Args:
        folder: root of the data set.
        subjects, sessions: only these, with or without ``sub-`` and ``ses-``; all when empty.
        chosen: from :func:`read_filter`.
        task: whose contrasts are looked for.

    Raises:
        InputError: there is none.
    """
    # Imported here as it takes a second that a single check need not wait for; what it logs is said by our own messages.
    from bids2table import index_dataset

    logging.getLogger("bids2table").setLevel(logging.CRITICAL)

    wanted = [f"sub-{label.removeprefix('sub-')}" for label in subjects]
    try:
        files = index_dataset(folder, wanted or None).to_pandas()
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: cannot be read as a BIDS data set ({error}); give its root") from error
    files = files[(files["datatype"] == "anat") & files["ext"].isin(IMAGES)].sort_values("path")
    if absent := sorted(set(wanted) - {f"sub-{label}" for label in files["sub"]}):
        raise InputError(f"{folder}: no scans of {', '.join(absent[:5])}; see --participant-label")
    if sessions:
        files = files[files["ses"].isin([label.removeprefix("ses-") for label in sessions])]
    found = {suffix: _choose(files[files["suffix"] == suffix], (chosen or {}).get(kind, {})) for kind, suffix in KINDS.items()}
    first, *second = (CONTRASTS[contrast] for contrast in task.contrasts)
    others = found[second[0]] if second else found[first].iloc[:0]
    by_session: dict[Any, pd.DataFrame] = dict(list(others.groupby([others["sub"], others["ses"].fillna("")])))
    scans = [_scan(folder, row, by_session) for _, row in found[first].iterrows()]
    if not scans:
        raise InputError(f"{folder}: no {first} found (sub-*/[ses-*/]anat/*_{first}.nii.gz); check labels, sessions and filter")
    return scans


def without_scans(folder: Path, scans: Sequence[BidsScan]) -> list[str]:
    """Subjects of a data set that none of ``scans`` is of, with ``sub-``."""
    found = {f"sub-{scan.subject}" for scan in scans}
    return sorted(path.name for path in folder.glob("sub-*") if path.is_dir() and path.name not in found)


def _choose(files: pd.DataFrame, query: Mapping[str, Any]) -> pd.DataFrame:
    for name, value in query.items():
        column = ENTITIES.get(name, name)
        if column not in files:
            raise InputError(f"BIDS filter: there is no entity '{name}'; use subject, session, acquisition, run ...")
        if value is None:
            files = files[files[column].isna()]
        elif value != "*":
            values = {str(one).removeprefix(f"{column}-") for one in (value if isinstance(value, list) else [value])}
            found = files[column].map(lambda one, column=column: _label(one, column))
            files = files[found.isin({_label(one, column) for one in values})]
    return files


def _label(value: Any, column: str) -> str:
    """Numbers are compared without leading zeros, as runs and echoes are."""
    text = "" if pd.isna(value) else str(value)
    return text.removesuffix(".0").lstrip("0") or "0" if column in ("run", "echo", "inv") and text else text


def _scan(folder: Path, row: pd.Series[Any], t1s: Mapping[Any, pd.DataFrame]) -> BidsScan:
    session = "" if pd.isna(row["ses"]) else str(row["ses"])
    flair = Path(row["path"])
    # The same contrast agent, acquisition and run go before; the first by name where all are alike.
    others = t1s.get((row["sub"], session))
    t1 = None
    if others is not None:
        likeness = [sum(_same(row[name], other[name]) for name in NAMES_A_SCAN) for other in others.to_dict("records")]
        t1 = folder / others["path"].iloc[likeness.index(max(likeness))]
    name = flair.name.split(".")[0].removesuffix(f"_{row['suffix']}")
    return BidsScan(name, str(row["sub"]), session, folder / flair, t1)


def _same(one: Any, other: Any) -> bool:
    return bool(pd.isna(one) and pd.isna(other)) or one == other


def describe_scans(folder: Path, scans: Sequence[BidsScan]) -> pd.DataFrame:
    """What the data set says of its scans: ``scan``, and where it says so ``site``, ``scanner`` and ``acquired``.

    Sites come from ``participants.tsv``, scanners from the sidecars (maker, model, field strength; no serial numbers), times
    from ``*_scans.tsv`` or else ``*_sessions.tsv``.
    """
    participants = _table(folder / "participants.tsv", "participant_id")
    column = next((name for name in SITES if name in participants), None)
    sites = participants[column].to_dict() if column else {}
    times: dict[Path, dict[Any, str]] = {}
    rows = [
        (scan.name, sites.get(f"sub-{scan.subject}"), _scanner(scan.flair), _acquired(folder, scan, times)) for scan in scans
    ]
    return pd.DataFrame(rows, columns=["scan", "site", "scanner", "acquired"])


def _scanner(flair: Path) -> str | None:
    from bids2table import load_bids_metadata

    try:
        sidecar = load_bids_metadata(flair)
    except (OSError, ValueError):
        return None
    strength = sidecar.get("MagneticFieldStrength")
    parts = [sidecar.get("Manufacturer"), sidecar.get("ManufacturersModelName"), f"{strength} T" if strength else None]
    return " ".join(str(part) for part in parts if part) or None


def _acquired(folder: Path, scan: BidsScan, known: dict[Path, dict[Any, str]]) -> str | None:
    subject = folder / f"sub-{scan.subject}"
    stem = f"sub-{scan.subject}_ses-{scan.session}" if scan.session else f"sub-{scan.subject}"
    scans = scan.flair.parents[1] / f"{stem}_scans.tsv"
    for file, key, name in (
        (scans, "filename", f"anat/{scan.flair.name}"),
        (subject / f"sub-{scan.subject}_sessions.tsv", "session_id", f"ses-{scan.session}"),
    ):
        if file not in known:
            table = _table(file, key)
            known[file] = dict(table["acq_time"].dropna().astype(str).items()) if "acq_time" in table else {}
        if time := known[file].get(name):
            return time
    return None


def _table(file: Path, key: str) -> pd.DataFrame:
    """A TSV by its first column; empty where there is none or it cannot be read."""
    try:
        table = pd.read_csv(file, sep="\t", dtype=str, keep_default_na=False, na_values=["n/a"])
    except (OSError, ValueError):
        return pd.DataFrame()
    return table.drop_duplicates(key).set_index(key) if key in table else pd.DataFrame()
