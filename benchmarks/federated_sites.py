"""What is gained by training together? The seven scanner groups of paper-sim as hospitals, on simulated patients.

.venv-federated/bin/python benchmarks/federated_sites.py -o runs/federated [--results FOLDER]

Hospitals have 20, 20, 20, 5, 5, 5 and 30 patients, a fifth of them to be stopped by; ten others of each scanner test. Brains
and lesions of the three splits are of different people. Every network begins from nothing and makes the same number of
optimiser steps, in a small size. `pooled` has all scans in one place. `fedavg` and `fedprox` are federations of real
processes (`veridice federate simulate`), whose steps are shared by the hospitals. `private` and `little-noise` are the same
with differential privacy. `alone` is one network a hospital. `without` is a federation of the others, for each hospital. Give
it again after an interruption to go on: a network that `cases.csv` of the results knows is neither trained nor judged again.

In the table: mean Dice on the test patients of all hospitals, of the own hospital (alone) and of the hospital that was left
out (without); and how well the mean pairwise Dice of 20 stochastic passes ranks the masks by their Dice (Spearman). Intervals
are 95 % bootstrap intervals over patients.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from veridice.config import InferenceSettings
from veridice.federated.simulated_sites import write_site
from veridice.inference.passes import choose_backend, stochastic_passes
from veridice.inference.weights import load_network
from veridice.io.atomic import replaced
from veridice.io.datasets import read_manifest
from veridice.metrics.failure_detection import bootstrap, spearman
from veridice.metrics.overlap import dice
from veridice.metrics.scores import mean_pairwise_dice
from veridice.progress import counted
from veridice.simulate.scanners import SCANNERS
from veridice.training.examples import CubeCase, prepare_material
from veridice.training.settings import load_training_settings

TEST, SEED, PASSES = 10, 9000, 20
ROUNDS, STEPS = 10, 10
"""Of each federation; a round's steps are of each hospital."""
TRAINING = """
name = "federated-experiment"
[data]
grid = 128
simulated_patients = 0
simulated_validation = 0
simulated_fraction = 0.0
soft_labels = true
resample_t1 = true
cubes = "{cubes}"
[segmenter]
features = 8
depth = 4
stem = 2
crop = 64
batch_size = 4
batch_dice = true
learning_rate = 4e-3
validate_every = 100
keep_at = []
workers = 0
"""
FEDERATION = """
[federation]
name = "{name}"
training = "training.toml"
rounds = {rounds}
steps = {steps}
proximal = {proximal}
minimum_sites = {sites}
min_dice = []
{privacy}
[simulation]
output = "{name}"
"""
PROXIMAL = 0.01
PRIVATE = """
[federation.privacy]
clip = 1.0
noise = {noise}
"""
NOISES = {"private": 1.0, "little-noise": 0.01}
"""Standard deviation of the noise in units of the longest change; the second promises next to nothing."""


