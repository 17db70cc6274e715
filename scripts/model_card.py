"""The tables of the model card, from cards and stored tables: what was learnt from, figures by load and slice thickness.

python scripts/model_card.py        prints them; the site takes them into docs/reference/model-card.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from veridice.io.weight_cards import WeightCard, bundled_weights, read_card
from veridice.quality.model import load_quality_model
from veridice.training.assessed_masks import OWN_KIND

RESULTS = Path(__file__).parents[1] / "results" / "judge"
LOADS, THICKNESSES = (0, 1, 3, 10, 30, np.inf), (0, 1.5, 3.5, np.inf)


def main() -> None:
    sys.stdout.write("\n".join(model_card()) + "\n")


def model_card() -> Iterator[str]:
    """Lines of Markdown."""
    cards = {file.stem: read_card(bundled_weights(), file.stem) for file in sorted(bundled_weights().glob("*.safetensors"))}
    yield from ["## What the weights learnt from", "", *_origins(cards), ""]
    yield from ["## How well lesions are segmented", "", *_segmentation(), ""]
    yield from ["## How well a mask is judged", "", *_judgement()]


def _origins(cards: Mapping[str, WeightCard]) -> Iterator[str]:
    yield "| weights | learnt from | people | steps | seed | made | commit |"
    yield "|---|---|---:|---:|---:|---|---|"
    for name, card in cards.items():
        people = ", ".join(f"{len(known)} {split}" for split, known in card.people.items())
        steps = f"{card.steps:,}" if card.steps else "–"
        yield f"| `{name}` | {card.data} | {people} | {steps} | {card.seed} | {card.created} | `{card.commit[:8]}` |"


def _segmentation() -> Iterator[str]:
    own = _coverage()
    own = own[own["kind"] == OWN_KIND]
    yield (
        f"Median Dice of our own mask on {own['person'].nunique()} simulated patients of the brains of "
        f"{own['brain'].nunique()} people on whom nothing learnt, a tenth of them broken scans "
        "(`results/judge/people-coverage-masks.csv.gz`)."
    )
    yield ""
    with_t1 = own["t1"].astype(bool)
    yield "| | patients | with T1w | FLAIR alone |"
    yield "|---|---:|---:|---:|"
    for title, rows in _groups(own):
        medians = (_median(rows[with_t1.loc[rows.index] == known]["dice"]) for known in (True, False))
        yield f"| {title} | {len(rows)} | {' | '.join(medians)} |"
    real = _stored("train")
    real = real[~real["simulated"].astype(bool) & (real["kind"] == OWN_KIND)]
    yield ""
    yield (
        f"On {real['person'].nunique()} real people, each segmented by a network that never saw them, the median is "
        f"{real['dice'].median():.2f} ({real['dice'].min():.2f} to {real['dice'].max():.2f}; {len(real)} scans, whole heads "
        "and stripped, `results/judge/train-masks.csv.gz`)."
    )


def _judgement() -> Iterator[str]:
    masks = _coverage()
    masks = masks[masks["lesion_count"] > 0].reset_index(drop=True)
    predicted = load_quality_model(bundled_weights()).predictor.predict(masks)[0]
    masks = masks.assign(error=np.abs(predicted - masks["dice"]), predicted=predicted)
    yield f"{len(masks)} masks of all kinds and qualities of the same patients: predicted against true Dice."
    yield ""
    yield "| | masks | mean absolute error | bias | Spearman |"
    yield "|---|---:|---:|---:|---:|"
    for title, rows in _groups(masks):
        rank = stats.spearmanr(rows["predicted"], rows["dice"]).statistic
        bias = (rows["predicted"] - rows["dice"]).mean()
        yield f"| {title} | {len(rows)} | {rows['error'].mean():.3f} | {bias:+.3f} | {rank:.2f} |"


def _groups(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    yield "all", rows
    for column, ends, unit, name in (("load_ml", LOADS, "ml", "load"), ("slice_thickness", THICKNESSES, "mm", "slices")):
        for low, high in pairwise(ends):
            chosen = rows[(rows[column] >= low) & (rows[column] < high)]
            yield f"{name} from {low:g} {unit}" if np.isinf(high) else f"{name} {low:g} to {high:g} {unit}", chosen


def _median(values: pd.Series) -> str:
    return f"{values.median():.2f}" if len(values) else "–"


def _coverage() -> pd.DataFrame:
    return _stored("people-coverage")


def _stored(name: str) -> pd.DataFrame:
    return pd.read_csv(RESULTS / f"{name}-masks.csv.gz", keep_default_na=False, na_values=[""])


if __name__ == "__main__":
    main()
