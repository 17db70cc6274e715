"""What is judged (a case) and what came of it (an assessment)."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import ConfigDict, Field

from veridice.config import LESION, Frozen, Task


def plain_name(name: str) -> str:
    """A name fit for terminals, tables and JSON: what cannot be shown, such as escape codes, is a question mark."""
    return "".join("?" if unicodedata.category(letter).startswith("C") else letter for letter in name)


SIMULATED_CALIBRATION = "simulated_calibration"
"""Code of the notice that verdict and interval rest on simulated scans."""


class Notice(NamedTuple):
    """Something that a reader should know of a scan or a mask.

    Args:
        code: what it is about, for programs.
        text: a sentence without a full stop, for people.
    """

    code: str
    text: str


@dataclass(frozen=True)
class Case:
    """Names and files of one scan; every file but the FLAIR may be absent.

    Args:
        id: name within the data set.
        patient: person the scan shows; all scans of one person belong to one split.
        split: ``train``, ``validation`` or ``test``; empty outside training.
        dataset: what it comes from; folds are stratified by it.
        ignored_label: value in ``mask`` of voxels that count for nothing, such as other pathology.
    """

    id: str
    flair: Path | None = None
    t1: Path | None = None
    mask: Path | None = None
    brain_mask: Path | None = None
    ventricles: Path | None = None
    patient: str = ""
    split: str = ""
    dataset: str = ""
    ignored_label: int | None = None


class Calibration(Frozen):
    """On which cases an interval was calibrated."""

    # Results of version 0.1.0 may name a threshold.
    model_config = ConfigDict(extra="ignore")

    source: str = Field(description="what the calibration cases are")
    n: int = Field(description="number of calibration cases")
    simulated: bool = Field(False, description="whether any of them is simulated")
    sha256: str = Field("", description="checksum of all its numbers")


class RankedMask(Frozen):
    """One of several masks of a scan, as it was judged."""

    mask: str = Field(description="name of its file")
    predicted_dice: float
    interval: tuple[float, float]
    verdict: Literal["accept", "review", "reject"]
    volume_ml: float
    agreement_with_passes: float = Field(description="mean Dice with our stochastic passes")
    agreement_with_others: float = Field(description="mean Dice with the other masks, weighted by their predicted Dice")


class Assessment(Frozen):
    """The judgement of one segmentation: one tidy row, and where its maps lie. Stored as JSON beside the maps."""

    case: str = Field(description="name of the scan")
    verdict: Literal["accept", "review", "reject"] = Field(description="accept, review or reject; see docs/any-mask.md")
    predicted_dice: float = Field(description="Dice that the judged mask is expected to have, clipped to [0, 1]")
    judged_mask: str = Field("own", description="file name of the judged mask; own: the one that veridice made")
    ranking: tuple[RankedMask, ...] = Field((), description="all masks of the scan, the best first, where several were given")
    interval: tuple[float, float] | None = Field(None, description="interval of the true Dice")
    coverage: float | None = Field(None, description="share of true values inside such intervals")
    calibration: Calibration | None = Field(None, description="what the interval rests on")
    for_review: bool = Field(
        False, description="nothing is accepted: no known kind of scan, or something is wrong with the files"
    )
    decided_by: str = Field("", description="what gave the verdict: not_bad, not_good, neither, unknown_scan or empty")
    quality_class: Literal["poor", "fair", "good"] | None = Field(
        None, description="the likeliest class: poor below a Dice of 0.5, good from 0.75 on; none where too few cases are known"
    )
    quality_chances: dict[str, float] = Field({}, description="chance of each class")
    p_values: dict[str, float] = Field({}, description="of the tests that the mask is bad, a gross failure, or good")
    scores: dict[str, float | None] = Field(description="see docs/scores.md; sums are over the cube named in model.sum_grid")
    volumes_ml: dict[str, float] = Field(description="millilitres in the FLAIR's own grid")
    passes_volumes_ml: tuple[float, ...] = Field(
        (), description="lesion volume that each stochastic pass draws; with the same seed the same pass at every scan"
    )
    lesions_by_place: dict[str, dict[str, float]] = Field(
        {}, description="count and volume_ml of the judged mask's lesions by place (docs/places.md); empty where not known"
    )
    task: Task = Field(LESION, description="what was segmented and judged")
    warnings: tuple[str, ...] = Field(description="what a reader should know before trusting the numbers")
    warning_codes: tuple[str, ...] = Field((), description="what each of the warnings is about, for programs")
    maps: dict[str, str] = Field(description="name to file; relative to this file when stored")
    tables: dict[str, str] = Field({}, description="name to TSV file; relative to this file when stored")
    seconds: dict[str, float] = Field(description="wall time by stage")
    model: dict[str, Any] = Field(description="weights with checksums, passes, seed, grid, device and precision")
    version: str = Field(description="version of veridice")

    @property
    def judged_map(self) -> str:
        """Name of the map of the judged mask."""
        return "input_mask" if "input_mask" in self.maps else self.task.own_mask

    @property
    def notices(self) -> tuple[Notice, ...]:
        """The warnings with their codes; results of version 0.1.0 have none."""
        return tuple(Notice(code, text) for code, text in zip_longest(self.warning_codes, self.warnings, fillvalue=""))
