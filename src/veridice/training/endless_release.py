"""From resume points to weights that can be used: ``scripts/release_weights`` calls it as a module, between the trainings.

``further-G`` went on from the base with real scans, without donor group G; ``further-all`` with all of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from veridice.case import Case
from veridice.errors import InputError, VeridiceError
from veridice.inference.weights import ARCHITECTURES, save_network
from veridice.io.datasets import read_manifest
from veridice.io.weight_cards import NetworkKind
from veridice.simulate.heads import head_names
from veridice.training.endless import ResumePoint
from veridice.training.endless_examples import BYTES
from veridice.training.endless_run import REAL, hard, labelled_scans
from veridice.training.endless_tasks import SegmenterTask
from veridice.training.examples import real_groups
from veridice.training.provenance import origins
from veridice.training.settings import TrainingSettings, load_training_settings
from veridice.training.weight_average import Weights, averaged, best_share, dice_by_share

OTHERS: tuple[NetworkKind, ...] = ("reconstructor", "anatomy", "critic")
SHARE_TABLE = "weight-share.csv"


def main() -> int:
    """Choose the share, write the weights of the segmenters and of the other networks that have a resume point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder with further-G; weights go to its weights")
    parser.add_argument("--manifest", type=Path, default=Path("data/training.csv"))
    parser.add_argument("--config", default="see-more-real")
    parser.add_argument("--resume", type=Path, default=Path("resume"))
    parser.add_argument("--others", nargs="*", choices=OTHERS, default=OTHERS, help="networks beside the segmenters")
    options = parser.parse_args()
    try:
        settings = load_training_settings(options.config)
        cases = read_manifest(options.manifest, options.data)
        release_segmenters(settings, cases, options.manifest, options.data, options.output, options.resume / "see-more")
        for kind in options.others:
            if (point := ResumePoint.read(options.resume / kind)) is not None:
                task_settings = load_training_settings(kind)
                release(task_settings, [], kind, point, point.weights, options.output / "weights", {})
    except VeridiceError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    return 0


def release_segmenters(
    settings: TrainingSettings, cases: Sequence[Case], manifest: Path, data: Path, output: Path, base_folder: Path
) -> float:
    """Weights of the segmenter, and of those without each donor group; returns the share of the further trained ones.

    Raises:
        InputError: a resume point is missing.
    """
    base = required(base_folder)
    groups = range(len(settings.data.donor_groups))
    further = [required(output / f"further-{group}") for group in groups]
    whole = required(output / "further-all")
    scans = [labelled_scans(settings, manifest, data, group)[REAL] for group in groups]
    task = SegmenterTask(settings)
    network = task.build()

    def judge(fold: int, weights: Weights) -> list[float]:
        network.load_state_dict(dict(weights))
        network.eval()
        with torch.inference_mode():
            return [task.judge(network, hard(scan.float() / BYTES)) for scan in scans[fold]]

    table = dice_by_share(base.weights, [point.weights for point in further], judge)
    table.to_csv(output / SHARE_TABLE, index=False, float_format="%.4f")
    share = best_share(table)
    told = table[table["share"] == share]
    metrics = {"dice": float(told["dice"].mean()), "dice_median": float(told["dice"].median()), "share": share}
    of_group = real_groups(cases, settings.data)
    for group, point in enumerate(further):
        left = [case for case in cases if of_group[case.patient] != group]
        metrics_here = {"dice": float(told.loc[told["fold"] == group, "dice"].mean()), "share": share}
        mixed = averaged(base.weights, point.weights, share)
        release(settings, left, "segmenter", point, mixed, output / f"fold-{group}" / "weights", metrics_here)
    mixed = averaged(base.weights, whole.weights, share)
    release(settings, list(cases), "segmenter", whole, mixed, output / "weights", metrics)
    sys.stdout.write(f"share {share}: {metrics}\n")
    return share


def release(
    settings: TrainingSettings,
    cases: Sequence[Case],
    kind: NetworkKind,
    point: ResumePoint,
    weights: Weights,
    folder: Path,
    metrics: dict[str, float],
) -> None:
    """Write weights and their card.

    Args:
        settings: of the training.
        cases: real ones that it learnt from or was checked on.
        kind: of network.
        point: where the training stands.
        weights: that are written.
        folder: for both.
        metrics: on people who were left out; what the curve ends with is added.
    """
    arguments = point.arguments
    network = ARCHITECTURES[kind](**arguments)
    network.load_state_dict(dict(weights))
    card: dict[str, Any] = origins(settings, cases)
    people = head_names(Path(settings.endless.heads))
    card["people"] = {**card["people"], "train": sorted({*card["people"]["train"], *people})}
    last = {name: value for name, value in (point.curve or [{}])[-1].items() if name != "step"}
    real = f" and {len(cases)} real scans" if cases else ""
    save_network(
        folder,
        network,
        {
            **card,
            "name": kind,
            "kind": kind,
            "arguments": arguments,
            "data": f"a new simulated patient for every other step, of {len(people)} heads{real}",
            "steps": point.step,
            "best_step": point.step,
            "metrics": {name: value for name, value in {**last, **metrics}.items() if np.isfinite(value)},
        },
    )


def required(folder: Path) -> ResumePoint:
    """The resume point there.

    Raises:
        InputError: there is none.
    """
    if (point := ResumePoint.read(folder)) is None:
        raise InputError(f"{folder}: no resume point; train it first, see scripts/release_weights")
    return point


if __name__ == "__main__":
    raise SystemExit(main())
