"""The decision about a mask tested against masks of many sites, of which only sorted scores are known. No torch.

A site shares, for each needed Dice, how far the predicted Dice of its masks lay above the needed one, in expected errors: apart
for masks that are bad, grossly bad and good, sorted, with no sign of who is whose. That is all that the tests of
:mod:`.decision` need.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field, model_validator

from veridice.config import Frozen
from veridice.types import Array, Numbers

if TYPE_CHECKING:
    from veridice.quality.calibration import CalibrationSet

SIDES = {"bad": 1, "gross": 1, "good": -1}
"""Kinds of masks, and on which side of the needed Dice a score speaks against a mask's being of that kind."""
UPPER = 0.8
"""Share of people below which blocks are equal; above it they get finer."""
DIGITS, ROUNDING = 4, 1e-6
MOST_PEOPLE = 100_000
"""More than any site has."""


class Scores(Frozen):
    """Masks of one kind, sorted; each person counts once, by the mean over its masks."""

    score: tuple[float, ...] = Field(description="how far each lies on the side that is tested against, the smallest first")
    share: tuple[float, ...] = Field(description="how much of a person each stands for")
    people: int = Field(ge=0, le=MOST_PEOPLE, description="how many people they are of")

    @classmethod
    def of(cls, score: Numbers, people: Array, quantiles: int = 0) -> Scores:
        """From scores of masks (masks,) and whose they are (masks,).

        Args:
            score: any finite numbers.
            people: whose each is.
            quantiles: share at most so many blocks instead of all scores; half of them halve what is left above four fifths,
                since decisions are made there. Each stands at its highest score, so that p-values can only grow. 0: all.
        """
        if not len(score):
            return cls(score=(), share=(), people=0)
        _, member, count = np.unique(people, return_inverse=True, return_counts=True)
        order = np.argsort(score)
        values, shares = np.asarray(score)[order], (1.0 / count)[member][order]
        if quantiles and len(values) > quantiles:
            upper = (quantiles + 1) // 2
            halved = 1 - (1 - UPPER) * 0.5 ** np.arange(1, upper)
            ends = [*np.linspace(0, UPPER, quantiles - upper + 1)[1:], *halved, 1.0]
            block = np.searchsorted(ends, np.cumsum(shares) / shares.sum() * (1 - 1e-12))
            last = np.flatnonzero(np.diff(block, append=quantiles))
            values, shares = values[last], np.diff(np.cumsum(shares)[last], prepend=0.0)
        # Rounded up, since then p-values can only grow.
        upward = np.ceil(values * 10**DIGITS) / 10**DIGITS
        return cls(score=tuple(upward.tolist()), share=tuple(shares.tolist()), people=len(count))

    @model_validator(mode="after")
    def _fits(self) -> Scores:
        if len(self.score) != len(self.share) or any(a > b for a, b in zip(self.score, self.score[1:], strict=False)):
            raise ValueError("scores must be sorted, with as many shares")
        if not np.isfinite(self.score).all() or not all(0 < share <= self.people + ROUNDING for share in self.share):
            raise ValueError("scores must be finite and shares positive")
        if abs(sum(self.share) - self.people) > ROUNDING * (len(self.share) + 1):
            raise ValueError("shares must be of all people, and of nobody else")
        return self

    def p_values(self, new: Numbers) -> Numbers:
        """Conformal p-values of new scores (masks,): the share of people, the new one with them, that lie at least as high."""
        above = np.concatenate([np.cumsum(np.array(self.share)[::-1])[::-1], [0.0]])
        return np.asarray((1 + above[np.searchsorted(self.score, np.asarray(new), "left")]) / (1 + self.people)).clip(max=1.0)


class SiteScores(Frozen):
    """What a site shares of its masks for one needed Dice."""

    min_dice: float = Field(gt=0, lt=1, description="Dice that a mask needs")
    bad: Scores
    gross: Scores
    good: Scores


def share_scores(calibration: CalibrationSet, min_dice: float, gross: float, quantiles: int = 0) -> SiteScores:
    """What a site tells of its own calibration.

    Args:
        calibration: known masks of the site; those that could not be accepted anyway are left out.
        min_dice: what a mask needs to be of use.
        gross: how much worse a gross failure is.
        quantiles: as in :meth:`Scores.of`.
    """
    usable = calibration.usable
    margin = (np.array(calibration.predicted)[usable] - min_dice) / np.array(calibration.spread)[usable]
    dice, people = np.array(calibration.dice)[usable], calibration.people[usable]
    chosen = {"bad": dice < min_dice, "gross": dice < min_dice - gross, "good": dice >= min_dice}
    found = {kind: Scores.of(SIDES[kind] * margin[is_it], people[is_it], quantiles) for kind, is_it in chosen.items()}
    return SiteScores(min_dice=min_dice, **found)


def joined_scores(sites: Sequence[SiteScores]) -> SiteScores:
    """Scores of many sites in one: the mixture in which each site has as much part as it has people.

    Raises:
        ValueError: there are none, or they are for different needed Dice.
    """
    if len({site.min_dice for site in sites}) != 1:
        raise ValueError("scores for one needed Dice are needed")
    return SiteScores(min_dice=sites[0].min_dice, **{kind: _joined([getattr(site, kind) for site in sites]) for kind in SIDES})


def _joined(parts: Sequence[Scores]) -> Scores:
    score = np.concatenate([part.score for part in parts])
    order = np.argsort(score, kind="stable")
    share = np.concatenate([part.share for part in parts])
    people = sum(part.people for part in parts)
    # Each part was checked; together they may be of more people than one site may have.
    return Scores.model_construct(score=tuple(score[order].tolist()), share=tuple(share[order].tolist()), people=people)
