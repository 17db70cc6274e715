"""Two visits of one person: registered into a space halfway between, lesions matched, volumes compared. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import Field
from scipy.linalg import fractional_matrix_power

from veridice._version import __version__
from veridice.case import Assessment
from veridice.cohort.records import read_record
from veridice.config import Frozen
from veridice.errors import InputError, VeridiceError
from veridice.imaging.registration import Alignment, align, resample_aligned
from veridice.imaging.volume import Geometry, Volume
from veridice.io.atomic import write_json
from veridice.io.bids import ASSESSMENT_SUFFIX, read_assessment
from veridice.io.bids_dataset import BidsScan
from veridice.io.nifti import read_image, read_mask
from veridice.metrics.overlap import dice
from veridice.quality.lesion_changes import match_lesions
from veridice.quality.volume_change import volume_change
from veridice.types import Affine

FOLDER = "visits"
HALF, EDGE_MM, RIM_MM = 0.5, 1.0, 8.0
"""Threshold of a moved mask; voxels of the halfway space and the rim around the lesions (mm)."""
KINDS = ("new", "gone", "grown", "shrunk", "unchanged", "fragment")


@dataclass(frozen=True)
class Visit:
    """One judged scan of a person.

    Args:
        scan: of the data set.
        assessment: of its mask.
        folder: where its results lie.
        checksum: of its record.
    """

    scan: BidsScan
    assessment: Assessment
    folder: Path
    checksum: str

    @property
    def volume(self) -> tuple[float, float]:
        """Volume of the judged mask, and the deviation of the passes' volume (0 where an older result does not tell it), ml."""
        deviation = self.assessment.scores.get("passes_volume_deviation_ml") or 0.0
        return self.assessment.volumes_ml["judged_mask"], float(deviation)

    def mask(self) -> Volume:
        """The judged mask."""
        name = "input_mask" if "input_mask" in self.assessment.maps else "lesion_mask"
        file = self.folder / self.assessment.maps[name]
        return read_mask(file, read_image(self.scan.flair).geometry)


class VisitPair(Frozen):
    """What changed from one visit to the next; stored in ``visits/``."""

    participant: str
    first: str = Field(description="earlier scan")
    second: str
    checksum: str = Field(description="of both results; another one means: measure again")
    volume_before_ml: float
    volume_after_ml: float
    change_ml: float
    change_low_ml: float = Field(description="interval of the true change, coverage 90 %")
    change_high_ml: float
    more_than_noise: bool
    least_change_ml: float = Field(description="smallest change that could have been told")
    agreement: float | None = Field(None, description="Dice of the two masks in the space halfway")
    moved_mm: float | None = None
    lesions: dict[str, int] = Field({}, description="groups of lesions by what became of them")
    merged: int = 0
    split: int = 0
    new_ml: float | None = None
    gone_ml: float | None = None
    doubt: str = Field("", description="why lesions were not matched, or why one of the masks is likely wrong")
    version: str = __version__


def visits_of(output: Path, scans: Sequence[BidsScan], order: dict[str, str]) -> Iterator[tuple[Visit, Visit]]:
    """Consecutive judged visits of every person, one scan a session.

    Args:
        output: folder of derivatives.
        scans: of the data set.
        order: what sessions are ordered by, by scan: the time of acquisition where it is known.
    """
    people: dict[str, dict[str, Visit]] = {}
    for scan in sorted(scans, key=lambda scan: scan.name):
        visit = _visit(output, scan) if scan.session else None
        if visit is not None:
            people.setdefault(scan.subject, {}).setdefault(scan.session, visit)
    for sessions in people.values():
        ordered = sorted(sessions.values(), key=lambda visit: (order.get(visit.scan.name) or "", visit.scan.session))
        yield from pairwise(ordered)


def _visit(output: Path, scan: BidsScan) -> Visit | None:
    record = read_record(output, scan.name)
    if record is None or record.status != "done":
        return None
    stored = next((name for name in record.files if name.endswith(ASSESSMENT_SUFFIX)), None)
    with suppress(InputError):
        if stored is not None:
            assessment = read_assessment(output / stored)
            checksum = hashlib.sha256(record.model_dump_json().encode()).hexdigest()
            return Visit(scan, assessment, (output / stored).parent, checksum)
    return None


def measured_pair(output: Path, pair: tuple[Visit, Visit]) -> VisitPair:
    """What changed, from an earlier measurement of the same results, or measured now and stored."""
    first, second = pair
    place = output / FOLDER / f"{first.scan.name}_to_{second.scan.session}.json"
    checksum = hashlib.sha256(f"{first.checksum}{second.checksum}{__version__}".encode()).hexdigest()
    with suppress(OSError, ValueError):
        known = VisitPair.model_validate_json(place.read_text(encoding="utf-8"))
        if known.checksum == checksum:
            return known
    measured = measure_pair(first, second, checksum)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_json(place, measured.model_dump(mode="json"))
    return measured


