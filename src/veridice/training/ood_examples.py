"""How known scans look to the models, and how odd versions of them do: what the detector of unknown scans learns from."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from veridice.assessment.analysis import scan_appearance
from veridice.assessment.models import Models
from veridice.case import Case
from veridice.errors import InputError
from veridice.imaging.scan import Scan
from veridice.inference.passes import Backend
from veridice.io.atomic import write_text
from veridice.io.labelled_scan import views
from veridice.quality.ood import KNOWN, OodDetector, fit_ood_detector
from veridice.simulate.cohorts import COHORTS
from veridice.simulate.donors import donors_by_name
from veridice.simulate.ood_scans import make_odd, possible
from veridice.training.assessed_masks import KnownScan, patient_name, real_scan, simulated_scan
from veridice.training.settings import DataSettings

SIMULATED_KINDS, REAL_KINDS = 3, 9
"""Kinds of odd versions of a simulated patient and of a real scan, in turn."""
ALWAYS = "T1w given as FLAIR"
"""Made of every scan that has a T1w: the likeliest mistake, and the one most like a FLAIR."""
TURN = 7
"""Kinds by which real scans go on; has no factor in common with their number, so that heads and stripped ones get all."""
BY_TURNS = 20
"""Simulated patients of whom half are of the one validation brain."""
BROKEN = "broken"
"""Severity that is neither known nor odd."""


@dataclass(frozen=True)
class Appearance:
    """One known scan to look at.

    Args:
        name: of the scan.
        person: whose head it is; simulated: the donor's of the brain.
        read: how to get it, and facts that results are grouped by (JSON-ready).
        kinds: how many kinds of odd versions are made, beside :data:`ALWAYS`.
        first: number of the first of them; they are taken in turn.
    """

    name: str
    person: str
    read: Callable[[], tuple[Scan, dict[str, Any]]]
    kinds: int
    first: int


def simulated_appearances(patients: int) -> list[Appearance]:
    """Of simulated patients, by turns of validation and training people, then of the latter alone; no broken scans."""
    appearances: list[Appearance] = []
    index = 0
    while len(appearances) < patients:
        for name in ("validation", "training"):
            plan = COHORTS[name].plan(index)
            enough = name == "validation" and len(appearances) >= BY_TURNS
            if plan.severity != BROKEN and not enough:
                read = partial(_with_facts, partial(simulated_scan, plan, -1))
                person, first = donors_by_name()[plan.anatomy].person, SIMULATED_KINDS * len(appearances)
                appearances.append(Appearance(patient_name(plan), person, read, SIMULATED_KINDS, first))
        index += 1
    return appearances[:patients]


def real_appearances(cases: Sequence[Case], settings: DataSettings) -> list[Appearance]:
    """Of real scans, as they are and skull-stripped; odd versions are made of heads alone."""
    appearances: list[Appearance] = []
    for case in cases:
        for stripped in views(case):
            read = partial(_with_facts, partial(real_scan, case, settings, -1, stripped))
            name = f"{case.id}{'-stripped' if stripped else ''}"
            kinds = REAL_KINDS if settings.task.whole_head else 0
            appearances.append(Appearance(name, case.patient, read, kinds, TURN * len(appearances)))
    return appearances


def _with_facts(read: Callable[[], KnownScan]) -> tuple[Scan, dict[str, Any]]:
    known = read()
    facts = {name: known.facts[name] for name in ("simulated", "severity", "whole_head")}
    return known.scan, {**facts, "slice_mm": max(known.scan.flair.geometry.voxel_spacing)}


def look_at(appearance: Appearance, models: Models, backend: Backend, seed: int) -> list[dict[str, Any]]:
    """A row for the scan and one for each odd version: ``descriptors`` and ``features``, both None if there is nothing to see.

    Args:
        appearance: the scan.
        models: that look.
        backend: device and precision.
        seed: of what is drawn.
    """
    scan, facts = appearance.read()
    kinds = possible(scan)
    chosen = [kinds[(appearance.first + step) % len(kinds)] for step in range(appearance.kinds)]
    rows = []
    for kind in dict.fromkeys([KNOWN, *(kind for kind in kinds if kind == ALWAYS), *chosen]):
        rng = np.random.default_rng([seed, zlib.crc32(f"{appearance.name} {kind}".encode())])
        row: dict[str, Any] = {"scan": appearance.name, "person": appearance.person, "kind": kind, **facts}
        try:
            descriptors, features = scan_appearance(make_odd(kind, scan, rng) if kind else scan, models, backend)
            rows.append({**row, "descriptors": descriptors, "features": [round(float(value), 5) for value in features]})
        except InputError:  # `check` refuses such an image
            rows.append({**row, "descriptors": None, "features": None})
    return rows


def describe_all(
    appearances: Sequence[Appearance],
    models: Models,
    backend: Backend,
    seed: int,
    folder: Path,
    on_step: Callable[[], None],
) -> pd.DataFrame:
    """Rows of :func:`look_at` of all scans; kept in ``folder``, one file a scan, and what is there is used again."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for appearance in appearances:
        file = folder / f"{appearance.name}.json"
        if not file.exists():
            write_text(file, json.dumps(look_at(appearance, models, backend, seed)) + "\n")
        rows += json.loads(file.read_text(encoding="utf-8"))
        on_step()
    return pd.DataFrame(rows)


def fit_to_looks(rows: pd.DataFrame, seed: int) -> OodDetector:
    """Learn from rows of :func:`look_at`; images that cannot be looked at teach nothing.

    Real and simulated scans have the same say where the limits are drawn, however many there are of each.
    """
    seen = rows[rows["descriptors"].notna()]
    known = seen[seen["kind"] == KNOWN]
    counts = 1 / known.groupby("simulated")["scan"].transform("size")
    features = [np.array(values) for values in seen["features"]]
    weights = list(counts.reindex(seen.index, fill_value=1.0))
    return fit_ood_detector(list(seen["descriptors"]), features, list(seen["person"]), list(seen["kind"]), seed, weights)
