"""Simulate two small hospitals and let them train together: ``make demo-federated``."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd

from veridice import cli
from veridice.federated.simulated_sites import write_site

SITES = {"utrecht": "utrecht", "singapore": "singapore"}
"""Hospitals and their scanners."""
PATIENTS = {"train": 2, "validation": 1, "test": 1}
SEED = 500
FEDERATION = """# The federation of make demo-federated; docs/federated.md explains every line.
[federation]
name = "demo"
start = "bundled"
networks = ["segmenter"]
rounds = 2
steps = 2
minimum_sites = 2
min_dice = [0.75]

[simulation]
output = "members"
"""
SITE = """
[simulation.sites.{name}]
manifest = "data/{name}/manifest.csv"
data = "data/{name}"
"""


def main(folder: Path) -> int:
    """Make the scans, write the TOML file, run the federation, show what came out."""
    sys.stderr.write("simulating the patients of two hospitals ...\n")
    with ProcessPoolExecutor(2) as pool:
        made = [
            pool.submit(write_site, folder / "data" / name, scanner, PATIENTS, SEED + 10 * number)
            for number, (name, scanner) in enumerate(SITES.items())
        ]
        for hospital in made:
            hospital.result()
    config = folder / "federation.toml"
    config.write_text(FEDERATION + "".join(SITE.format(name=name) for name in SITES), encoding="utf-8")
    if code := cli.run(["federate", "simulate", "--config", str(config)]):
        return code
    server = folder / "members" / "server"
    rounds = pd.read_csv(server / "rounds.csv").pivot(index="round", columns="site", values="dice")
    decision = json.loads((server / "decision.json").read_text(encoding="utf-8"))["scores"][0]
    people = {kind: decision[kind]["people"] for kind in ("bad", "good")}
    sys.stdout.write(
        f"\nDice of the common weights at each hospital's validation patient (simulated):\n{rounds.round(3).to_string()}\n"
        f"\nThe common decision for a Dice of 0.75 rests on {people['bad']} people with bad masks and {people['good']} with "
        "good ones.\n19 with bad ones are needed before a mask can be accepted at 5 %.\n"
        f"At each hospital lie weights and calibration.json: {folder / 'members'}\n"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
