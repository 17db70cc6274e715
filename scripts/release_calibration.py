"""Puts the calibration of the people's masks beside the weights that ship, and its checksum into their card.

python scripts/release_calibration.py [--table results/judge/people-calibration-masks.csv.gz] [--weights FOLDER]
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd

from veridice.config import InferenceSettings
from veridice.io.weight_cards import bundled_weights, read_card
from veridice.quality.model import load_quality_model, save_quality_model
from veridice.training.people import people_calibration

OF_THE_FILE = ("arguments", "sha256", "name", "kind")
"""Fields of a card that follow from what is saved."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=Path("results/judge/people-calibration-masks.csv.gz"))
    parser.add_argument("--weights", type=Path, default=bundled_weights())
    options = parser.parse_args()
    masks = pd.read_csv(options.table, keep_default_na=False, na_values=[""])
    quality_model, card = load_quality_model(options.weights), read_card(options.weights, "predictor")
    made = people_calibration(quality_model.predictor, masks, InferenceSettings().passes)
    kept = {name: value for name, value in card.model_dump(mode="json").items() if name not in OF_THE_FILE}
    save_quality_model(options.weights, replace(quality_model, calibration=made), kept)
    sys.stdout.write(f"{made.source}\n")


if __name__ == "__main__":
    main()
