"""The decision about a mask as tests: that it is worse than it has to be, and that it is not. No torch.

A user asks two one-sided questions: how many bad masks slip through, and how many good ones are turned away. So a mask is
accepted when it is tested not to be bad (conformal p-values from calibration masks that are bad: Bates et al. 2023; Jin and
Candès 2023), rejected when it is tested not to be good, and shown to a person otherwise (three groups, each with its promise,
as in Conformal Triage, Angelopoulos et al. 2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Literal

import numpy as np

from veridice.quality.calibration import CalibrationSet, dice_intervals, fewest_cases
from veridice.quality.common_scores import SIDES
from veridice.types import Array, Numbers

Verdict = Literal["accept", "review", "reject"]
Flags = np.ndarray[tuple[int], np.dtype[np.bool_]]
MIN_DICE = 0.75
"""Dice that a mask needs to be of use, where nobody says (paper)."""
AGREEMENT_WEIGHT = 0.2
"""How much agreement with the other masks of a scan counts beside the predicted Dice, in a ranking (docs/any-mask.md)."""
MAX_MISSED = MAX_WASTED = 0.05
"""Of the bad masks that may be accepted, and of the good ones that may be rejected, where nobody says."""
GROSS, MAX_GROSS = 0.10, 0.01
"""A mask that is worse by this much than it has to be is a gross failure; so many of them may be accepted."""
CAP = 0.05
"""Highest p-value with which a mask of a study is accepted, however good the others are: without it a study of few bad masks
would accept all of them and still keep its rate."""
HARDER = 2.0
"""Bad masks of easy and ordinary scans, which most studies are made of, pass up to 1.6 times as often as those of all
calibration scans (docs/promise.md): a study is decided as if all its bad masks passed so much more often."""
TAIL = 0.5
"""p-values above it are taken to be those of bad masks (Storey 2002)."""
ROUNDED = 1e-9
"""A p-value that misses its level by less does so by rounding: the lowest one of few people is to pass."""
EMPTY_IS_WRONG_ML = 0.1
"""An empty mask is rejected where our own has at least this volume: next to no scan that holds so much has none."""


@dataclass(frozen=True)
class Limits:
    """What a decision is made for.

    Args:
        min_dice: what a mask needs to be of use; one below it is bad, one at or above it good.
        max_missed: of the bad masks that may be accepted.
        max_wasted: of the good masks that may be rejected.
        for_load_ml, for_slice_mm: where ``min_dice`` is what a second expert would reach, the lesion volume and the slice
            thickness that it was taken for.
    """

    min_dice: float = MIN_DICE
    max_missed: float = MAX_MISSED
    max_wasted: float = MAX_WASTED
    for_load_ml: float | None = None
    for_slice_mm: float | None = None


@dataclass(frozen=True)
class PValues:
    """p-values of masks, each (masks,): small ones speak against what was tested.

    Args:
        bad: of "its Dice is below the needed one".
        gross: of "it is below that by :data:`GROSS`".
        good: of "it is at or above the needed one".
        max_gross: the level of the second that so few calibration cases allow, at least :data:`MAX_GROSS`.
    """

    bad: Numbers
    gross: Numbers
    good: Numbers
    max_gross: float = MAX_GROSS

    def acceptable(self, max_missed: float) -> Flags:
        """Masks that are tested not to be bad."""
        return np.asarray((self.bad <= max_missed + ROUNDED) & (self.gross <= self.max_gross + ROUNDED))

    def verdicts(self, limits: Limits, known: bool = True) -> list[Verdict]:
        """One a mask; without ``known`` none is accepted, since the models' word is not enough then.

        Where both tests turn out, which only a calibration without any mask in between allows, a person looks.
        """
        accepted, rejected = self.acceptable(limits.max_missed), self.good <= limits.max_wasted + ROUNDED
        return [
            "review" if yes == no or (yes and not known) else "accept" if yes else "reject"
            for yes, no in zip(accepted, rejected, strict=True)
        ]


def p_values(calibration: CalibrationSet, predicted: Numbers, spread: Numbers, min_dice: float) -> PValues:
    """Test masks against the calibration's bad ones and its good ones.

    What is compared is how far the predicted Dice lies above the needed one, in expected errors. Of what was tried on people
    of training and validation it lets most good masks be accepted and most bad ones be rejected (docs/promise.md).

    Args:
        calibration: cases that took no part in any fit.
        predicted, spread: of the masks (masks,).
        min_dice: what a mask needs to be of use.
    """
    margin = (np.asarray(predicted) - min_dice) / spread
    if common := calibration.common_for(min_dice):
        found = {kind: getattr(common, kind).p_values(sign * margin) for kind, sign in SIDES.items()}
        return PValues(**found, max_gross=max(MAX_GROSS, 1 / (common.gross.people + 1)))
    usable = calibration.usable
    known = np.subtract(calibration.predicted, min_dice)[usable] / np.array(calibration.spread)[usable]
    dice, people, weights = np.array(calibration.dice)[usable], calibration.people[usable], calibration.weights_of_cases[usable]
    bad, gross = dice < min_dice, dice < min_dice - GROSS

    def among(chosen: Flags, sign: int) -> Numbers:
        return conformal_p(sign * known[chosen], people[chosen], sign * margin, weights[chosen])

    none = np.zeros(len(margin))
    return PValues(
        # Where no mask can be below, nothing speaks for its being so.
        bad=among(bad, 1) if min_dice > 0 else none,
        gross=among(gross, 1) if min_dice > GROSS else none,
        good=among(~bad, -1) if min_dice > 0 else none + 1,
        max_gross=max(MAX_GROSS, 1 / (_witnesses(people[gross], weights[gross]) + 1)),
    )


def conformal_p(known: Numbers, people: Array, new: Numbers, weights: Numbers | None = None) -> Numbers:
    """Conformal p-values of new scores among known ones: the share of people whose scores are at least as high.

    Each person counts once, by the mean over their masks, so that several masks of one person are no several witnesses
    (hierarchical conformal prediction: Lee, Barber, Willett 2023, arXiv:2306.06342). 1 where nobody is known.

    Args:
        known: scores of calibration masks (cases,).
        people: whose each is (cases,).
        new: scores of new masks (masks,), whose people count as those that count most.
        weights: how much the person of each counts (cases,); None: all alike.
    """
    if not len(known):
        return np.ones(len(new))
    _, first, member, count = np.unique(people, return_index=True, return_inverse=True, return_counts=True)
    of_person = np.ones(len(first)) if weights is None else weights[first]
    order = np.argsort(known)
    share = (of_person / count)[member][order]
    above = np.concatenate([np.cumsum(share[::-1])[::-1], [0.0]])
    own = of_person.max()
    return np.asarray((own + above[np.searchsorted(known[order], new, "left")]) / (own + of_person.sum()))


def left_for_review(calibration: CalibrationSet, limits: Limits) -> Flags:
    """Cases of a calibration that the same tests, by the other people, would neither accept nor reject (cases,).

    Intervals for what is left to a person are conditional on that (the idea of StratCP): intervals for all masks hold for all
    of them on average, not for this part.
    """
    usable = calibration.usable
    dice, people, weights = np.array(calibration.dice), calibration.people, calibration.weights_of_cases
    margin = (np.array(calibration.predicted) - limits.min_dice) / np.array(calibration.spread)
    _, member = np.unique(people, return_inverse=True)
    first_of_person = member * (calibration.n + 1)

    def among(chosen: Flags, sign: int) -> Numbers:
        share = np.zeros(calibration.n)
        share[chosen] = (weights / np.maximum(np.bincount(member[chosen], minlength=member.max() + 1)[member], 1))[chosen]
        _, rank = np.unique(-sign * margin, return_inverse=True)
        everyone = np.cumsum(np.bincount(rank, share))[rank]
        # The same among the masks of the own person, in whose place stands the person itself.
        order = np.argsort(keys := first_of_person + rank)
        sums = np.concatenate([[0.0], np.cumsum(share[order])])
        up_to, before = np.searchsorted(keys[order], keys, "right"), np.searchsorted(keys[order], first_of_person)
        others = share.sum() - np.bincount(member, share)[member]
        return np.asarray((weights.max() + everyone - (sums[up_to] - sums[before])) / (weights.max() + others))

    bad, gross = dice < limits.min_dice, dice < limits.min_dice - GROSS
    tests = PValues(
        bad=among(usable & bad, 1),
        gross=among(usable & gross, 1),
        good=among(usable & ~bad, -1),
        # One person fewer is left to test against.
        max_gross=max(MAX_GROSS, 1 / max(1.0, _witnesses(people[usable & gross], weights[usable & gross]))),
    )
    return usable & (np.array(tests.verdicts(limits)) == "review")


def intervals_for_review(
    calibration: CalibrationSet, predicted: Numbers, spread: Numbers, coverage: float, limits: Limits
) -> Numbers | None:
    """Intervals of masks that the tests leave for review (masks, 2); None where too few known ones are left so."""
    alike = left_for_review(calibration, limits)
    if np.count_nonzero(alike) < fewest_cases(coverage):
        return None
    return dice_intervals(calibration.only(alike), predicted, spread, coverage)


def people_with_bad_masks(calibration: CalibrationSet, min_dice: float) -> float:
    """How many people of a calibration have a mask that is bad and could be accepted: the witnesses of the first test.

    Those who count less than others are so many parts of one.
    """
    if common := calibration.common_for(min_dice):
        return float(common.bad.people)
    bad = calibration.usable & (np.array(calibration.dice) < min_dice)
    return _witnesses(calibration.people[bad], calibration.weights_of_cases[bad])


def _witnesses(people: Array, weights: Numbers) -> float:
    of_person = weights[np.unique(people, return_index=True)[1]]
    return float(of_person.sum() / of_person.max()) if len(of_person) else 0.0


def fewest_people(level: float) -> int:
    """People with bad masks without whom no mask can be accepted at a level: one in ``1 / level`` must be able to be worst."""
    return ceil(round(1 / level, 9)) - 1


@dataclass(frozen=True)
class StudyDecision:
    """Which masks of a study are accepted together, and what is expected of them.

    Args:
        accepted: (masks,).
        bad_share: estimated share of bad masks among all.
        expected_bad: expected share of bad masks among the accepted, at most the one that was asked for; 0 without any.
    """

    accepted: Flags
    bad_share: float
    expected_bad: float


def decide_study(tests: PValues, max_bad: float, cap: float = CAP) -> StudyDecision:
    """Accept masks of a study so that of the accepted at most a share of ``max_bad`` is expected to be bad.

    Benjamini and Hochberg (1995) on the p-values of "it is bad", times the share of bad masks as Storey (2002) estimates it and
    times :data:`HARDER`; no mask above ``cap``, and none that may be a gross failure.
    """
    count = len(tests.bad)
    if not count:
        return StudyDecision(np.zeros(0, bool), 0.0, 0.0)
    share = min(1.0, (1 + np.count_nonzero(tests.bad > TAIL)) / (count * (1 - TAIL)))
    # Those that may be gross failures, or lie above the cap, are no discoveries, but all masks count among the tested.
    ordered = np.sort(tests.bad[tests.acceptable(cap)])
    expected = HARDER * share * count * ordered / np.arange(1, len(ordered) + 1)
    within = np.flatnonzero(expected <= max_bad)
    if not len(within):
        return StudyDecision(np.zeros(count, bool), float(share), 0.0)
    return StudyDecision(tests.acceptable(float(ordered[within[-1]])), float(share), float(expected[within[-1]]))


def decide_empty(own_volume_ml: float) -> Verdict:
    """An empty mask: rejected where our own network finds lesions, else for a person to look at; never accepted unseen."""
    return "reject" if own_volume_ml >= EMPTY_IS_WRONG_ML else "review"
