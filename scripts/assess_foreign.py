"""Masks that networks of other training draw, judged as the predictor learns from them: tools as users have them.

python scripts/assess_foreign.py real --data DATA -o FOLDER [--weights FOLDER]
VERIDICE_DONORS=runs/donors python scripts/assess_foreign.py training -n 120 -o FOLDER [--jobs 2] [--weights FOLDER]

``real``: each real person of the training split is judged by the segmenter of resume/ that learnt without the donor group of
the person, into ``foreign-masks.csv.gz``. The masks are of two networks that learnt from simulated patients alone (``base``,
``see-more``) and of one that went on with real scans of the other groups (``further``), at half and at another level, and the
union of the first two; none saw the scan. ``training``, ``calibration``, ``coverage``: the first patients of that cohort,
judged by the segmenter that ships, into ``foreign-NAME-masks.csv.gz``. Two networks are drawn for each; the predictor learns
from other networks than those that calibrate and check. ``veridice train predictor`` takes the tables that lie in its folder.
Give it again to go on.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from veridice.assessment.analysis import analyse_mask, analyse_scan
from veridice.assessment.models import Models, load_models
from veridice.config import InferenceSettings
from veridice.imaging.scan import GivenMask
from veridice.inference.passes import Backend, choose_backend, deterministic_pass
from veridice.inference.weights import load_network
from veridice.io.atomic import write_text
from veridice.io.datasets import read_manifest
from veridice.io.labelled_scan import views
from veridice.io.weight_cards import bundled_weights
from veridice.parallel import do_missing
from veridice.progress import Clock, counted
from veridice.quality.scan_analysis import ScanAnalysis
from veridice.training.assessed_masks import (
    FOREIGN,
    KnownScan,
    has_t1,
    patient_name,
    real_scan,
    row_of_mask,
    simulated_scan,
    write_rows,
)
from veridice.training.endless import network_of
from veridice.training.examples import real_groups
from veridice.training.people import PEOPLE
from veridice.training.provenance import by_split
from veridice.training.settings import load_training_settings
from veridice.types import Mask

RESUME = Path("resume")
HALF, LEVELS = 0.5, (0.15, 0.3, 0.7, 0.9)
"""Probability from which a voxel is marked, and the other levels, of which one is drawn for each mask."""
ALONE = ("base", "see-more")
"""Networks that learnt from simulated patients alone."""
TOOLS = {
    "training": ("fold-1", "fold-2", "further-1", "further-2"),
    "calibration": (*ALONE, "fold-0"),
    "coverage": (*ALONE, "fold-0", "further-0"),
}
"""Folders of resume/ whose networks draw on simulated patients."""


@dataclass(frozen=True)
class Drawing:
    """One scan: how to get it, which tools draw on it, who judges, and where the rows go."""

    read: Callable[[], KnownScan]
    draw: Callable[[ScanAnalysis, Backend, np.random.Generator], dict[str, Mask]]
    judges: Models
    seed: tuple[int, ...]
    file: Path


@cache
def tool(name: str) -> nn.Module:
    """The segmenter of a folder of resume/."""
    folder = RESUME / name
    return load_network(folder, "segmenter")[0] if (folder / "segmenter.json").exists() else network_of(folder)


def probability(name: str, analysis: ScanAnalysis, backend: Backend) -> np.ndarray[Any, Any]:
    """What a tool finds in the scan's own grid, within the brain."""
    found = analysis.transform.to_native(deterministic_pass(tool(name), analysis.images, backend), order=1)
    return np.where(analysis.native_brain, found, 0.0)


def drawn_on_real(analysis: ScanAnalysis, backend: Backend, rng: np.random.Generator, group: int) -> dict[str, Mask]:
    """Masks of tools that never saw the scan, whose person is of this donor group."""
    masks = {}
    for name in (*ALONE, f"further-{group}"):
        found, family = probability(name, analysis, backend), name.rstrip("-012")
        masks[family] = found >= HALF
        masks[f"{family}, other level"] = found >= rng.choice(LEVELS)
    return {**masks, "union": masks["base"] | masks["see-more"]}