def main() -> int:
    """Make what is missing, then the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/federated"))
    parser.add_argument("--results", type=Path, default=Path("results/federated"))
    options = parser.parse_args()
    folder: Path = options.output.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "training.toml").write_text(TRAINING.format(cubes=folder / "cubes"))
    write_hospitals(folder)
    options.results.mkdir(parents=True, exist_ok=True)
    cases = with_missing(folder, options.results)
    summary = summarised(cases)
    summary.to_csv(options.results / "summary.csv", index=False, float_format="%.4f")
    sys.stdout.write(f"{summary.to_string()}\n")
    return 0


def write_hospitals(folder: Path) -> None:
    """Scans of every hospital, and a manifest of all together."""
    total = sum(scanner.patients + TEST for scanner in SCANNERS.values())
    rows = []
    with counted("simulated patients", total) as on_step:
        for number, (name, scanner) in enumerate(SCANNERS.items()):
            apart = max(1, scanner.patients // 5)
            patients = {"train": scanner.patients - apart, "validation": apart, "test": TEST}
            table = pd.read_csv(write_site(folder / "data" / name, name, patients, SEED + 10 * number, 2, on_step))
            for column in ("flair", "t1", "mask"):
                table[column] = [f"{name}/{file}" for file in table[column]]
            rows.append(table.assign(dataset=name))
    pd.concat(rows).to_csv(folder / "data" / "pooled.csv", index=False)


def networks(folder: Path) -> dict[str, Callable[[], Path]]:
    """Every network by its name: what trains it and gives the folder of its weights."""
    steps, data = ROUNDS * STEPS * len(SCANNERS), folder / "data"
    made = {"pooled": partial(train, folder, "pooled", data / "pooled.csv", data, steps)}
    for name, proximal in (("fedavg", 0.0), ("fedprox", PROXIMAL)):
        made[name] = partial(federate, folder, name, list(SCANNERS), STEPS, proximal)
    for name, noise in NOISES.items():
        made[name] = partial(federate, folder, name, list(SCANNERS), STEPS, 0.0, PRIVATE.format(noise=noise))
    for name in SCANNERS:
        made[f"alone {name}"] = partial(train, folder, f"alone-{name}", data / name / "manifest.csv", data / name, steps)
    for name in SCANNERS:
        others = [other for other in SCANNERS if other != name]
        steps = round(STEPS * len(SCANNERS) / len(others))
        made[f"without {name}"] = partial(federate, folder, f"without-{name}", others, steps, 0.0)
    return made


def train(folder: Path, name: str, manifest: Path, data: Path, steps: int) -> Path:
    """One network on the scans of one manifest."""
    output = folder / name
    if not (output / "weights" / "segmenter.json").exists():
        options = {"manifest": manifest, "data": data, "config": folder / "training.toml", "output": output, "steps": steps}
        run(["train", "segmenter", *[f"--{key}={value}" for key, value in options.items()]])
    return output / "weights"


def federate(folder: Path, name: str, sites: list[str], steps: int, proximal: float, privacy: str = "") -> Path:
    """One federation of some hospitals."""
    weights = folder / name / "server" / "weights"
    if not (folder / name / "server" / "traffic.json").exists():
        text = FEDERATION.format(name=name, rounds=ROUNDS, steps=steps, proximal=proximal, sites=len(sites), privacy=privacy)
        for site in sites:
            data = folder / "data" / site
            text += f'[simulation.sites.{site}]\nmanifest = "{data / "manifest.csv"}"\ndata = "{data}"\n'
        config = folder / f"{name}.toml"
        config.write_text(text)
        run(["federate", "simulate", "--config", str(config)])
    return weights


def run(arguments: list[str]) -> None:
    """One command of ours, as a user gives it."""
    subprocess.run([sys.executable, "-m", "veridice", *arguments], check=True, env=dict(os.environ))


def with_missing(folder: Path, results: Path) -> pd.DataFrame:
    """Dice and mean pairwise Dice of every network on every test patient, on the cube; those that are missing are made."""
    settings = load_training_settings(str(folder / "training.toml"))
    known = [case for case in read_manifest(folder / "data" / "pooled.csv", folder / "data") if case.split == "test"]
    material = prepare_material(known, [], settings.data, folder / "cubes", lambda: None)
    scanner, file = {case.id: case.dataset for case in known}, results / "cases.csv"
    cases = pd.read_csv(file) if file.exists() else pd.DataFrame({"method": []})
    for name, make in networks(folder).items():
        if name in set(cases["method"]):
            continue
        network, rows = load_network(make(), "segmenter")[0], []
        with counted(name, len(material.real)) as on_step:
            for case in material.real:
                rows.append({"method": name, "hospital": scanner[case.id], "patient": case.id, **judge(network, case)})
                on_step()
        for what in ("rounds.csv", "traffic.json") if name in ("fedavg", "fedprox") else ():
            shutil.copy(folder / name / "server" / what, results / f"{name}-{what}")
        cases = pd.concat([cases, pd.DataFrame(rows)], ignore_index=True)
        with replaced(file) as temporary:
            cases.to_csv(temporary, index=False, float_format="%.5f")
    return cases


def judge(network: object, case: CubeCase) -> dict[str, float]:
    """One scan by one network."""
    example = case.read()
    passes = stochastic_passes(network, example["images"].numpy(), choose_backend(InferenceSettings()), PASSES, 0)  # type: ignore[arg-type]
    truth, valid = example["target"][0].numpy() >= 0.5, example["ignored"][0].numpy() < 0.5
    return {
        "dice": dice((passes.mean >= 0.5) & valid, truth & valid).dice,
        "pairwise_dice": mean_pairwise_dice(passes.sample_masks),
    }


def summarised(cases: pd.DataFrame) -> pd.DataFrame:
    """Rows of method and measure with value and interval; differences to `fedavg` are of the same patients."""
    wide = cases.pivot(index=["hospital", "patient"], columns="method", values="dice")
    alone = wide[[f"alone {name}" for name in SCANNERS]]
    own = pd.Series([row[f"alone {hospital}"] for (hospital, _), row in wide.iterrows()], wide.index)
    out = pd.Series([row[f"without {hospital}"] for (hospital, _), row in wide.iterrows()], wide.index)
    columns = {
        "pooled": wide["pooled"],
        "fedavg": wide["fedavg"],
        "fedprox": wide["fedprox"],
        **{name: wide[name] for name in NOISES},
        "mean hospital alone": alone.mean(axis=1),
        "own hospital alone": own,
        "without the hospital": out,
    }
    rows = []
    for name, values in columns.items():
        rows.append(row_of(name, "Dice", values.to_numpy()))
        if name != "fedavg":
            rows.append(row_of(f"fedavg - {name}", "Dice", (wide["fedavg"] - values).to_numpy()))
    for name, part in cases.groupby("method"):
        found = bootstrap(lambda a, b: spearman(a, b).r, part["pairwise_dice"], part["dice"])
        value = spearman(part["pairwise_dice"].to_numpy(), part["dice"].to_numpy()).r
        rows.append({"of": name, "measure": "Spearman of pairwise Dice", "value": value, "low": found.low, "high": found.high})
    return pd.DataFrame(rows)


def row_of(name: str, measure: str, values: np.ndarray) -> dict[str, object]:
    """Mean of values of patients, with its interval."""
    found = bootstrap(lambda v: float(v.mean()), values)
    return {"of": name, "measure": measure, "value": float(values.mean()), "low": found.low, "high": found.high}


if __name__ == "__main__":
    raise SystemExit(main())
