"""How a study is rated, what a rater sends, and what can be wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from veridice.case import Assessment
from veridice.cohort.ratings import REASONS
from veridice.config import InferenceSettings
from veridice.errors import InputError
from veridice.review.agreement import SEVERITY

OF_SCORE = {1: "reject", 2: "reject", 3: "needs edit", 4: "accept", 5: "accept"}
CODE = re.compile(r"[A-Za-z0-9_-]{1,40}")
Scale = Literal["decision", "1-5"]


class NotFoundError(Exception):
    """There is no such scan, layer or drawing, or it is hidden from this rater."""


class ConflictError(Exception):
    """What was looked at is no longer what is there."""


@dataclass(frozen=True)
class DeskOptions:
    """How a study is rated.

    Args:
        raters: their codes.
        adjudicator: code of the one who decides where others differ; None: nobody.
        blind: hide what veridice and others said, and shuffle.
        scale: the three decisions, or 1 to 5.
        double: share of the scans that several raters read.
        readings: how many do.
        max_bad: of the masks that nobody looks at, the share that may be bad.
        weights, calibration: what corrected masks are judged with; None: those that ship.
    """

    raters: Sequence[str] = ("R1",)
    adjudicator: str | None = None
    blind: bool = False
    scale: Scale = "decision"
    double: float = 0.0
    readings: int = 2
    max_bad: float = 0.05
    weights: Path | None = None
    calibration: Path | None = None

    def hides(self, rater: str) -> bool:
        """Whether this rater is kept from what veridice and others said."""
        return self.blind and rater != self.adjudicator


@dataclass(frozen=True)
class Said:
    """What a rater sends: one of ``rating`` and ``score``, by the scale of the study."""

    key: str
    version: str
    rating: str | None = None
    score: int | None = None
    reasons: tuple[str, ...] = ()
    comment: str = ""
    seconds: float | None = None

    def decision(self, scale: Scale) -> str:
        """accept, needs edit or reject.

        Raises:
            InputError: it is none of the study's scale.
        """
        if unknown := [text for text in self.reasons if text not in REASONS]:
            raise InputError(f"'{unknown[0][:40]}' is none of the reasons {', '.join(REASONS)}")
        if scale == "1-5":
            if self.score not in OF_SCORE:
                raise InputError("this study is rated from 1 to 5; send a score")
            return OF_SCORE[self.score]
        if self.rating not in SEVERITY or self.score is not None:
            raise InputError(f"this study is rated {', '.join(SEVERITY)}; send a rating")
        return str(self.rating)


def settings_of(assessment: Assessment) -> InferenceSettings:
    """The settings that a stored result was made with."""
    model: Mapping[str, Any] = assessment.model
    wanted = "second-expert" if model.get("for_load_ml") is not None else model.get("min_dice")
    names = ("passes", "seed", "max_missed", "max_wasted")
    known = {name: model[name] for name in names if model.get(name) is not None}
    return InferenceSettings(min_dice=wanted, coverage=assessment.coverage or 0.9, **known)


def check_codes(raters: Sequence[str]) -> list[str]:
    """Codes of raters, each once.

    Raises:
        InputError: one is none.
    """
    codes = [code.strip() for code in raters if code.strip()]
    if wrong := [code for code in codes if not CODE.fullmatch(code)]:
        raise InputError(f"--raters: '{wrong[0]}' is no code of a rater; use letters, digits, - and _, at most 40")
    if len({code.lower() for code in codes}) < len(codes) or not codes:
        raise InputError("--raters: give at least one code, and each once, such as ANNA,BEN")
    return codes