def drawn_by_two(analysis: ScanAnalysis, backend: Backend, rng: np.random.Generator, tools: tuple[str, ...]) -> dict[str, Mask]:
    """Masks of two of these tools, of one of them at another level, and of both together."""
    names = [str(name) for name in rng.choice(tools, 2, replace=False)]
    one, two = (probability(name, analysis, backend) for name in names)
    both = (one >= HALF) | (two >= HALF) if rng.random() < HALF else (one >= HALF) & (two >= HALF)
    other = one >= rng.choice(LEVELS)
    return {names[0]: one >= HALF, names[1]: two >= HALF, f"{names[0]}, other level": other, "two together": both}


def judge(drawing: Drawing) -> None:
    """A row a mask, as the predictor learns from."""
    settings, known, rng = InferenceSettings(), drawing.read(), np.random.default_rng(drawing.seed)
    backend = choose_backend(settings)
    analysis = analyse_scan(known.scan, drawing.judges, settings, backend, Clock(), None)
    rows = []
    for kind, mask in drawing.draw(analysis, backend, rng).items():
        given = GivenMask(kind, known.scan.flair.with_voxels(mask))
        judged = analyse_mask(given, analysis, drawing.judges, backend, Clock())
        rows.append(row_of_mask(f"{FOREIGN} {kind}", known, analysis, judged))
    write_text(drawing.file, json.dumps(rows))


def real_people(data: Path, models: Models, folder: Path) -> list[Drawing]:
    """Every training person, with and without skull where there is one."""
    settings = load_training_settings("default").data
    cases = by_split(read_manifest(Path("data/training.csv"), data))["train"]
    groups, drawings = real_groups(cases, settings), []
    for case, stripped in ((each, stripped) for each in cases for stripped in views(each)):
        group, file = groups[case.patient], folder / f"{case.id}{'-stripped' if stripped else ''}.json"
        judges = replace(models, segmenter=tool(f"fold-{group}"))
        read, draw = partial(real_scan, case, settings, group, stripped), partial(drawn_on_real, group=group)
        drawings.append(Drawing(read, draw, judges, (5, len(drawings)), file))
    return drawings


def simulated_people(name: str, patients: int, models: Models, folder: Path) -> list[Drawing]:
    """The first patients of a cohort of :data:`PEOPLE`."""
    drawings, draw = [], partial(drawn_by_two, tools=TOOLS[name])
    for plan in map(PEOPLE[name].plan, range(patients)):
        read = partial(simulated_scan, plan, -1, has_t1(plan))
        drawings.append(Drawing(read, draw, models, (6, plan.seed, plan.index), folder / f"{patient_name(plan)}.json"))
    return drawings


def rows_of(name: str, drawings: list[Drawing], jobs: int) -> pd.DataFrame:
    """Judge what is missing, one file a scan, and give all rows."""
    with counted(f"masks of other networks, {name}", len(drawings)) as on_step:
        do_missing(drawings, lambda drawing: drawing.file.exists(), judge, jobs, on_step)
    return pd.DataFrame([row for drawing in drawings for row in json.loads(drawing.file.read_text())])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("real", *TOOLS))
    parser.add_argument("--data", type=Path, help="folder that the paths of data/training.csv start from")
    parser.add_argument("-n", type=int, default=120, help="simulated patients")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the tables, as OUTPUT/predictor")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--weights", type=Path, default=bundled_weights())
    options = parser.parse_args()
    real = options.name == "real"
    if real and options.data is None:
        parser.error("real people need --data")
    table = FOREIGN if real else f"{FOREIGN}-{options.name}"
    models, folder = load_models(options.weights, with_quality=False), options.output / table
    folder.mkdir(parents=True, exist_ok=True)
    people = real_people(options.data, models, folder) if real else simulated_people(options.name, options.n, models, folder)
    write_rows(options.output / f"{table}-masks.csv.gz", rows_of(options.name, people, options.jobs))


if __name__ == "__main__":
    main()
