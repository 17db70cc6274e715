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
from nibabel.affines import apply_affine
from pydantic import Field
from scipy.linalg import fractional_matrix_power

from veridice._version import __version__
from veridice.case import Assessment
from veridice.cohort.records import read_record
from veridice.config import Frozen
from veridice.errors import InputError, VeridiceError
from veridice.imaging.registration import Alignment, align, resample_aligned
from veridice.imaging.volume import Geometry, Volume
from veridice.io.atomic import write_json, write_text, written
from veridice.io.bids import ASSESSMENT_SUFFIX, in_time, neutral_cell, read_assessment
from veridice.io.bids_dataset import BidsScan, describe_scans
from veridice.io.nifti import read_image, read_mask
from veridice.metrics.overlap import dice
from veridice.quality.lesion_changes import match_lesions
from veridice.quality.volume_change import VisitVolume, volume_change
from veridice.report.visits_page import write_visits_page
from veridice.types import Affine

FOLDER = "visits"
HALF, EDGE_MM, RIM_MM = 0.5, 1.0, 8.0
"""Threshold of a moved mask; voxels of the halfway space and the rim around the lesions (mm)."""
LEAST_PREDICTED, LEAST_AGREEMENT = 0.6, 0.5
"""Two visits contradict each other where each mask is expected to be so good, and they agree by less than this share of what is
expected of them."""
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
    def volume(self) -> VisitVolume:
        """Volume of the judged mask, and those of the passes."""
        model = self.assessment.model
        drawn_with = f"{model.get('weights', {}).get('segmenter')} {model.get('seed')}"
        return VisitVolume(self.assessment.volumes_ml["judged_mask"], self.assessment.passes_volumes_ml, drawn_with)

    def mask(self) -> Volume:
        """The judged mask."""
        file = self.folder / self.assessment.maps[self.assessment.judged_map]
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
        order: time of acquisition by scan, where it is known.
    """
    people: dict[str, dict[str, Visit]] = {}
    for scan in sorted(scans, key=lambda scan: scan.name):
        visit = _visit(output, scan) if scan.session else None
        if visit is not None:
            people.setdefault(scan.subject, {}).setdefault(scan.session, visit)
    for sessions in people.values():
        ordered = in_time({session: order.get(visit.scan.name, "") for session, visit in sessions.items()})
        yield from pairwise(sessions[session] for session in ordered)


def order_of(dataset: Path, scans: Sequence[BidsScan]) -> dict[str, str]:
    """Time of acquisition of each scan, where the data set tells it."""
    told = describe_scans(dataset, scans)
    return {scan: str(when) for scan, when in zip(told["scan"], told["acquired"], strict=True) if pd.notna(when)}


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
    with written(output):
        place.parent.mkdir(exist_ok=True)
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
        volume_before_ml=first.volume.volume_ml,
        volume_after_ml=second.volume.volume_ml,
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
    predicted = first.assessment.predicted_dice, second.assessment.predicted_dice
    return _with_lesions(pair, masks, alignment, predicted)


def _with_lesions(pair: VisitPair, masks: list[Volume], alignment: Alignment, predicted: tuple[float, float]) -> VisitPair:
    before, after = (mask.voxels for mask in masks)
    agreement = dice(before, after).dice
    changes = match_lesions(before, after, masks[0].geometry.voxel_volume_ml)
    counts = {kind: sum(change.kind == kind for change in changes) for kind in KINDS}
    return pair.model_copy(
        update={
            "agreement": agreement,
            "doubt": poor_mask(predicted) or contradiction(agreement, (pair.volume_before_ml, pair.volume_after_ml), predicted),
            "moved_mm": round(alignment.distance, 2),
            "lesions": counts,
            "merged": sum(change.merged for change in changes),
            "split": sum(change.split for change in changes),
            "new_ml": sum(change.volume_after_ml for change in changes if change.kind == "new"),
            "gone_ml": sum(change.volume_before_ml for change in changes if change.kind == "gone"),
        }
    )


def poor_mask(predicted: tuple[float, float]) -> str:
    """A sentence where one of the masks is expected to be so poor that what changed may be its error."""
    if min(predicted) >= LEAST_PREDICTED:
        return ""
    worse, value = ("earlier", predicted[0]) if predicted[0] < predicted[1] else ("later", predicted[1])
    return f"the mask of the {worse} visit is expected to be poor ({value:.2f}): a change may be its error"


def contradiction(agreement: float, volumes: tuple[float, float], predicted: tuple[float, float]) -> str:
    """A sentence where two masks of one person have less in common than masks that are each as good as expected would.

    Two good masks of the same lesions agree by about the product of their Dice with the truth; lesions that came or went lower
    that to what their volumes allow.

    Args:
        agreement: Dice of the two masks.
        volumes: of both, ml.
        predicted: Dice of both.
    """
    total = sum(volumes)
    possible = 2 * min(volumes) / total if total else 1.0
    expected = possible * predicted[0] * predicted[1]
    if min(predicted) < LEAST_PREDICTED or agreement >= LEAST_AGREEMENT * expected:
        return ""
    worse = "earlier" if predicted[0] < predicted[1] else "later"
    return (
        f"the masks of the two visits agree by {agreement:.2f} only, although each alone is expected to be good "
        f"({predicted[0]:.2f} and {predicted[1]:.2f}): one is likely wrong, rather that of the {worse} visit"
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
        there = apply_affine(np.linalg.inv(way) @ mask.affine, marked)
        points += [there.min(axis=0), there.max(axis=0)]
    low, high = np.min(points, axis=0) - RIM_MM, np.max(points, axis=0) + RIM_MM
    affine = np.diag([EDGE_MM, EDGE_MM, EDGE_MM, 1.0])
    affine[:3, 3] = low
    shape = np.ceil((high - low) / EDGE_MM).astype(int) + 1
    return Geometry((int(shape[0]), int(shape[1]), int(shape[2])), affine)


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


def write_visits(output: Path, name: str, pairs: Sequence[VisitPair]) -> None:
    """Write ``visits.tsv`` with its dictionary and the page ``visits.html``; nothing where nobody has two visits.

    Args:
        output: folder of derivatives.
        name: what the page calls the study.
        pairs: of :func:`measured_pair`.

    Raises:
        OutputError: they cannot be written.
    """
    if not pairs:
        return
    people: dict[str, list[VisitPair]] = {}
    for pair in pairs:
        people.setdefault(pair.participant, []).append(pair)
    rows: list[dict[str, Any]] = [
        {
            "participant": participant,
            "pairs": own,
            "volumes": [own[0].volume_before_ml, *(pair.volume_after_ml for pair in own)],
            "sessions": [_session(own[0].first), *(_session(pair.second) for pair in own)],
        }
        for participant, own in people.items()
    ]
    rows.sort(key=lambda row: -max(abs(pair.change_ml) / pair.least_change_ml for pair in row["pairs"]))
    with written(output):
        table = tabulate_visits(pairs).map(neutral_cell)
        text = table.to_csv(sep="\t", index=False, float_format="%.6g", na_rep="n/a", lineterminator="\n")
        write_text(output / "visits.tsv", text)
        write_json(output / "visits.json", {column: {"Description": text} for column, text in COLUMNS.items()})
        write_visits_page(output / "visits.html", name, rows)


def _session(scan: str) -> str:
    return next((part for part in scan.split("_") if part.startswith("ses-")), scan)
