"""Masks that networks of other training draw on real scans, judged as the predictor learns from them: ``foreign-masks.csv.gz``.

python scripts/assess_foreign.py DATA -o FOLDER [--weights FOLDER]

Each real person of the training split is judged by the segmenter of resume/ that learnt without the donor group of the person.
The masks are of two networks that learnt from simulated patients alone (``base``, ``see-more``) and of one that went on with
real scans of the other groups (``further``), at half and at another level, and the union of the first two: tools as users have
them, which never saw the scan. ``veridice train predictor`` learns from the table where it lies in its folder.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from veridice.assessment.analysis import analyse_mask, analyse_scan
from veridice.assessment.models import Models, load_models
from veridice.config import InferenceSettings
from veridice.imaging.scan import GivenMask
from veridice.inference.passes import choose_backend, deterministic_pass
from veridice.inference.weights import load_network
from veridice.io.atomic import write_text
from veridice.io.datasets import read_manifest
from veridice.io.labelled_scan import views
from veridice.io.weight_cards import bundled_weights
from veridice.metrics.overlap import dice
from veridice.progress import Clock, counted
from veridice.quality.scan_analysis import ScanAnalysis
from veridice.training.assessed_masks import FOREIGN, KnownScan, real_scan, write_rows
from veridice.training.endless import network_of
from veridice.training.examples import real_groups
from veridice.training.provenance import by_split
from veridice.training.settings import load_training_settings
from veridice.types import Mask

RESUME = Path("resume")
HALF, LEVELS = 0.5, (0.15, 0.3, 0.7, 0.9)
"""Probability from which a voxel is marked, and the other levels, of which one is drawn for each mask."""


def drawn(networks: dict[str, Any], analysis: ScanAnalysis, backend: Any, rng: np.random.Generator) -> dict[str, Mask]:
    """Masks in the scan's own grid."""
    masks = {}
    for name, network in networks.items():
        found = analysis.transform.to_native(deterministic_pass(network, analysis.images, backend), order=1)
        masks[name] = (found >= HALF) & analysis.native_brain
        masks[f"{name}, other level"] = (found >= rng.choice(LEVELS)) & analysis.native_brain
    return {**masks, "union": masks["base"] | masks["see-more"]}


def judged(known: KnownScan, models: Models, networks: dict[str, Any], rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """A row a mask, as the predictor learns from."""
    settings = InferenceSettings()
    backend = choose_backend(settings)
    analysis = analyse_scan(known.scan, models, settings, backend, Clock(), None)
    names = {"scan": known.name, "person": known.person, "group": known.group, **known.facts, "doubts": len(analysis.doubts)}
    for kind, mask in drawn(networks, analysis, backend, rng).items():
        found = analyse_mask(GivenMask(kind, known.scan.flair.with_voxels(mask)), analysis, models, backend, Clock())
        true = dice(mask & known.valid, known.truth & known.valid).dice
        yield {**names, "kind": f"foreign {kind}", "dice": true, **found.scores}


def make(folder: Path, data: Path, weights: Path) -> pd.DataFrame:
    """Masks of every training person, one file a scan; what is there is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = load_training_settings("default").data
    cases = by_split(read_manifest(Path("data/training.csv"), data))["train"]
    groups, models = real_groups(cases, settings), load_models(weights, with_quality=False)
    base, more = load_network(RESUME / "base", "segmenter")[0], network_of(RESUME / "see-more")
    wanted = [(case, stripped) for case in cases for stripped in views(case)]
    rows = []
    with counted("scans", len(wanted)) as on_step:
        for number, (case, stripped) in enumerate(wanted):
            group, file = groups[case.patient], folder / f"{case.id}{'-stripped' if stripped else ''}.json"
            if not file.exists():
                networks = {"base": base, "see-more": more, "further": network_of(RESUME / f"further-{group}")}
                judges = replace(models, segmenter=load_network(RESUME / f"fold-{group}", "segmenter")[0])
                known = real_scan(case, settings, group, stripped)
                write_text(file, json.dumps(list(judged(known, judges, networks, np.random.default_rng([5, number])))))
            rows += json.loads(file.read_text())
            on_step()
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder that the paths of data/training.csv start from")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the tables, as OUTPUT/predictor")
    parser.add_argument("--weights", type=Path, default=bundled_weights())
    options = parser.parse_args()
    masks = make(options.output / FOREIGN, options.data, options.weights)
    write_rows(options.output / f"{FOREIGN}-masks.csv.gz", masks)


if __name__ == "__main__":
    main()
