"""What an experiment rests on, fixed when it begins: its settings, its cases, the weights it starts from, the precision."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veridice.case import Case
from veridice.config import InferenceSettings
from veridice.errors import ConfigError, InputError, OutputError, VeridiceError
from veridice.experiment.cases import KnownCase
from veridice.experiment.protocol import ExperimentSettings
from veridice.inference.passes import choose_backend
from veridice.io.atomic import is_new, write_json
from veridice.io.weight_cards import WeightCard, bundled_weights, read_card
from veridice.progress import counted
from veridice.training.settings import TrainingSettings, load_training_settings

BEGUN, INPUTS = "begun.json", "inputs.json"


@dataclass(frozen=True)
class Start:
    """Where the networks of every fold begin from.

    Args:
        folder: of the weights; None: anew.
        cards: of the segmenter and, where it is there, the reconstructor; another one begins anew.
    """

    folder: Path | None
    cards: dict[str, WeightCard]

    def of(self, network: str) -> Path | None:
        """The folder, if ``network`` begins from it."""
        return self.folder if network in self.cards else None

    @property
    def people(self) -> set[str]:
        """Everybody whom these weights learnt from."""
        return {person for card in self.cards.values() for people in card.people.values() for person in people}


def find_start(settings: ExperimentSettings, training: TrainingSettings) -> Start:
    """The weights that the settings name.

    Raises:
        WeightsError, ConfigError: they are not there, or of another layout than the training configuration's networks.
    """
    if not settings.start:
        return Start(None, {})
    folder = bundled_weights() if settings.start == "bundled" else Path(settings.start)
    names = ("segmenter", "reconstructor") if (folder / "reconstructor.json").exists() else ("segmenter",)
    cards = {name: read_card(folder, name) for name in names}
    for name, card in cards.items():
        stage = getattr(training, name)
        wrong = [field for field, value in card.arguments.items() if getattr(stage, field, value) != value]
        if wrong or card.grid != training.data.grid:
            raise ConfigError(f"{folder}: the {name} there has another {(*wrong, 'grid')[0]} than '{settings.training}'")
    return Start(folder, cards)


def claim(settings: ExperimentSettings, folder: Path) -> tuple[TrainingSettings, InferenceSettings, Start]:
    """Make sure that this experiment was begun in ``folder``, or that none was; then begin it.

    Returns the training configuration, how networks are run (the precision stays what it was at the beginning), the start.

    Raises:
        ConfigError: another experiment was begun there.
        OutputError: it holds something else.
    """
    training = load_training_settings(settings.training)
    start = find_start(settings, training)
    stored = folder / BEGUN
    # Files may move: they are known by their checksums. Whoever names no methods has all, as before there was a choice.
    unsaid: dict[str, Any] = {"name": True, "sources": {"__all__": {"folder", "manifest"}}}
    begun: dict[str, Any] = {
        "settings": settings.model_dump(mode="json", exclude=unsaid if settings.methods else {**unsaid, "methods": True}),
        "training": training.model_dump(mode="json", exclude={"predictor"}),
        "start": {name: card.sha256 for name, card in start.cards.items()},
    }
    if stored.exists():
        before = json.loads(stored.read_text(encoding="utf-8"))
        inference = InferenceSettings(passes=settings.passes, precision=before.pop("precision"))
        if changed := _first_difference(before, begun):
            raise ConfigError(f"{folder}: was begun with another '{changed}'; use another folder, or delete this one")
        return training, inference, start
    if not is_new(folder):
        raise OutputError(f"{folder}: is not empty and holds no experiment; give a new -o folder")
    precision = choose_backend(InferenceSettings(precision=settings.precision)).precision
    write_json(stored, {**begun, "precision": precision})
    return training, InferenceSettings(passes=settings.passes, precision=precision), start


def _first_difference(before: Any, after: Any, name: str = "") -> str:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            if found := _first_difference(before.get(key), after.get(key), f"{name}.{key}" if name else str(key)):
                return found
        return ""
    return "" if before == after else name.removeprefix("settings.")


def usable_cases(
    cases: Sequence[Case], training: TrainingSettings, folder: Path, say: Callable[[str], None]
) -> tuple[list[Case], list[str]]:
    """Cases that can be read, and one line for each that cannot; looked at once, then only compared.

    Simulated ones are known by plan and true mask, which are the same everywhere; their intensities are so to within a step.

    Raises:
        ConfigError: files changed, came or went since the experiment began.
        InputError: none is left.
    """
    stored = folder / INPUTS
    truth = training.data.task.truth
    sums = {case.id: _checksum(case, getattr(case, truth)) for case in cases}
    if stored.exists():
        before = json.loads(stored.read_text(encoding="utf-8"))
        if changed := sorted(name for name in {*before, *sums} if sums.get(name) != before.get(name, {}).get("sha256")):
            raise ConfigError(f"{folder}: case {changed[0]} changed, came or went since it was begun; use another folder")
    else:
        before = {}
        with counted("cases looked at", len(cases)) as on_step:
            for case in cases:
                before[case.id] = {"sha256": sums[case.id], "problem": _problem(case, training)}
                on_step()
        write_json(stored, before)
    left_out = [f"{name}: {entry['problem']}" for name, entry in before.items() if entry["problem"]]
    for line in left_out:
        say(f"left out: {line}")
    if not (usable := [case for case in cases if not before[case.id]["problem"]]):
        raise InputError("no case can be used: each needs a FLAIR and a mask on the same grid")
    return usable, left_out


def refuse_known_people(start: Start, people: set[str]) -> None:
    """A person whom the start learnt from can be in no test.

    Raises:
        InputError: somebody is.
    """
    if known := sorted(people & start.people):
        raise InputError(f"the weights to start from were trained on {known[0]}, who would be tested; start from others")


def _problem(case: Case, training: TrainingSettings) -> str:
    try:
        KnownCase.read(case, training.data)
    except VeridiceError as error:
        message = str(error)
        for path in (case.flair, case.t1, case.mask, case.ventricles):
            message = message.replace(f"{path.parent}/", "") if path else message  # results name no folders
        return message
    return ""


def _checksum(case: Case, truth: Path | None) -> str:
    plan = truth.parent / f"{case.id}_desc-simulation_parameters.json" if truth else None
    if truth and plan and plan.exists():
        return hashlib.sha256(plan.read_bytes() + gzip.decompress(truth.read_bytes())).hexdigest()
    total = hashlib.sha256()
    for path in (case.flair, case.t1, case.mask, case.brain_mask, case.ventricles):
        total.update(hashlib.sha256(path.read_bytes()).digest() if path else b"-")
    return total.hexdigest()
