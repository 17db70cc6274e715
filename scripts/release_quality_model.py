"""Fits the predictor to the stored masks of training, calibrates it by those of other people, and puts both beside the weights.

    python scripts/release_quality_model.py --weights FOLDER [--results results/judge] [--data FOLDER --looks FOLDER]

With ``--data`` the detector of unknown scans is learnt anew too, from what the segmenter sees of known scans and odd ones; what
it saw is kept in ``--looks``. The lesion model stays as it is. The card gets the figures of the validation masks.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from veridice.assessment.models import load_models
from veridice.config import InferenceSettings
from veridice.io.datasets import read_manifest
from veridice.io.weight_cards import WeightCard, read_card
from veridice.quality.model import load_quality_model, save_quality_model
from veridice.quality.predictor import Predictor, fit_predictor
from veridice.training.assessed_masks import masks_to_learn, stored_masks
from veridice.training.people import people_calibration, with_people, with_unfamiliarity
from veridice.training.provenance import source_commit
from veridice.training.quality_model import learn_appearances
from veridice.training.settings import load_training_settings

OF_THE_FILE = ("arguments", "sha256", "name", "kind")
"""Fields of a card that follow from what is saved."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=Path("results/judge"))
    parser.add_argument("--weights", type=Path, required=True, help="copy of the folder of weights; is written to")
    parser.add_argument("--data", type=Path, help="folder that the manifest's files are relative to")
    parser.add_argument("--manifest", type=Path, default=Path("data/training.csv"))
    parser.add_argument("--config", default="default")
    parser.add_argument("--looks", type=Path, default=Path("runs/looks"))
    options = parser.parse_args()
    results, models = options.results, load_models(options.weights, with_quality=False)
    before, card = load_quality_model(options.weights), read_card(options.weights, "predictor")
    known = masks_to_learn(results)
    predictor, ood = fit_predictor(known, card.seed), before.ood
    if options.data:
        settings, cases = load_training_settings(options.config), read_manifest(options.manifest, options.data)
        ood = learn_appearances(settings, cases, models, options.looks)
    seen = pd.read_csv(results / "people-calibration-scans.csv.gz")
    apart = with_unfamiliarity(stored_masks(results, "people-calibration"), seen, ood)
    calibration = people_calibration(predictor, apart, InferenceSettings().passes)
    fields = new_fields(card, predictor, known, stored_masks(results, "validation"))
    fields["learnt_from"] = {name: of.sha256 for name, of in models.cards.items()}
    if (results / "people-training-masks.csv.gz").exists():
        fields["people"] = with_people(card.people, stored_masks(results, "people-training"))
    save_quality_model(options.weights, replace(before, predictor=predictor, ood=ood, calibration=calibration), fields)
    sys.stdout.write(f"{fields['data']}; {fields['metrics']}\n{calibration.source}\n")


def new_fields(card: WeightCard, predictor: Predictor, known: pd.DataFrame, checks: pd.DataFrame) -> dict[str, Any]:
    """The card of the former predictor, with what this one learnt from and how it did on other masks."""
    predicted, dice = predictor.predict(checks)[0], checks["dice"].to_numpy()
    kept = {name: value for name, value in card.model_dump(mode="json").items() if name not in OF_THE_FILE}
    return kept | {
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


if __name__ == "__main__":
    main()
