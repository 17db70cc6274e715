"""How known scans look to the models, and how odd versions of them do: what familiarity learns from."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from veridice.errors import InputError
from veridice.inference import Backend
from veridice.inputs import Scan
from veridice.io.bids import write_text
from veridice.odd_scans import make_odd, possible
from veridice.panel import Networks
from veridice.study import scan_looks

KNOWN = ""
"""Kind of a scan that is not odd."""


@dataclass(frozen=True)
class Look:
    """One known scan to look at.

    Args:
        name: of the scan.
        person: whose head it is; simulated: the donor's of the brain.
        read: how to get it, and facts that results are grouped by (JSON-ready).
        kinds: how many kinds of odd versions are made; None: all.
    """

    name: str
    person: str
    read: Callable[[], tuple[Scan, dict[str, Any]]]
    kinds: int | None = None


def look_at(look: Look, number: int, networks: Networks, backend: Backend, seed: int) -> list[dict[str, Any]]:
    """A row for the scan and one for each odd version: ``descriptors`` and ``features``, both None if there is nothing to see.

    Args:
        look: the scan.
        number: of the scan; scans one after the other take the kinds in turn.
        networks: that look.
        backend: device and precision.
        seed: of what is drawn.
    """
    scan, facts = look.read()
    kinds = possible(scan)
    first, count = number * (look.kinds or 0), len(kinds) if look.kinds is None else look.kinds
    rows = []
    for kind in [KNOWN, *(kinds[(first + step) % len(kinds)] for step in range(count))]:
        rng = np.random.default_rng([seed, zlib.crc32(f"{look.name} {kind}".encode())])
        row: dict[str, Any] = {"scan": look.name, "person": look.person, "kind": kind, **facts}
        try:
            descriptors, features = scan_looks(make_odd(kind, scan, rng) if kind else scan, networks, backend)
            rows.append({**row, "descriptors": descriptors, "features": [round(float(value), 5) for value in features]})
        except InputError:  # `check` refuses such an image
            rows.append({**row, "descriptors": None, "features": None})
    return rows


def look_at_all(
    looks: Sequence[Look], networks: Networks, backend: Backend, seed: int, folder: Path, tick: Callable[[], None]
) -> pd.DataFrame:
    """Rows of :func:`look_at` of all scans; kept in ``folder``, one file a scan, and what is there is used again."""
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for number, look in enumerate(looks):
        file = folder / f"{look.name}.json"
        if not file.exists():
            write_text(file, json.dumps(look_at(look, number, networks, backend, seed)) + "\n")
        rows += json.loads(file.read_text(encoding="utf-8"))
        tick()
    return pd.DataFrame(rows)
