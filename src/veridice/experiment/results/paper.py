"""What the paper printed, to stand beside our own numbers (Williams et al., Table 1)."""

from __future__ import annotations

import pandas as pd

PAPER_METHODS = ("entropy_sum", "error_sum", "regressor_image", "regressor_uncertainty", "regressor_error")
"""Columns of Table 1 from left to right: VS of the uncertainty and of the error, Reg-net on three input pairs."""

PRINTED: dict[str, tuple[float | None, ...]] = {
    "score_pearson_r": (0.52, -0.2517, 0.566, 0.7108, 0.7329),
    "dice_median_before": (0.84, 0.84, 0.84, 0.84, 0.84),
    "dice_median_after": (0.85, 0.838, 0.8197, 0.8191, 0.838),
    "precision_acceptable": (0.929, 0.477, 0.8947, 1.0, 0.9412),
    "recall_acceptable": (0.89, 0.829, 0.8095, 0.8095, 0.8333),
    "rejected": (3.2, 10.0, 2.0, 0.0, 3.0),
    "mae": (None, None, 0.0536, 0.045, 0.0569),
}
"""Table 1 by column of our fold table."""

ROWS = {
    "score_pearson_r": ("Pearson r", "raw score against true Dice"),
    "dice_median_before": ("median Dice before filtering", ""),
    "dice_median_after": ("median Dice after filtering", "the paper's text gives the same numbers as means and as medians"),
    "dice_mean_before": ("mean Dice before filtering", ""),
    "dice_mean_after": ("mean Dice after filtering", ""),
    "precision_acceptable": (
        "precision, positive = acceptable",
        "the paper may have swapped precision and recall: 1.0 and 17/21 where nothing was rejected",
    ),
    "recall_acceptable": ("recall, positive = acceptable", "see precision"),
    "precision_failures": ("precision, positive = failed", "the natural reading; not in the paper"),
    "recall_failures": ("recall, positive = failed", "the natural reading; not in the paper"),
    "rejected": ("N rejected", "mean over folds; here scores are rejected below a threshold from validation"),
    "mae": ("MAE", "of scores: after the map to Dice from validation; not in the paper"),
}
"""Rows of our table in its order: name and what to know."""


def table1(folds: pd.DataFrame) -> pd.DataFrame:
    """The paper's Table 1 from a fold table, each row of ours above the paper's: medians over the folds that have a value,
    N as the mean. A method that was not run stays empty.
    """
    groups = folds.groupby("method")
    rows: list[dict[str, object]] = []
    for column, (name, note) in ROWS.items():
        values = groups[column].mean() if column == "rejected" else groups[column].median()
        ours = {method: float(values.get(method, float("nan"))) for method in PAPER_METHODS}
        rows.append({"measure": name, "source": "here", **ours, "note": note})
        if column in PRINTED:
            printed = dict(zip(PAPER_METHODS, PRINTED[column], strict=True))
            rows.append({"measure": name, "source": "paper", **printed, "note": ""})
    return pd.DataFrame(rows).astype(dict.fromkeys(PAPER_METHODS, float))
