"""Which scan to look at next, and when another look is no longer worth it. No torch.

The worklist is left from its worst end: whoever looks at a scan learns whether its mask is bad, and takes it out. What is
promised of those that are left must survive that looking. Adaptive conformal selection (Gui, Jin, Nair, Ren 2025,
arXiv:2507.15825) shows when it does: the order may follow everything that was seen, as long as the estimate rests on what was
not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from veridice.quality.bad_bound import CONFIDENCE, most_bad
from veridice.quality.decision import CAP, HARDER, MAX_GROSS, TAIL, Flags, PValues
from veridice.types import Numbers

ENOUGH, ENOUGH_OF_EACH = 20, 4
"""Ratings, and good and bad ones among them, without which they are only counted."""
SHIFT, SLOPE, SITE = 1.0, 0.5, 0.7
"""Standard deviations of how far a study may lie from the calibration: intercept and slope of the log odds, and of a site."""
CERTAIN = 0.005
"""No chance is nearer to 0 or 1 than this before it is brought up to date."""


@dataclass(frozen=True)
class Worklist:
    """The masks of a study, in any order; each array is (masks,).

    Args:
        chance: that a mask is bad, by the calibration.
        gain: Dice that a look is expected to make good.
        p_bad, p_gross: of the tests; NaN where no mask could be accepted.
        site: number of the site.
    """

    chance: Numbers
    gain: Numbers
    p_bad: Numbers
    p_gross: Numbers
    site: np.ndarray[tuple[int], np.dtype[np.int64]]


@dataclass(frozen=True)
class Standing:
    """Where a study stands after some looks.

    Args:
        seen, bad: masks that were looked at, and those of them that are bad.
        unseen: the others.
        expected_bad: of the others, by the chances brought up to date.
        bad_share: of the others, the share that is expected to be bad at most, by the tests; None: nothing is promised.
        at_most: so many of the others are bad at most, with :data:`.CONFIDENCE`, however they were chosen; None: not known.
        up_to_date: whether the ratings are enough to change the chances.
        worth_it: whether another look is worth it for the share that was asked for.
    """

    seen: int
    bad: int
    unseen: int
    expected_bad: float
    bad_share: float | None
    at_most: int | None
    up_to_date: bool
    worth_it: bool


def updated_chances(worklist: Worklist, seen: Flags, bad: Flags) -> tuple[Numbers, bool]:
    """Chances that take the ratings of this study as its own calibration, where there are enough.

    The log odds of the calibration are shifted, stretched and given an offset for each site (logistic recalibration, Cox 1958;
    the site as a random effect), by the greatest posterior density: few ratings change little.

    Args:
        worklist: of all masks.
        seen: those that were rated (masks,).
        bad: those that were found bad (masks,); only ``seen`` ones count.

    Returns:
        Chances (masks,), and whether they were brought up to date.
    """
    wrong = int((seen & bad).sum())
    if seen.sum() < ENOUGH or min(wrong, int(seen.sum()) - wrong) < ENOUGH_OF_EACH:
        return worklist.chance, False
    before = logit(worklist.chance.clip(CERTAIN, 1 - CERTAIN))
    sites = int(worklist.site.max()) + 1
    sign = np.where(bad[seen], -1.0, 1.0)

    def loss(values: Numbers) -> tuple[float, Numbers]:
        odds = values[0] + values[1] * before[seen] + values[2:][worklist.site[seen]]
        slope = sign * expit(sign * odds)
        prior = np.concatenate([[values[0] / SHIFT**2, (values[1] - 1) / SLOPE**2], values[2:] / SITE**2])
        height = np.logaddexp(0.0, sign * odds).sum() + 0.5 * (
            (values[0] / SHIFT) ** 2 + ((values[1] - 1) / SLOPE) ** 2 + ((values[2:] / SITE) ** 2).sum()
        )
        of_sites = np.bincount(worklist.site[seen], slope, sites)
        return float(height), np.concatenate([[slope.sum(), (slope * before[seen]).sum()], of_sites]) + prior

    found = minimize(loss, np.concatenate([[0.0, 1.0], np.zeros(sites)]), jac=True, method="L-BFGS-B").x
    return np.asarray(expit(found[0] + found[1] * before + found[2:][worklist.site])), True


def updated_gain(worklist: Worklist, chances: Numbers) -> Numbers:
    """Expected gain of a look (masks,), changed as the chance of a bad mask is."""
    return np.asarray(worklist.gain * chances / worklist.chance.clip(CERTAIN))


def standing(
    worklist: Worklist, seen: Flags, bad: Flags, max_bad: float, witnesses: int | None, max_gross: float = MAX_GROSS
) -> Standing:
    """What can be promised of the masks that nobody has looked at.

    The share is that of :func:`veridice.quality.decision.decide_study` at the largest p-value that is left. The number at most
    holds for every choice at once, so also for one that follows what was seen.

    Args:
        worklist: of all masks.
        seen, bad: as in :func:`updated_chances`.
        max_bad: of the masks that nobody looks at, the share that may be bad.
        witnesses: people of the calibration with bad masks; None: another calibration judged the study.
        max_gross: of the gross failures, the share that may be left.
    """
    chances, up_to_date = updated_chances(worklist, seen, bad)
    left = ~seen
    expected, count = float(chances[left].sum()), int(left.sum())
    share = _bad_share(worklist, left, max_gross)
    enough = not count or (share is not None and share <= max_bad and (not up_to_date or expected <= max_bad * count))
    return Standing(
        seen=int(seen.sum()),
        bad=int((seen & bad).sum()),
        unseen=count,
        expected_bad=expected,
        bad_share=share,
        at_most=_at_most(worklist, left, witnesses),
        up_to_date=up_to_date,
        worth_it=not enough,
    )


def _bad_share(worklist: Worklist, left: Flags, max_gross: float) -> float | None:
    """Share of bad masks among those that are left; None where one of them could not be accepted at all."""
    tested = np.isfinite(worklist.p_bad)
    if not left.any():
        return 0.0
    if not tested[left].all():
        return None
    tests = PValues(worklist.p_bad[left], worklist.p_gross[left], np.ones(int(left.sum())), max_gross)
    if not tests.acceptable(CAP).all():
        return None
    everyone = worklist.p_bad[tested]
    bad = (1 + np.count_nonzero(everyone > TAIL)) / (1 - TAIL)
    return float(min(1.0, HARDER * min(bad, len(everyone)) * tests.bad.max() / left.sum()))


def _at_most(worklist: Worklist, left: Flags, witnesses: int | None) -> int | None:
    tested = np.isfinite(worklist.p_bad)
    if witnesses is None or not tested.any():
        return None
    untested = int((left & ~tested).sum())
    return untested + int(most_bad(worklist.p_bad[tested], left[tested][None], witnesses, CONFIDENCE)[0])
