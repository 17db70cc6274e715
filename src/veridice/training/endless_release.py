"""From resume points to weights that can be used: ``scripts/release_weights`` calls it as a module."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from veridice.errors import InputError, VeridiceError
from veridice.inference.weights import ARCHITECTURES, save_network
from veridice.io.weight_cards import NetworkKind, WeightCard
from veridice.training.endless import ResumePoint
from veridice.training.provenance import origins
from veridice.training.settings import load_training_settings

KINDS: tuple[NetworkKind, ...] = ("reconstructor", "anatomy", "critic")


def main() -> int:
    """Write the weights of the networks that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="+", choices=KINDS)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of weights")
    parser.add_argument("--resume", type=Path, default=Path("resume"))
    options = parser.parse_args()
    try:
        for kind in options.kinds:
            card = release(kind, options.resume / kind, options.output)
            sys.stdout.write(f"{kind}: {card.steps} steps, {card.metrics}\n")
    except VeridiceError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    return 0


def release(kind: NetworkKind, resume: Path, output: Path) -> WeightCard:
    """Write weights and their card.

    Args:
        kind: of network, and name of its configuration.
        resume: folder of the resume point.
        output: folder for both.

    Raises:
        InputError: there is no resume point.
    """
    if (point := ResumePoint.read(resume)) is None:
        raise InputError(f"{resume}: no resume point; train it first with scripts/train_in_background")
    settings = load_training_settings(kind)
    network = ARCHITECTURES[kind](**point.arguments)
    network.load_state_dict(dict(point.weights))
    card = origins(settings, [])
    card["people"] = {**card["people"], "train": sorted({*card["people"]["train"], *point.people})}
    fields = {
        **card,
        "name": kind,
        "kind": kind,
        "arguments": point.arguments,
        "data": f"a new simulated patient for every other step, of {len(point.people)} people",
        "steps": point.step,
        "best_step": point.step,
        "metrics": {name: value for name, value in (point.curve or [{}])[-1].items() if name != "step" and np.isfinite(value)},
    }
    return save_network(output, network, fields)


if __name__ == "__main__":
    raise SystemExit(main())
