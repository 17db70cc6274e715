"""What is judged (a case) and what came of it (an assessment)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """Names and files of one scan; every file but the FLAIR (or, for a lesion donor, the mask) may be absent.

    Args:
        id: name within the data set.
        patient: person the scan shows; all scans of one person belong to one split.
        split: ``train``, ``validation`` or ``test``; empty outside training.
        kind: ``real`` (scan and mask), ``labels`` (tissue label map to paint scans from) or ``lesions`` (a mask whose
            lesions are put into other brains; its FLAIR is only the reference for the crop).
    """

    id: str
    flair: Path | None = None
    t1: Path | None = None
    mask: Path | None = None
    brain_mask: Path | None = None
    ventricles: Path | None = None
    labels: Path | None = None
    patient: str = ""
    split: str = ""
    kind: str = "real"
