"""How well are masks judged that networks of other training draw on real scans? On people whom neither judge nor network saw.

python benchmarks/foreign_networks.py runs/foreign --data FOLDER

Each real person of the training split is judged by the segmenter of resume/ that learnt without the donor group of the person,
and by a predictor that is fitted here without the person. The masks are of two networks that learnt from simulated patients
alone (``base``, ``see-more``) and of one that went on with real scans of the other groups (``further``), at half and at another
level, and the union of the first two. Then the same with the masks of the other people among those that the predictor learns
from.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from compare_tools import RESUME
from scipy import stats

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
from veridice.quality.predictor import fit_predictor
from veridice.quality.scan_analysis import ScanAnalysis
from veridice.training.assessed_masks import KnownScan, masks_to_learn, real_scan
from veridice.training.endless import network_of
from veridice.training.examples import real_groups
from veridice.training.provenance import by_split
from veridice.training.settings import load_training_settings
from veridice.types import Mask

LEVELS = (0.15, 0.3, 0.7, 0.9)


def drawn(networks: dict[str, Any], analysis: ScanAnalysis, backend: Any, rng: np.random.Generator) -> dict[str, Mask]:
    """Masks in the scan's own grid."""
    masks = {}
    for name, network in networks.items():
        found = analysis.transform.to_native(deterministic_pass(network, analysis.images, backend), order=1)
        masks[name] = (found >= 0.5) & analysis.native_brain
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
        yield {**names, "kind": kind, "dice": dice(mask & known.valid, known.truth & known.valid).dice, **found.scores}


def make(folder: Path, data: Path) -> pd.DataFrame:
    """Masks of every training person, one file a scan; what is there is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = load_training_settings("default").data
    cases = by_split(read_manifest(Path("data/training.csv"), data))["train"]
    groups, models = real_groups(cases, settings), load_models(bundled_weights(), with_quality=False)
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
    masks = pd.DataFrame(rows)
    return masks[masks["lesion_count"] > 0].reset_index(drop=True)


def tell(title: str, masks: pd.DataFrame, predicted: np.ndarray) -> None:
    """Error, bias and rank correlation."""
    error, rank = predicted - masks["dice"], stats.spearmanr(predicted, masks["dice"]).statistic
    said = f"mean absolute error {np.abs(error).mean():.3f}, bias {error.mean():+.3f}, Spearman {rank:.2f}"
    sys.stdout.write(f"{title}: {len(masks)} masks of mean Dice {masks['dice'].mean():.2f}; {said}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder that the paths of data/training.csv start from")
    parser.add_argument("--results", type=Path, default=Path("results/judge"))
    options = parser.parse_args()
    masks, known = make(options.folder, options.data), masks_to_learn(options.results)
    real = known[~known["simulated"]].reset_index(drop=True)
    for title, more in (("as it ships", masks[:0]), ("learnt from such masks too", masks)):
        predicted, usual = np.zeros(len(masks)), np.zeros(len(real))
        for person in masks["person"].unique():
            learnt = pd.concat([table[table["person"] != person] for table in (known, more)], ignore_index=True)
            predictor = fit_predictor(learnt)
            for table, found in ((masks, predicted), (real, usual)):
                own = (table["person"] == person).to_numpy()
                found[own] = predictor.predict(table[own])[0]
        tell(f"{title}, other networks", masks, predicted)
        for kind in ("base", "see-more", "further", "union"):
            own = (masks["kind"] == kind).to_numpy()
            tell(f"  {kind}", masks[own], predicted[own])
        tell(f"{title}, the masks of results/judge", real, usual)


if __name__ == "__main__":
    main()
