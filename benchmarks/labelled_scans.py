"""True beside predicted Dice on labelled scans, in each scan's own grid.

python benchmarks/labelled_scans.py --data FOLDER --manifest data/training.csv --split validation
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from veridice.assessment.assess import assess_scan
from veridice.assessment.models import Models, load_models
from veridice.case import Case
from veridice.config import InferenceSettings
from veridice.io.datasets import read_manifest
from veridice.io.nifti import read_image, read_mask
from veridice.io.weight_cards import bundled_weights
from veridice.metrics.overlap import dice


def measured(case: Case, models: Models, settings: InferenceSettings) -> dict[str, object]:
    """One row: what is true, what was predicted."""
    flair = read_image(Path(str(case.flair)))
    truth = read_mask(Path(str(case.mask)), flair.geometry)
    t1 = read_image(case.t1, flair.geometry) if case.t1 else None
    result = assess_scan(case.id, flair, t1, None, models, settings)
    assessment = result.assessment
    return {
        "case": case.id,
        "true_ml": truth.voxels.sum() * flair.geometry.voxel_volume_ml,
        "found_ml": assessment.volumes_ml["own_mask"],
        "true_dice": dice(result.volumes["lesion_mask"].voxels, truth.voxels).dice,
        "predicted_dice": assessment.predicted_dice,
        **{name: assessment.scores[name] for name in ("pairwise_dice", "entropy_sum", "error_sum")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--manifest", type=Path, default=Path("data/training.csv"))
    parser.add_argument("--split", default="validation")
    parser.add_argument("--weights", type=Path, default=bundled_weights())
    arguments = parser.parse_args()
    cases = [c for c in read_manifest(arguments.manifest, arguments.data) if c.split == arguments.split]
    models = load_models(arguments.weights)
    rows = [measured(case, models, InferenceSettings()) for case in cases]
    print(pd.DataFrame(rows).round(3).to_string(index=False))  # noqa: T201


if __name__ == "__main__":
    main()
