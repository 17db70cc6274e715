"""From a predicted Dice to an interval with a stated coverage, by cases whose truth is known. No torch."""

from __future__ import annotations

import hashlib
import json
from itertools import compress
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from pydantic import Field, model_validator

from veridice.config import Frozen
from veridice.errors import InputError
from veridice.io.atomic import write_json
from veridice.quality.common_scores import SiteScores
from veridice.types import Array, Numbers

if TYPE_CHECKING:
    import pandas as pd

LARGEST_FILE = 64 * 2**20
FARTHEST = 100.0
"""Unfamiliarity that is stored for anything beyond."""
UNLIKE, FARTHER = 0.01, 0.6
"""A study is unlike the calibration where its scans lie farther out: chance that this is chance, and how often one of them lies
farther out than one of the calibration."""


class CalibrationSet(Frozen):
    """Cases with a known truth, one number a case and column; the file ``calibration.json``."""

    format: int = Field(1, ge=1, le=1)
    source: str = Field(description="what the cases are")
    simulated: bool = Field(description="whether any case is simulated")
    patients: int = Field(ge=1, description="how many people they are of")
    predicted: tuple[float, ...] = Field(min_length=1, description="predicted Dice")
    spread: tuple[float, ...] = Field(description="expected size of its error")
    dice: tuple[float, ...] = Field(description="true Dice")
    weights: dict[str, str] = Field({}, description="checksums of the weights that judged them; empty: those beside the file")
    passes: int | None = Field(None, description="stochastic passes that they were judged with")
    person: tuple[int, ...] = Field((), description="number of the person that each case is of; empty: each of another one")
    acceptable: tuple[bool, ...] = Field(
        (), description="whether each could have been accepted at all: a scan of a known kind, without doubts; empty: all could"
    )
    unfamiliarity: tuple[float, ...] = Field((), description="how far each scan is from what the models know; empty: not told")
    weight: tuple[float, ...] = Field((), description="how much the person of each case counts; empty: all alike")
    common: tuple[SiteScores, ...] = Field(
        (), description="scores of masks of all sites of a federation, in whose place the cases here do not decide"
    )

    @model_validator(mode="before")
    @classmethod
    def _without_earlier_rules(cls, content: Any) -> Any:
        """Files of version 0.1.0 may hold a threshold, in whose place the tests of :mod:`.decision` stand."""
        return {name: value for name, value in content.items() if name != "accept"} if isinstance(content, dict) else content

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        columns = np.array([self.predicted, self.spread, self.dice], np.float64)
        if not (np.isfinite(columns).all() and (columns[1] > 0).all() and (columns[2] >= 0).all() and (columns[2] <= 1).all()):
            raise ValueError("a number is not finite, a spread not positive or a Dice not between 0 and 1")
        if any(len(column) not in (0, self.n) for column in (self.person, self.acceptable, self.unfamiliarity, self.weight)):
            raise ValueError("as many people, flags, distances and weights as cases are needed")
        if not all(0 < weight < float("inf") for weight in self.weight):
            raise ValueError("a weight is not positive")
        return self

    @classmethod
    def of(cls, predicted: Any, spread: Any, known: pd.DataFrame, source: str, simulated: bool) -> Self:
        """From predictions for known cases (columns ``dice``, ``person`` and, if there are any, ``acceptable`` and
        ``unfamiliarity``), in order."""
        return cls(
            source=source,
            simulated=simulated,
            patients=int(known["person"].nunique()),
            predicted=tuple(map(float, predicted)),
            spread=tuple(map(float, spread)),
            dice=tuple(map(float, known["dice"])),
            person=tuple(int(number) for number in known.groupby("person", sort=False).ngroup()),
            acceptable=tuple(map(bool, known["acceptable"])) if "acceptable" in known else (),
            unfamiliarity=_stored(known["unfamiliarity"]) if "unfamiliarity" in known else (),
        )

    def only(self, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Self:
        """The chosen cases alone (cases,)."""
        columns = ("predicted", "spread", "dice", "person", "acceptable", "unfamiliarity", "weight")
        return self.model_copy(update={name: tuple(compress(getattr(self, name), chosen)) for name in columns})

    @property
    def n(self) -> int:
        return len(self.dice)

    @property
    def checksum(self) -> str:
        """SHA-256, by which a result names what it rests on."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def common_for(self, min_dice: float) -> SiteScores | None:
        """Scores of a federation for one needed Dice, where there are any."""
        return next((scores for scores in self.common if scores.min_dice == min_dice), None)

    @property
    def people(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Whose each case is (cases,)."""
        return np.array(self.person or range(self.n), np.int64)

    @property
    def weights_of_cases(self) -> Numbers:
        """How much the person of each case counts (cases,)."""
        return np.array(self.weight or [1.0] * self.n)

    @property
    def usable(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """Cases that the decision is tested against (cases,)."""
        return np.array(self.acceptable or [True] * self.n, bool)


def _stored(unfamiliarity: pd.Series) -> tuple[float, ...]:
    return tuple(unfamiliarity.astype(float).fillna(FARTHEST).clip(upper=FARTHEST).round(4).tolist())


def read_calibration(path: Path) -> CalibrationSet:
    """Read ``calibration.json``.

    Raises:
        InputError: missing, too large or not a calibration.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise InputError(f"{path}: larger than any calibration; give the file that veridice calibrate wrote")
        return CalibrationSet.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not a calibration; make one with veridice calibrate") from error


def read_fitting(path: Path, weights: dict[str, str]) -> CalibrationSet:
    """Read a calibration of a user's own.

    Args:
        path: the file.
        weights: checksums of those that judge now.

    Raises:
        InputError: it is none, or its cases were judged with other weights.
    """
    calibration = read_calibration(path)
    if calibration.weights and calibration.weights != weights:
        raise InputError(f"{path}: its cases were judged with other weights; judge them again and run veridice calibrate")
    return calibration


def write_calibration(path: Path, calibration: CalibrationSet) -> None:
    """Write ``calibration.json``, whole or not at all."""
    write_json(path, json.loads(calibration.model_dump_json()))


def joined(shipped: CalibrationSet, own: CalibrationSet, times: float) -> CalibrationSet:
    """Two calibrations in one, in which each person of the second counts ``times`` as much as one of the first.

    A guess at where new scans are more like: what it promises is no longer exact.

    Raises:
        InputError: they were judged with other weights or numbers of passes.
    """
    if shipped.passes != own.passes or (shipped.weights and own.weights and shipped.weights != own.weights):
        raise InputError("your cases were judged with other weights or passes than the shipped ones; judge them again")
    parts = (shipped, 1.0), (own, times)
    return CalibrationSet(
        source=f"{own.source}, each person counting {times:g} times; and {shipped.source}",
        simulated=shipped.simulated or own.simulated,
        patients=shipped.patients + own.patients,
        predicted=shipped.predicted + own.predicted,
        spread=shipped.spread + own.spread,
        dice=shipped.dice + own.dice,
        weights=own.weights,
        passes=own.passes,
        person=tuple(map(int, [*shipped.people, *(own.people + shipped.people.max() + 1)])),
        acceptable=tuple(bool(value) for part, _ in parts for value in part.usable),
        unfamiliarity=shipped.unfamiliarity + own.unfamiliarity if shipped.unfamiliarity and own.unfamiliarity else (),
        weight=tuple(float(value) for part, factor in parts for value in factor * part.weights_of_cases),
    )


def farther_than(calibration: CalibrationSet, unfamiliarity: Array, people: Array) -> float | None:
    """How often a scan of a study lies farther from what the models know than one of the calibration, where that tells.

    A promise holds for scans that could have been drawn with those of the calibration. Their masks may be of any quality, so
    the scans themselves are compared, by a rank test of one-sided alternative (Mann and Whitney 1947) with one number a person.

    Args:
        calibration: whose scans could have been accepted.
        unfamiliarity: of scans of the study that could be accepted (scans,).
        people: whose each is (scans,).

    Returns:
        A share above :data:`FARTHER`, or None where no difference is shown or the calibration does not tell.
    """
    import pandas as pd
    from scipy.stats import mannwhitneyu  # slow to import

    usable = calibration.usable
    if not calibration.unfamiliarity or not usable.any() or not len(unfamiliarity):
        return None
    known = pd.Series(np.array(calibration.unfamiliarity)[usable]).groupby(calibration.people[usable]).median()
    new = pd.Series(unfamiliarity).groupby(np.asarray(people)).median()
    found = mannwhitneyu(new, known, alternative="greater")
    share = float(found.statistic / (len(new) * len(known)))
    return share if found.pvalue < UNLIKE and share > FARTHER else None


def fewest_cases(coverage: float) -> int:
    """Cases below which nothing is promised: one more than ``1 / (1 - coverage)`` (MAPIE's rule)."""
    return floor(round(max(1 / coverage, 1 / (1 - coverage)), 6)) + 1


def dice_intervals(calibration: CalibrationSet, predicted: Numbers, spread: Numbers, coverage: float) -> Numbers:
    """Split-conformal intervals (Papadopoulos et al. 2002; with normalised residuals, Lei et al. 2018).

    Of scans that are like the calibration's, at least ``coverage`` have their true Dice inside: on average over scans, not
    among those of one kind nor among the accepted ones.

    Args:
        calibration: cases that took no part in any fit.
        predicted, spread: of new cases (cases,).
        coverage: between 0 and 1.

    Returns:
        (cases, 2), within [0, 1]; [0, 1] where there are fewer than :func:`fewest_cases`.
    """
    if calibration.n < fewest_cases(coverage):
        return np.tile([0.0, 1.0], (len(predicted), 1))
    residuals = np.abs(np.subtract(calibration.dice, calibration.predicted)) / calibration.spread
    order, weights = np.argsort(residuals), calibration.weights_of_cases
    # With equal weights this is the case of rank (n + 1) coverage; a new case counts as those that count most.
    needed = coverage * (weights.sum() + weights.max())
    place = np.searchsorted(np.cumsum(weights[order]), needed * (1 - 1e-12))
    half = residuals[order][min(place, calibration.n - 1)] * spread
    return np.column_stack([predicted - half, predicted + half]).clip(0.0, 1.0)


def expected_shortfall(
    calibration: CalibrationSet, predicted: float, spread: float, min_dice: float
) -> tuple[float, float] | None:
    """Chance that the true Dice lies below ``min_dice``, and by how much it is expected to.

    Both come from the conformal predictive distribution (Vovk et al. 2017) with normalised residuals: each calibration case
    says once where the true Dice might lie.

    Args:
        calibration: cases that took no part in any fit.
        predicted, spread: of one new case.
        min_dice: what a mask needs to be of use.

    Returns:
        Chance and expected shortfall, which is 0 where the Dice suffices; None where too few cases are known.
    """
    if calibration.n < fewest_cases(0.9):
        return None
    residuals = (np.array(calibration.dice) - np.array(calibration.predicted)) / np.array(calibration.spread)
    likely = (predicted + spread * residuals).clip(0.0, 1.0)
    weights = calibration.weights_of_cases
    chance, shortfall = (np.average(told, weights=weights) for told in (likely < min_dice, (min_dice - likely).clip(0.0)))
    return float(chance), float(shortfall)
