"""Judges masks of the people that calibrate the decision, or of those that check it. Takes hours, goes on where it stopped.

    VERIDICE_DONORS=runs/donors python scripts/assess_people.py calibration -n 400 -o runs/people [--jobs 2] [--scans]

Writes ``results/judge/people-NAME-masks.csv.gz`` when all are there, and ``-scans.csv.gz``: what the detector of unknown scans
sees. ``--scans`` looks at the scans of the masks again, which takes seconds each.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import pandas as pd

from veridice.assessment.models import load_models
from veridice.io.weight_cards import bundled_weights
from veridice.progress import progress_bar
from veridice.quality.model import load_quality_model
from veridice.training.assessed_masks import write_rows
from veridice.training.people import assess_people, look_at_people, scan_table, with_unfamiliarity

RESULTS = Path(__file__).parent.parent / "results" / "judge"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=("calibration", "coverage"))
    parser.add_argument("-n", type=int, required=True, help="patients")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--weights", type=Path, default=bundled_weights())
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the tables")
    parser.add_argument("--scans", action="store_true", help="only look at the scans again")
    options = parser.parse_args()
    models = load_models(options.weights, with_quality=False)
    scans_file = options.results / f"people-{options.name}-scans.csv.gz"
    with progress_bar() as progress:
        bar = progress.add_task(f"people, {options.name}", total=options.n, note="")
        on_step = partial(progress.advance, bar)
        if options.scans:
            folder = options.output / f"{options.name}-scans"
            write_rows(scans_file, look_at_people(options.name, models, options.n, folder, options.jobs, on_step))
            return
        found = assess_people(options.name, models, options.n, options.output / options.name, options.jobs, on_step)
    write_rows(scans_file, scan_table(found.scans.to_dict("records")))
    masks = with_unfamiliarity(found.masks, pd.read_csv(scans_file), load_quality_model(options.weights).ood)
    write_rows(options.results / f"people-{options.name}-masks.csv.gz", masks)


if __name__ == "__main__":
    main()
