"""Where a decision of many sites does not hold: how the decision of the others does at each of them. No torch."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from math import floor
from typing import TypeVar

import numpy as np
from pydantic import Field

from veridice.config import Frozen
from veridice.quality.common_scores import Scores, SiteScores, joined_scores
from veridice.quality.decision import MAX_GROSS, ROUNDED, Flags, PValues

UNLIKE = 0.05
"""Chance below which a site's error rate, of all that are tried, is said to lie outside the promise."""
Name = TypeVar("Name", bound=Hashable)


class SiteReport(Frozen):
    """How the decision of the other sites does at one site."""

    bad_people: int = Field(ge=0, description="people of the site with bad masks")
    accepted_bad: float = Field(ge=0, le=1, description="share of its bad masks, a person each, that the others' test accepts")
    max_missed: float = Field(gt=0, lt=1, description="share that is promised")
    chance: float = Field(ge=0, le=1, description="that so many people or more have theirs accepted, if the promise held there")
    differs: bool = Field(description="whether the site's error rate lies outside the promise")

    def in_words(self, min_dice: float) -> str:
        """For a person."""
        return (
            f"at a Dice of {min_dice:g} the decision of the others accepts {self.accepted_bad:.0%} of its bad masks, and "
            f"{self.max_missed:.0%} are promised"
        )


def site_reports(
    sites: Mapping[Name, SiteScores], max_missed: float, tests: int, in_blocks: bool = False
) -> dict[Name, SiteReport]:
    """For each site: what share of its bad masks the test of all other sites would accept.

    If the site were as the others, the number of its people whose bad mask is accepted would be beta-binomial: the limit is
    itself a rank among the others' people (exact for one mask a person; of several, a person counts by the mean).

    Args:
        sites: scores by site, two or more.
        max_missed: of the bad masks that may be accepted.
        tests: how often this is tried in all, with other needed Dice, which makes it harder for each (Bonferroni).
        in_blocks: whether scores stand for blocks, each at its highest; then a block counts only where the next lower score is
            accepted too.
    """
    from scipy.stats import betabinom  # slow to import

    reports = {}
    for name, own in sites.items():
        others = joined_scores([scores for other, scores in sites.items() if other != name])
        missed = float(np.array(own.bad.share)[_accepted(own.bad, others, max_missed, in_blocks)].sum())
        people, known = own.bad.people, others.bad.people
        allowed = floor((known + 1) * max_missed + ROUNDED)
        many = floor(missed + 1e-6)
        chance = 1.0 if not many else float(betabinom.sf(many - 1, people, allowed, known + 1 - allowed)) if allowed else 0.0
        reports[name] = SiteReport(
            bad_people=people,
            accepted_bad=min(1.0, missed / people) if people else 0.0,
            max_missed=max_missed,
            chance=chance,
            differs=chance < UNLIKE / max(1, tests),
        )
    return reports


def _accepted(own: Scores, others: SiteScores, max_missed: float, in_blocks: bool) -> Flags:
    scores = np.array(own.score)
    none = np.ones(len(scores))
    tests = PValues(
        bad=others.bad.p_values(scores),
        gross=others.gross.p_values(scores),
        good=none,
        max_gross=max(MAX_GROSS, 1 / (others.gross.people + 1)),
    )
    accepted = tests.acceptable(max_missed)
    if in_blocks and len(accepted):
        accepted = accepted & np.concatenate([[False], accepted[:-1]])
    return np.asarray(accepted)