def measure_pair(first: Visit, second: Visit, checksum: str = "") -> VisitPair:
    """Register, match and compare two visits; lesions are not matched where no certain place was found."""
    change = volume_change(first.volume, second.volume)
    pair = VisitPair(
        participant=f"sub-{first.scan.subject}",
        first=first.scan.name,
        second=second.scan.name,
        checksum=checksum,
        volume_before_ml=first.volume[0],
        volume_after_ml=second.volume[0],
        change_ml=change.change,
        change_low_ml=change.low,
        change_high_ml=change.high,
        more_than_noise=change.more_than_noise,
        least_change_ml=change.least,
    )
    try:
        flairs = [read_image(visit.scan.flair) for visit in (first, second)]
        alignment = align(*flairs)
        if alignment.doubt:
            return pair.model_copy(update={"doubt": f"the visits could not be registered: {alignment.doubt}"})
        masks = halfway([first.mask(), second.mask()], alignment)
    except VeridiceError as error:
        reason = " ".join(str(error).split())
        for visit in (first, second):
            reason = reason.replace(str(visit.folder), "").replace(str(visit.scan.flair), visit.scan.flair.name)
        return pair.model_copy(update={"doubt": f"the visits could not be read: {reason}"})
    return _with_lesions(pair, masks, alignment)


def _with_lesions(pair: VisitPair, masks: list[Volume], alignment: Alignment) -> VisitPair:
    before, after = (mask.voxels for mask in masks)
    changes = match_lesions(before, after, masks[0].geometry.voxel_volume_ml)
    counts = {kind: sum(change.kind == kind for change in changes) for kind in KINDS}
    return pair.model_copy(
        update={
            "agreement": dice(before, after).dice,
            "moved_mm": round(alignment.distance, 2),
            "lesions": counts,
            "merged": sum(change.merged for change in changes),
            "split": sum(change.split for change in changes),
            "new_ml": sum(change.volume_after_ml for change in changes if change.kind == "new"),
            "gone_ml": sum(change.volume_before_ml for change in changes if change.kind == "gone"),
        }
    )


def halfway(masks: Sequence[Volume], alignment: Alignment) -> list[Volume]:
    """Both masks on one grid in the space halfway between the visits, so that neither is treated worse (Reuter et al. 2012).

    Args:
        masks: of the first and the second visit, each in its own space.
        alignment: from points of the first to points of the second.
    """
    half = np.real(fractional_matrix_power(alignment.move, HALF))
    ways = [np.linalg.inv(half), half]
    grid = _grid_around(masks, ways)
    moved = []
    for mask, way in zip(masks, ways, strict=True):
        share = mask.with_voxels(mask.voxels.astype(np.float32))
        moved.append(resample_aligned(share, replace(alignment, move=way), grid))
    return [volume.with_voxels(volume.voxels >= HALF) for volume in moved]


def _grid_around(masks: Sequence[Volume], ways: Sequence[Affine]) -> Geometry:
    """Cubic voxels around all that is marked."""
    points = []
    for mask, way in zip(masks, ways, strict=True):
        marked = np.argwhere(mask.voxels).astype(np.float64)
        if not len(marked):
            marked = np.array([mask.voxels.shape]) / 2
        there = moved_points(np.linalg.inv(way) @ mask.affine, marked)
        points += [there.min(axis=0), there.max(axis=0)]
    low, high = np.min(points, axis=0) - RIM_MM, np.max(points, axis=0) + RIM_MM
    affine = np.diag([EDGE_MM, EDGE_MM, EDGE_MM, 1.0])
    affine[:3, 3] = low
    shape = np.ceil((high - low) / EDGE_MM).astype(int) + 1
    return Geometry((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def moved_points(affine: Affine, points: Any) -> Any:
    """Points (n, 3) under an affine."""
    return points @ affine[:3, :3].T + affine[:3, 3]


COLUMNS = {
    "participant_id": "Participant",
    "first": "Earlier scan",
    "second": "Later scan",
    "volume_before_ml": "Lesion volume of the judged mask at the earlier visit, mL",
    "volume_after_ml": "At the later visit",
    "change_ml": "Later minus earlier",
    "change_low_ml": "Lower end of the interval of the true change, coverage 90 %",
    "change_high_ml": "Upper end",
    "more_than_noise": "yes: the change is more than noise",
    "least_change_ml": "Smallest change that could have been told",
    **{kind: f"Groups of lesions that are {kind}" for kind in KINDS},
    "merged": "Lesions that were several before",
    "split": "Lesions that are several now",
    "new_ml": "Volume of new lesions, mL",
    "gone_ml": "Volume of lesions that are gone, mL",
    "agreement": "Dice of the two masks in the space halfway between the visits",
    "doubt": "Why lesions were not matched, or why a mask is likely wrong",
}
"""Of ``visits.tsv``, a row a pair of visits."""


def tabulate_visits(pairs: Sequence[VisitPair]) -> pd.DataFrame:
    """A row a pair with :data:`COLUMNS`."""
    rows = []
    for pair in pairs:
        row = {**pair.model_dump(), **{kind: pair.lesions.get(kind) for kind in KINDS}}
        rows.append({**row, "participant_id": pair.participant, "more_than_noise": "yes" if pair.more_than_noise else "no"})
    return pd.DataFrame(rows).reindex(columns=list(COLUMNS))
