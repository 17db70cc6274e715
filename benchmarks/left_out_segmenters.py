"""Segmenters of different training on the real scans of the people that each of them never saw, and their mean.

    python benchmarks/left_out_segmenters.py --data FOLDER

``shipped`` are the segmenters beside the one that ships (``resume/fold-G``), ``without end`` the one that learnt from simulated
patients alone (``resume/see-more``), ``further`` the same gone on with real scans (``resume/further-G``). Nine whole heads are
looked at with and without skull. Dice on the cube, one pass without dropout. The eight simulated validation patients count
three times, once for each group that was left out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
import torch

from veridice.inference.weights import load_network
from veridice.metrics.overlap import dice
from veridice.training.cubes import IGNORED, LESION, plain_pass
from veridice.training.endless import network_of
from veridice.training.endless_examples import BYTES
from veridice.training.endless_run import REAL, labelled_scans
from veridice.training.settings import load_training_settings

RESUME = Path("resume")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, default=Path("data/training.csv"))
    options = parser.parse_args()
    settings = load_training_settings("see-more-real")
    rows = []
    for group in range(len(settings.data.donor_groups)):
        networks = {
            "shipped": load_network(RESUME / f"fold-{group}", "segmenter")[0],
            "without end": network_of(RESUME / "see-more").eval(),
            "further": network_of(RESUME / f"further-{group}").eval(),
        }
        scans = labelled_scans(settings, options.manifest, options.data, group)
        for kind in (REAL, "simulated"):
            for number, scan in enumerate(scans[kind]):
                example = scan.float() / BYTES
                with torch.inference_mode():
                    chances = {name: plain_pass(net, example[:LESION])[0, 0].sigmoid() for name, net in networks.items()}
                chances["mean of shipped and further"] = (chances["shipped"] + chances["further"]) / 2
                truth, valid = (example[LESION] >= 0.5).numpy(), (example[IGNORED] < 0.5).numpy()
                found = {name: dice((chance >= 0.5).numpy() & valid, truth & valid).dice for name, chance in chances.items()}
                rows += [
                    {"kind": kind, "group": group, "scan": number, "of": name, "dice": value} for name, value in found.items()
                ]
    table = pd.DataFrame(rows).groupby(["kind", "of"], sort=False)["dice"].agg(["count", "mean", "median"])
    sys.stdout.write(f"{table.round(3).to_string()}\n")


if __name__ == "__main__":
    main()
