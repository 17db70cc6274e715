"""From what is thought of the masks of a scan to predicted Dice, interval, verdict and order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from veridice.assessment.analysis import MaskAnalysis
from veridice.case import SIMULATED_CALIBRATION, Notice, RankedMask
from veridice.config import LESION, InferenceSettings, Task
from veridice.errors import InputError
from veridice.metrics.overlap import dice
from veridice.metrics.scores import lesion_volume_ml
from veridice.quality.calibration import CalibrationSet, dice_intervals, expected_shortfall, fewest_cases
from veridice.quality.decision import (
    AGREEMENT_WEIGHT,
    MAX_GROSS,
    Limits,
    PValues,
    Verdict,
    decide_empty,
    fewest_people,
    intervals_for_review,
    p_values,
    people_with_bad_masks,
)
from veridice.quality.model import QualityModel
from veridice.quality.quality_classes import CLASSES, LIMITS, class_chances
from veridice.quality.scan_analysis import ScanAnalysis
from veridice.quality.second_expert import second_expert_dice
from veridice.types import Array

DecidedBy = Literal["not_bad", "not_good", "neither", "unknown_scan", "empty"]
DECIDED_BY: dict[Verdict, DecidedBy] = {"accept": "not_bad", "reject": "not_good", "review": "neither"}
LEAST_WORTH = 0.02
"""A mask that is thought worthless counts at least this much among the others."""


@dataclass(frozen=True)
class Decision:
    """What came of a mask: predicted Dice, expected size of its error, interval, verdict and the test that gave it.

    Args:
        p_values: of "it is bad", "it is a gross failure" and "it is good"; none for an empty mask.
        max_gross: of the gross failures, the share that may be accepted.
        decided_by: ``not_bad``, ``not_good``, ``neither``, ``unknown_scan`` (it would have been accepted) or ``empty``.
    """

    mask_analysis: MaskAnalysis
    predicted_dice: float
    spread: float
    interval: tuple[float, float]
    verdict: Verdict
    p_values: dict[str, float]
    decided_by: DecidedBy
    max_gross: float = MAX_GROSS


def limits_of(settings: InferenceSettings, analysis: ScanAnalysis, task: Task = LESION) -> Limits:
    """What a decision is made for. The lesion load that a second expert would see is taken to be that of our own mask.

    Raises:
        InputError: a second expert's Dice is asked for a task that none is known for.
    """
    if settings.min_dice == "second-expert" and task.name != LESION.name:
        raise InputError(f"what a second expert reaches is not known for task '{task.name}'; give --min-dice a number")
    if settings.min_dice != "second-expert":
        min_dice = task.min_dice if settings.min_dice is None else settings.min_dice
        return Limits(min_dice, settings.max_missed, settings.max_wasted)
    load = lesion_volume_ml(analysis.own, analysis.geometry.voxel_volume_ml)
    thickness = max(analysis.geometry.voxel_spacing)
    needed = second_expert_dice(load, thickness)
    return Limits(needed, settings.max_missed, settings.max_wasted, round(load, 3), round(thickness, 2))


def decide_all(
    mask_analyses: Sequence[MaskAnalysis],
    analysis: ScanAnalysis,
    quality_model: QualityModel,
    coverage: float,
    limits: Limits,
    known: bool,
) -> list[Decision]:
    """Predict, draw the interval and decide, for every mask of a scan.

    An empty mask has no evidence but the passes: its Dice is 1 or 0, expected as often 1 as a pass is empty too.
    """
    predicted, spread = quality_model.predictor.predict([mask_analysis.scores for mask_analysis in mask_analyses])
    ends = dice_intervals(quality_model.calibration, predicted, spread, coverage)
    tests = p_values(quality_model.calibration, predicted, spread, limits.min_dice)
    verdicts, surely = tests.verdicts(limits, known), tests.verdicts(limits)
    if known and "review" in verdicts:
        review = np.array(verdicts) == "review"
        alike = intervals_for_review(quality_model.calibration, predicted[review], spread[review], coverage, limits)
        ends[review] = ends[review] if alike is None else alike
    decisions = []
    for number, mask_analysis in enumerate(mask_analyses):
        value, interval = float(predicted[number]), (float(ends[number, 0]), float(ends[number, 1]))
        verdict, found = verdicts[number], _p_values_of(tests, number)
        reason = "unknown_scan" if surely[number] != verdict else DECIDED_BY[verdict]
        if not mask_analysis.mask.any():
            own_ml = lesion_volume_ml(analysis.own, analysis.geometry.voxel_volume_ml)
            value, interval, verdict = float(mask_analysis.scores["agreement_mean"] or 0.0), (0.0, 1.0), decide_empty(own_ml)
            found, reason = {}, "empty"
        decisions.append(
            Decision(mask_analysis, value, float(spread[number]), interval, verdict, found, reason, tests.max_gross)
        )
    return decisions


def _p_values_of(tests: PValues, number: int) -> dict[str, float]:
    return {name: float(getattr(tests, name)[number]) for name in ("bad", "gross", "good")}


def worth(decision: Decision, calibration: CalibrationSet, min_dice: float, known: bool) -> dict[str, float | None]:
    """How much a look is worth: the chance of failure, and the expected shortfall of the Dice, which a person would make good.

    An empty mask has a Dice of 1 or 0. Of a scan that the models do not know any Dice is as likely as any other, unless a worse
    one is predicted.
    """
    predicted = decision.predicted_dice
    expected = expected_shortfall(calibration, predicted, decision.spread, min_dice)
    if not decision.mask_analysis.mask.any():
        expected = (1 - predicted, min_dice * (1 - predicted))
    if not known:
        chance, gain = expected or (0.0, 0.0)
        expected = (max(chance, min_dice), max(gain, min_dice**2 / 2))
    chance_and_gain = expected or (None, None)
    return dict(zip(("failure_probability", "expected_gain"), chance_and_gain, strict=True))


def quality_chances(decision: Decision, calibration: CalibrationSet, known: bool) -> dict[str, float]:
    """Chance that the mask is poor, fair or good; empty where too few cases are known.

    An empty mask has a Dice of 1 or 0. Of a scan that the models do not know any Dice is as likely as any other.
    """
    if not known:
        chances = np.diff([0.0, *LIMITS, 1.0])
    elif not decision.mask_analysis.mask.any():
        chances = np.array([1 - decision.predicted_dice, 0.0, decision.predicted_dice])
    elif calibration.n < fewest_cases(0.9):
        return {}
    else:
        chances = class_chances(calibration, [decision.predicted_dice], [decision.spread])[0]
    return {name: round(float(chance), 4) for name, chance in zip(CLASSES, chances, strict=True)}


def unfamiliarity(analysis: ScanAnalysis, quality_model: QualityModel) -> float | None:
    """How unlike the scans that the models know, 1 is the most that is tolerated; None: nothing could be measured."""
    found = quality_model.ood.unfamiliarity(analysis.descriptors, analysis.features)
    return found if np.isfinite(found) else None


def ood_warnings(analysis: ScanAnalysis, quality_model: QualityModel) -> tuple[Notice, ...]:
    found = unfamiliarity(analysis, quality_model)
    if found is not None and found <= 1:
        return ()
    odd = quality_model.ood.unusual(analysis.descriptors)
    like = quality_model.ood.most_like(analysis.descriptors, analysis.features)
    said = [*([f"most like: {like}"] if like else []), *odd]
    what = f" ({'; '.join(said)})" if said else ""
    text = f"the models do not know scans like this one, so no mask of it is accepted without a look{what}"
    return (Notice("unknown_scan", text),)


def calibration_warnings(calibration: CalibrationSet, settings: InferenceSettings, limits: Limits) -> tuple[Notice, ...]:
    said: list[Notice] = []
    if calibration.simulated:
        text = "verdict and interval rest on simulated scans: recalibrate on scans of yours (veridice calibrate)"
        said.append(Notice(SIMULATED_CALIBRATION, text))
    if calibration.n < fewest_cases(settings.coverage):
        text = f"{calibration.n} calibration cases are too few for a coverage of {settings.coverage:g}: no interval"
        said.append(Notice("few_calibration_cases", text))
    if calibration.passes not in (None, settings.passes):
        text = f"the interval is for {calibration.passes} passes, not for {settings.passes}"
        said.append(Notice("other_passes", text))
    bad = people_with_bad_masks(calibration, limits.min_dice)
    if limits.min_dice > 0 and bad < (needed := fewest_people(limits.max_missed)):
        text = (
            f"nothing can be accepted at --max-missed {limits.max_missed:g}: the calibration has masks below a Dice of "
            f"{limits.min_dice:g} of {bad:g} people, and {needed} are needed"
        )
        said.append(Notice("few_bad_cases", text))
    return tuple(said)


def rank(decisions: Sequence[Decision]) -> list[tuple[Decision, float]]:
    """Masks of one scan, the best first, each with its mean Dice with the others, which count by their own predicted Dice.

    By the predicted Dice plus :data:`AGREEMENT_WEIGHT` times that agreement: what several tools draw alike is likelier right.
    Two masks agree with each other equally, so that it tells nothing of them.
    """
    overlaps = np.eye(len(decisions))
    for (i, first), (j, second) in combinations(enumerate(decisions), 2):
        overlaps[i, j] = overlaps[j, i] = dice(first.mask_analysis.mask, second.mask_analysis.mask).dice
    predicted = np.array([decision.predicted_dice for decision in decisions])
    agreement = agreement_of(overlaps, predicted)
    order = np.argsort(-predicted - AGREEMENT_WEIGHT * agreement, kind="stable")
    return [(decisions[number], float(agreement[number])) for number in order]


def agreement_of(overlaps: Array, predicted: Array) -> Array:
    """Mean Dice of each mask with the others (masks,), from that of all pairs (masks, masks; the diagonal counts for nothing),
    each other mask counting by its predicted Dice (masks,). 0 for one alone.
    """
    weights = np.maximum(predicted, LEAST_WORTH) * (1 - np.eye(len(predicted)))
    shared = np.where(weights > 0, weights * overlaps, 0.0)
    return np.asarray(shared.sum(axis=1) / np.maximum(weights.sum(axis=1), LEAST_WORTH))


def ranking(ranked: Sequence[tuple[Decision, float]], voxel_ml: float) -> tuple[RankedMask, ...]:
    return tuple(
        RankedMask(
            mask=decision.mask_analysis.name,
            predicted_dice=decision.predicted_dice,
            interval=decision.interval,
            verdict=decision.verdict,
            volume_ml=lesion_volume_ml(decision.mask_analysis.mask, voxel_ml),
            agreement_with_passes=float(decision.mask_analysis.scores["agreement_mean"] or 0.0),
            agreement_with_others=agreement,
        )
        for decision, agreement in ranked
    )
