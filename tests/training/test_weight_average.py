"""Averages of weights, by hand."""

from __future__ import annotations

import pytest
import torch

from veridice.training.weight_average import averaged


def test_by_hand() -> None:
    first, second = {"a": torch.tensor([0.0, 1.0])}, {"a": torch.tensor([1.0, 3.0], dtype=torch.float16)}
    torch.testing.assert_close(averaged(first, second, 0.25)["a"], torch.tensor([0.25, 1.5]))
    with pytest.raises(ValueError, match="different networks"):
        averaged(first, {"b": torch.zeros(2)}, 0.5)
    with pytest.raises(ValueError, match="different networks"):
        averaged(first, {"a": torch.zeros(3)}, 0.5)
