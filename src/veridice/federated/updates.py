"""Which answers of sites may be averaged: finite weights of the right shape that lie near those of the others. No Flower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray[Any, Any]]
FARTHEST = 10.0
"""A site whose weights moved so many times as far as the middle one of all sites is not averaged."""
FEWEST_TO_COMPARE = 3
"""Sites without whom nobody can be told to be unlike the others."""
MOST_EXAMPLES = 100_000
"""More scans than any site has; a site counts by their number."""


def what_is_wrong(common: Arrays, answer: Arrays, examples: object) -> str:
    """Why an answer is no change of the common weights, in words; empty: nothing is wrong.

    Args:
        common: weights that were sent, by name.
        answer: weights that came back.
        examples: number of scans that the site says it learnt from.
    """
    if not isinstance(examples, int | float) or isinstance(examples, bool) or not 0 < examples <= MOST_EXAMPLES:
        return "a number of scans that cannot be"
    if set(answer) != set(common):
        return "weights of other names"
    if any(answer[name].shape != value.shape or answer[name].dtype != value.dtype for name, value in common.items()):
        return "weights of another shape or type"
    if not all(np.isfinite(value).all() for value in answer.values()):
        return "weights that are not finite"
    return ""


def far_from_others(common: Arrays, answers: Sequence[Arrays]) -> list[bool]:
    """Whether each answer moved :data:`FARTHEST` times as far as the middle one, where there are enough of them to tell."""
    if len(answers) < FEWEST_TO_COMPARE:
        return [False] * len(answers)
    moved = [distance(common, answer) for answer in answers]
    limit = FARTHEST * max(float(np.median(moved)), float(np.finfo(np.float32).tiny))
    return [one > limit for one in moved]


def distance(first: Arrays, second: Arrays) -> float:
    """Euclidean, over all weights."""
    squares = sum(float(np.square(second[name].astype(np.float64) - value).sum()) for name, value in first.items())
    return float(np.sqrt(squares))
