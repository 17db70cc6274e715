"""Fits the predictor to the stored masks of training, calibrates it by those of other people, and puts both beside the weights.

    python scripts/release_quality_model.py --weights FOLDER [--results results/judge]

Lesion model and detector of unknown scans stay as they are. The card gets the figures of the validation masks.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from scipy import stats

from veridice.config import InferenceSettings
from veridice.io.weight_cards import read_card
from veridice.quality.model import load_quality_model, save_quality_model
from veridice.quality.predictor import fit_predictor
from veridice.training.assessed_masks import masks_to_learn, stored_masks
from veridice.training.people import people_calibration, people_masks
from veridice.training.provenance import source_commit

OF_THE_FILE = ("arguments", "sha256", "name", "kind")
"""Fields of a card that follow from what is saved."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results/judge"))
    parser.add_argument("--weights", type=Path, required=True, help="copy of the folder of weights; is written to")
    options = parser.parse_args()
    quality_model, card = load_quality_model(options.weights), read_card(options.weights, "predictor")
    known, checks = masks_to_learn(options.results), stored_masks(options.results, "validation")
    predictor = fit_predictor(known, card.seed)
    predicted, dice = predictor.predict(checks)[0], checks["dice"].to_numpy()
    made = people_calibration(predictor, people_masks(options.results, "calibration"), InferenceSettings().passes)
    fields = {name: value for name, value in card.model_dump(mode="json").items() if name not in OF_THE_FILE}
    fields |= {
        "data": f"{len(known)} masks of {known['kind'].nunique()} kinds of {known['scan'].nunique()} scans; checked on "
        f"{len(checks)} masks of {checks['scan'].nunique()} simulated patients of other people",
        "commit": source_commit(),
        "created": datetime.now(UTC).strftime("%Y-%m-%d"),
        "metrics": {
            "mae": float(np.abs(predicted - dice).mean()),
            "mae_of_constant": float(np.abs(dice - known["dice"].mean()).mean()),
            "mae_of_agreement": float(np.abs(checks["agreement_mean"] - dice).mean()),
            "spearman": float(stats.spearmanr(predicted, dice).statistic),
        },
    }
    save_quality_model(options.weights, replace(quality_model, predictor=predictor, calibration=made), fields)
    sys.stdout.write(f"{fields['data']}; {fields['metrics']}\n{made.source}\n")


if __name__ == "__main__":
    main()
