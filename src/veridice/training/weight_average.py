"""Between what learnt from simulated patients alone and what went on with a few real ones: averages of their weights.

A short further training on the scans of two hospitals pulls a network towards their graders' habits. The mean of both networks'
weights keeps what is general (WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903). The share is chosen on people left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from torch import Tensor

Weights = Mapping[str, Tensor]
SHARES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Of the further trained weights."""


def averaged(first: Weights, second: Weights, share: float) -> dict[str, Tensor]:
    """``share`` of the second weights and the rest of the first.

    Raises:
        ValueError: they are of different networks.
    """
    if first.keys() != second.keys() or any(first[name].shape != second[name].shape for name in first):
        raise ValueError("weights of different networks cannot be averaged")
    return {name: (1 - share) * first[name].float() + share * second[name].float() for name in first}


def dice_by_share(base: Weights, folds: Sequence[Weights], judge: Callable[[int, Weights], Sequence[float]]) -> pd.DataFrame:
    """Dice of each left-out scan with each share.

    Args:
        base: learnt from simulated patients alone.
        folds: went on from there, each without one group of people.
        judge: Dice of the scans of the people of fold ``n`` with weights that never saw them.

    Returns:
        Rows with ``fold``, ``scan`` (number within it), ``share``, ``dice``.
    """
    rows = []
    for fold, further in enumerate(folds):
        for share in SHARES:
            found = judge(fold, averaged(base, further, share))
            rows += [{"fold": fold, "scan": scan, "share": share, "dice": dice} for scan, dice in enumerate(found)]
    return pd.DataFrame(rows)


def best_share(table: pd.DataFrame) -> float:
    """The share with the highest mean of mean and median Dice over all left-out scans; of equal ones the smallest."""
    found = {share: (np.mean(dice) + np.median(dice)) / 2 for share, dice in table.groupby("share")["dice"]}
    return min(share for share in SHARES if found[share] == max(found.values()))
