"""One scan end to end: volumes in, judgement and maps out. The heart of the package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from veridice._version import __version__
from veridice.assessment.models import Networks, describe_model
from veridice.case import Assessment, Calibration, RankedMask
from veridice.config import InferenceSettings
from veridice.errors import GeometryError
from veridice.imaging.scan import GivenMask, Scan
from veridice.imaging.volume import Volume
from veridice.inference.passes import choose_backend
from veridice.metrics.overlap import dice
from veridice.metrics.scores import lesion_volume_ml
from veridice.progress import Clock, Tick
from veridice.quality.calibration import CalibrationSet, dice_intervals, expected_shortfall, fewest_cases
from veridice.quality.model import Judge
from veridice.quality.single_lesions import Lesion, LesionModel, describe_lesions, label_lesions, missed_mask
from veridice.quality.verdict import MIN_DICE, Verdict, decide, decide_by_rule, decide_empty
from veridice.study import OWN, Opinion, StudiedScan, judge_mask, study_scan
from veridice.types import Mask

Numbers = np.ndarray[Any, np.dtype[np.float64]]
AGREEMENT_WEIGHT = 0.2
"""How much agreement with the other masks of a scan counts beside the predicted Dice (docs/any-mask.md)."""
LEAST_WORTH = 0.02
"""A mask that is thought worthless counts at least this much among the others."""


@dataclass(frozen=True)
class Judgement:
    """An assessment that is not stored yet.

    Args:
        assessment: without its files.
        maps: in the FLAIR's own grid, by name.
        lesions: of the judged mask; numbered in the map ``lesion_numbers``.
        missed: places that look like missed lesions, numbered on.
        lesion_model: for the confidence in either.
        preprocessing: JSON-ready record of every step between the scan and the cube.
    """

    assessment: Assessment
    maps: dict[str, Volume]
    lesions: list[Lesion]
    missed: list[Lesion]
    lesion_model: LesionModel
    preprocessing: dict[str, Any]


def assess_scan(
    case: str,
    flair: Volume,
    t1: Volume | None,
    mask: Volume | None,
    networks: Networks,
    settings: InferenceSettings,
    tick: Tick | None = None,
) -> Judgement:
    """Judge our own segmentation of a scan, or a given one.

    Args:
        case: name of the scan.
        flair: the scan; all maps come back in its grid.
        t1: on the same grid; zeros take its place when absent, with a warning.
        mask: boolean, on the same grid; judged instead of our own segmentation.
        networks: from :func:`load_networks`.
        settings: passes, seed, device, threshold.
        tick: called after each stochastic pass.

    Raises:
        GeometryError: T1w or mask lie on another grid.
        InputError: nothing can be judged in this image.
    """
    _require_grid(flair, t1, "T1w", "register and resample the T1w to the FLAIR first (for example with flirt)")
    _require_grid(flair, mask, "mask", "resample it with nearest neighbour first")
    given = [] if mask is None else [GivenMask("mask", mask)]
    return assess_masks(case, Scan(flair, t1), given, networks, settings, tick)


def assess_masks(
    case: str,
    scan: Scan,
    masks: Sequence[GivenMask],
    networks: Networks,
    settings: InferenceSettings,
    tick: Tick | None = None,
) -> Judgement:
    """Judge our own segmentation of a scan, a given one, or several, of which the best is described and all are ranked.

    Args:
        case: name of the scan.
        scan: from :func:`veridice.io.scan_reader.read_scan`.
        masks: to judge; none: our own.
        networks: from :func:`load_networks`.
        settings: passes, seed, device, threshold.
        tick: called after each stochastic pass.

    Raises:
        InputError: nothing can be judged in this image.
    """
    if networks.judge is None:
        raise ValueError("these networks have no judge; load them with load_networks(folder)")
    clock = Clock()
    backend = choose_backend(settings)
    studied = study_scan(scan, networks, settings, backend, clock, tick)
    opinions = [judge_mask(mask, studied, networks, backend, clock) for mask in masks or (None,)]
    calibration = networks.judge.calibration
    min_dice = useful_dice(settings, calibration)
    with clock.stage("verdict"):
        doubts = tuple(f"{doubt}; no mask is accepted unseen" for doubt in studied.doubts)
        oddities = _oddities(studied, networks.judge)
        known = not (doubts or oddities)
        decisions = decide_all(opinions, studied, networks.judge, settings.coverage, min_dice, known)
    ranked = rank(decisions)
    decision, _ = ranked[0]
    best = decision.opinion
    with clock.stage("native_maps"):
        native = native_maps(best, studied)
    with clock.stage("lesions"):
        numbers, lesions, missed = list_lesions(best.mask, studied)
    native["lesion_numbers"] = Volume(numbers, scan.flair.geometry)
    voxel_ml = scan.flair.geometry.voxel_volume_ml
    assessment = Assessment(
        case=case,
        verdict=decision.verdict,
        predicted_dice=decision.predicted_dice,
        interval=decision.interval,
        coverage=settings.coverage,
        calibration=Calibration(
            source=calibration.source,
            n=calibration.n,
            simulated=calibration.simulated,
            accept_from=rule.threshold if (rule := calibration.rule_for(min_dice)) else None,
        ),
        for_review=not known,
        judged_mask=best.name,
        ranking=_ranking(ranked, voxel_ml) if len(masks) > 1 else (),
        scores={
            **best.scores,
            "predicted_spread": decision.spread,
            "unfamiliarity": unfamiliarity(studied, networks.judge),
            **_worth(decision, calibration, min_dice, known),
        },
        volumes_ml={
            "judged_mask": lesion_volume_ml(best.mask, voxel_ml),
            "own_mask": lesion_volume_ml(studied.reading.own, voxel_ml),
            "brain": lesion_volume_ml(studied.reading.native_brain, voxel_ml),
            "looks_missed": sum(lesion.volume_ml for lesion in missed),
        },
        warnings=(
            *studied.warnings,
            *doubts,
            *best.warnings,
            *oddities,
            *_calibration_warnings(calibration, settings, min_dice),
        ),
        maps={},
        seconds=clock.seconds,
        model=describe_model(networks, settings, min_dice, backend.for_network(networks.segmenter)),
        version=__version__,
    )
    return Judgement(assessment, native, lesions, missed, networks.judge.lesions, studied.preprocessing)


@dataclass(frozen=True)
class Decision:
    """What came of an opinion: predicted Dice, expected size of its error, interval, verdict."""

    opinion: Opinion
    predicted_dice: float
    spread: float
    interval: tuple[float, float]
    verdict: Verdict


def useful_dice(settings: InferenceSettings, calibration: CalibrationSet) -> float:
    """Dice that a mask needs to be of use: the one asked for, else that of the calibration's own rule, else the paper's."""
    if settings.min_dice is not None:
        return settings.min_dice
    return calibration.accept.min_dice if calibration.accept else MIN_DICE


def decide_all(
    opinions: Sequence[Opinion], studied: StudiedScan, judge: Judge, coverage: float, min_dice: float, known: bool
) -> list[Decision]:
    """Predict, draw the interval and decide, for every mask of a scan.

    An empty mask has no evidence but the passes: its Dice is 1 or 0, expected as often 1 as a pass is empty too.
    """
    predicted, spread = judge.predictor.predict([opinion.scores for opinion in opinions])
    ends = dice_intervals(judge.calibration, predicted, spread, coverage)
    rule = judge.calibration.rule_for(min_dice)
    decisions = []
    for number, opinion in enumerate(opinions):
        value, interval = float(predicted[number]), (float(ends[number, 0]), float(ends[number, 1]))
        if not opinion.mask.any():
            own_ml = lesion_volume_ml(studied.reading.own, studied.reading.geometry.voxel_volume_ml)
            value, interval, verdict = float(opinion.scores["agreement_mean"] or 0.0), (0.0, 1.0), decide_empty(own_ml)
        elif rule is not None:
            verdict = decide_by_rule(value, rule.threshold, interval, min_dice, known)
        else:
            verdict = decide(interval, min_dice, known)
        decisions.append(Decision(opinion, value, float(spread[number]), interval, verdict))
    return decisions


def _worth(decision: Decision, calibration: CalibrationSet, min_dice: float, known: bool) -> dict[str, float | None]:
    """How much a look is worth: the chance of failure, and the expected shortfall of the Dice, which a person would make good.

    An empty mask has a Dice of 1 or 0. Of a scan that the models do not know any Dice is as likely as any other, unless a worse
    one is predicted.
    """
    predicted = decision.predicted_dice
    expected = expected_shortfall(calibration, predicted, decision.spread, min_dice)
    if not decision.opinion.mask.any():
        expected = (1 - predicted, min_dice * (1 - predicted))
    if not known:
        chance, gain = expected or (0.0, 0.0)
        expected = (max(chance, min_dice), max(gain, min_dice**2 / 2))
    chance_and_gain = expected or (None, None)
    return dict(zip(("failure_probability", "expected_gain"), chance_and_gain, strict=True))


def unfamiliarity(studied: StudiedScan, judge: Judge) -> float | None:
    """How unlike the scans that the models know, 1 is the most that is tolerated; None: nothing could be measured."""
    found = judge.familiarity.unfamiliarity(studied.descriptors, studied.features)
    return found if np.isfinite(found) else None


def _oddities(studied: StudiedScan, judge: Judge) -> tuple[str, ...]:
    found = unfamiliarity(studied, judge)
    if found is not None and found <= 1:
        return ()
    odd = judge.familiarity.oddities(studied.descriptors)
    like = judge.familiarity.most_like(studied.descriptors, studied.features)
    said = [*([f"most like: {like}"] if like else []), *odd]
    what = f" ({'; '.join(said)})" if said else ""
    return (f"the models do not know scans like this one, so no mask of it is accepted without a look{what}",)


def _calibration_warnings(calibration: CalibrationSet, settings: InferenceSettings, min_dice: float) -> tuple[str, ...]:
    said = []
    if calibration.simulated:
        said.append("the interval rests on simulated scans: recalibrate on scans of yours (veridice calibrate)")
    if calibration.n < fewest_cases(settings.coverage):
        said.append(f"{calibration.n} calibration cases are too few for a coverage of {settings.coverage:g}: no interval")
    if calibration.passes not in (None, settings.passes):
        said.append(f"the interval is for {calibration.passes} passes, not for {settings.passes}")
    if calibration.accept is not None and calibration.accept.min_dice != min_dice:
        said.append(f"the calibration's own threshold is for --min-dice {calibration.accept.min_dice:g} and was not used")
    return tuple(said)


def rank(decisions: Sequence[Decision]) -> list[tuple[Decision, float]]:
    """Masks of one scan, the best first, each with its mean Dice with the others, which count by their own predicted Dice.

    By the predicted Dice plus :data:`AGREEMENT_WEIGHT` times that agreement: what several tools draw alike is likelier right.
    Two masks agree with each other equally, so that it tells nothing of them.
    """
    overlaps = np.eye(len(decisions))
    for (i, first), (j, second) in combinations(enumerate(decisions), 2):
        overlaps[i, j] = overlaps[j, i] = dice(first.opinion.mask, second.opinion.mask).dice
    predicted = np.array([decision.predicted_dice for decision in decisions])
    agreement = agreement_of(overlaps, predicted)
    order = np.argsort(-predicted - AGREEMENT_WEIGHT * agreement, kind="stable")
    return [(decisions[number], float(agreement[number])) for number in order]


def agreement_of(overlaps: Numbers, predicted: Numbers) -> Numbers:
    """Mean Dice of each mask with the others (masks,), from that of all pairs (masks, masks; the diagonal counts for nothing),
    each other mask counting by its predicted Dice (masks,). 0 for one alone.
    """
    weights = np.maximum(predicted, LEAST_WORTH) * (1 - np.eye(len(predicted)))
    shared = np.where(weights > 0, weights * overlaps, 0.0)
    return np.asarray(shared.sum(axis=1) / np.maximum(weights.sum(axis=1), LEAST_WORTH))


def _ranking(ranked: Sequence[tuple[Decision, float]], voxel_ml: float) -> tuple[RankedMask, ...]:
    return tuple(
        RankedMask(
            mask=decision.opinion.name,
            predicted_dice=decision.predicted_dice,
            interval=decision.interval,
            verdict=decision.verdict,
            volume_ml=lesion_volume_ml(decision.opinion.mask, voxel_ml),
            agreement_with_passes=float(decision.opinion.scores["agreement_mean"] or 0.0),
            agreement_with_others=agreement,
        )
        for decision, agreement in ranked
    )


def list_lesions(mask: Mask, studied: StudiedScan) -> tuple[np.ndarray[Any, np.dtype[np.int16]], list[Lesion], list[Lesion]]:
    """Label map (int16, FLAIR's grid), lesions of the mask, and places that look missed, numbered after them."""
    reading, flair = studied.reading, studied.scan.flair.voxels
    labels, count = label_lesions(mask)
    missed, missed_count = label_lesions(missed_mask(mask, reading))
    lesions = describe_lesions(labels, count, flair, reading)
    places = describe_lesions(missed, missed_count, flair, reading)
    numbers = np.where(missed > 0, missed + count, labels).astype(np.int16)
    return numbers, lesions, [replace(place, number=place.number + count) for place in places]


def native_maps(opinion: Opinion, studied: StudiedScan) -> dict[str, Volume]:
    """Maps back in the FLAIR's grid."""
    maps, transform = opinion.maps, studied.reading.transform
    on_grid = {
        "entropy": maps.entropy,
        "variance": maps.variance,
        "mutual_information": maps.mutual_information,
        "reconstruction": opinion.reconstruction,
        "reconstruction_error": maps.error,
    }
    native = {name: Volume(transform.to_native(voxels), transform.native) for name, voxels in on_grid.items()}
    native["lesion_probability"] = Volume(studied.reading.probability, transform.native)
    native["lesion_mask"] = Volume(studied.reading.own, transform.native)
    native["brain_mask"] = Volume(studied.reading.native_brain, transform.native)
    if opinion.name != OWN:
        native["input_mask"] = Volume(opinion.mask, transform.native)
    return native


def _require_grid(flair: Volume, other: Volume | None, name: str, mend: str) -> None:
    if other is not None and not other.geometry.same_grid(flair.geometry):
        raise GeometryError(
            f"the {name}'s grid is {other.geometry.describe()}, the FLAIR's is {flair.geometry.describe()}; {mend}"
        )
