"""Averages of weights, by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch

from veridice.training.weight_average import SHARES, averaged, best_share, dice_by_share


def test_by_hand() -> None:
    first, second = {"a": torch.tensor([0.0, 1.0])}, {"a": torch.tensor([1.0, 3.0], dtype=torch.float16)}
    torch.testing.assert_close(averaged(first, second, 0.25)["a"], torch.tensor([0.25, 1.5]))
    with pytest.raises(ValueError, match="different networks"):
        averaged(first, {"b": torch.zeros(2)}, 0.5)
    with pytest.raises(ValueError, match="different networks"):
        averaged(first, {"a": torch.zeros(3)}, 0.5)


def test_the_share_is_that_of_the_left_out_people() -> None:
    """Two folds whose scans are segmented best at 0.3 and 0.5; every one of 0.4 and near is tried."""
    wanted = (0.3, 0.5)

    def judge(fold: int, weights: Mapping[str, torch.Tensor]) -> Sequence[float]:
        return [0.9 - abs(float(weights["a"]) - wanted[fold])] * (2 + fold)

    table = dice_by_share({"a": torch.tensor(0.0)}, [{"a": torch.tensor(1.0)}] * 2, judge)
    assert len(table) == len(SHARES) * 5 and set(table["share"]) == set(SHARES)
    assert best_share(table) == 0.4
    assert best_share(table.assign(dice=0.5)) == 0.0
