"""What came of a scan: the record that is stored, maps, lesions, and how a notebook shows them. No torch."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from veridice.case import Assessment
from veridice.imaging.grid import GridTransform
from veridice.imaging.scan import Scan
from veridice.imaging.volume import Volume
from veridice.metrics.catalogue import LESION_COLUMNS
from veridice.quality.single_lesions import Lesion, LesionModel
from veridice.report.live_view import live_view
from veridice.report.mosaic import draw_mosaic
from veridice.report.pages import VERDICT_WORDS, page_environment

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Images(Mapping[str, nib.Nifti1Image]):
    """Volumes by name, each a NIfTI image once it is asked for."""

    volumes: Mapping[str, Volume]

    def __getitem__(self, name: str) -> nib.Nifti1Image:
        volume = self.volumes[name]
        small = volume.voxels.dtype == bool
        return nib.Nifti1Image(volume.voxels.astype(np.uint8) if small else volume.voxels, volume.affine)

    def __iter__(self) -> Iterator[str]:
        return iter(self.volumes)

    def __len__(self) -> int:
        return len(self.volumes)


@dataclass(frozen=True)
class AssessmentResult:
    """What came of a scan.

    Args:
        assessment: the record; it names files once they are stored.
        scan: on the FLAIR's grid.
        volumes: maps in the FLAIR's own grid, by name.
        found: lesions of the judged mask; numbered in the map ``lesion_numbers``.
        missed: places that look like missed lesions, numbered on.
        places: where in the brain each of both lies, in this order; empty where it is not known.
        lesion_model: for the confidence in either.
        transform: between the FLAIR's grid and the cube.
        preprocessing: JSON-ready record of every step between the scan and the cube.
    """

    assessment: Assessment
    scan: Scan
    volumes: dict[str, Volume]
    found: Sequence[Lesion]
    missed: Sequence[Lesion]
    places: Sequence[str]
    lesion_model: LesionModel
    transform: GridTransform
    preprocessing: dict[str, Any]

    @property
    def verdict(self) -> str:
        """``accept``, ``review`` or ``reject``."""
        return self.assessment.verdict

    @property
    def predicted_dice(self) -> float:
        """Dice that the judged mask is expected to have, in [0, 1]."""
        return self.assessment.predicted_dice

    @property
    def interval(self) -> tuple[float, float] | None:
        """Of the true Dice, with the coverage that the assessment names."""
        return self.assessment.interval

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader should know before trusting the numbers."""
        return self.assessment.warnings

    @property
    def maps(self) -> Images:
        """The maps as NIfTI images in the FLAIR's own grid, by name."""
        return Images(self.volumes)

    @property
    def judged_mask(self) -> Volume:
        """The given mask, or our own where none was given."""
        return self.volumes.get("input_mask", self.volumes[self.assessment.task.own_mask])

    @cached_property
    def lesions(self) -> pd.DataFrame:
        """A row a lesion of the mask or place that looks missed, with what ``*_lesions.json`` says of each column."""
        import pandas as pd

        return pd.DataFrame(self.lesion_rows(), columns=list(LESION_COLUMNS))

    def lesion_rows(self) -> list[dict[str, Any]]:
        """The same as dictionaries."""
        rows = []
        for place, lesions in (("mask", self.found), ("missed", self.missed)):
            confidence = self.lesion_model.confidence(lesions)
            rows += [{"place": place, "confidence": c, **asdict(lesion)} for lesion, c in zip(lesions, confidence, strict=True)]
        if self.places:
            return [{**row, "region": place} for row, place in zip(rows, self.places, strict=True)]
        return [{**row, "region": None} for row in rows]

    def picture(self) -> bytes:
        """PNG: axial slices of scan, mask and maps, as the report shows them."""
        return draw_mosaic(self.scan.flair, self.scan.t1, self.volumes, self.transform, self.assessment.task)

    def view(self) -> Any:
        """The scan with its mask and maps, to move through in a notebook; needs the extra ``review``.

        Raises:
            InputError: ipyniivue is not installed.
        """
        return live_view(self.scan.flair, self.scan.t1, self.volumes, self.assessment.task)

    def _repr_html_(self) -> str:
        """For notebooks."""
        return (
            page_environment("veridice.report")
            .get_template("notebook.html.j2")
            .render(
                a=self.assessment,
                words=VERDICT_WORDS[self.assessment.verdict],
                picture=base64.b64encode(self.picture()).decode("ascii"),
            )
        )
