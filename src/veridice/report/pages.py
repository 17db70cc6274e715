"""Pages from templates that lie beside the code that fills them: every text is escaped, every gap is an error."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from veridice.case import Assessment

VERDICT_WORDS = {
    "accept": "The mask is expected to be good enough.",
    "review": "A person should look at this mask.",
    "reject": "The mask is expected to have failed.",
}

REASONS = {
    "not_bad": "So few masks that are not good enough look as good as this one that it is accepted",
    "not_good": "So few masks that are good enough look as poor as this one that it is rejected",
    "neither": "This mask could well be good enough, and it could well not be, so a person should look",
    "unknown_scan": "The mask alone would have been accepted, but something is said above against the scan",
    "empty": "The mask is empty, so no test can be made of it",
}
"""By :attr:`.Assessment.decided_by`."""


def reason(assessment: Assessment) -> str:
    """Why the verdict is what it is, in a sentence with the p-value of the test that gave it."""
    said, values = REASONS.get(assessment.decided_by, ""), assessment.p_values
    name = "good" if assessment.decided_by == "not_good" else "bad"
    if assessment.decided_by in ("not_bad", "not_good"):
        return f"{said} ({_percent(values[name])} of them do)."
    return f"{said}." if said else ""


def promise(model: Mapping[str, Any]) -> str:
    """What the verdict promises, from the limits that a result was made with; nothing for a result of version 0.1.0."""
    if "max_missed" not in model:
        return ""
    limit = f"{model['min_dice']:g}"
    second = ""
    if (load := model.get("for_load_ml")) is not None:
        second = (
            f" A Dice of {limit} is what a second expert is expected to reach where the lesions have {load:.3g} ml, as in our "
            f"own mask, and the slices {model['for_slice_mm']:.2g} mm."
        )
    return (
        f"Of all masks whose true Dice is below {limit}, at most {_percent(model['max_missed'])} are accepted; of all masks "
        f"whose true Dice is {limit} or more, at most {_percent(model['max_wasted'])} are rejected.{second}"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def page_environment(package: str) -> Environment:
    """Templates in the folder ``templates`` of a package."""
    return Environment(
        loader=PackageLoader(package), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
