"""Where weights come from: the settings, people and commit that a card names."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from veridice._version import __version__
from veridice.case import Case
from veridice.config import LESION, to_toml
from veridice.errors import ConfigError
from veridice.io.atomic import make_folder
from veridice.io.weight_cards import NetworkKind, WeightCard
from veridice.simulate.donors import donors_by_name
from veridice.training.examples import planned_patients
from veridice.training.loop import CHECKPOINT, Progression
from veridice.training.settings import DataSettings, TrainingSettings, differing_fields, load_training_settings

SETTINGS = "settings.toml"
START = "started-from.txt"


def by_split(cases: Sequence[Case]) -> dict[str, list[Case]]:
    """Cases of the training and of the validation split."""
    return {split: [case for case in cases if case.split == split] for split in ("train", "validation")}


def claim_folder(run: Path, settings: TrainingSettings, network: NetworkKind, origin: WeightCard | None) -> None:
    """Make the folder of one training and leave the settings there, and which weights it began from.

    Raises:
        ConfigError: a training with other settings or another start was begun there; its checkpoint would go on under a
            false name.
    """
    stored, started = run / SETTINGS, run / START
    begun = origin.sha256 if origin else ""
    trained = any(run.rglob(CHECKPOINT))
    if trained and started.exists() and started.read_text(encoding="utf-8").strip() != begun:
        raise ConfigError(f"{run}: was begun from other weights; train into another folder, or delete this one")
    if trained and stored.exists() and (changed := differing_fields(load_training_settings(str(stored)), settings, network)):
        raise ConfigError(f"{run}: was begun with another {changed[0]}; train into another folder, or delete this one")
    make_folder(run)
    stored.write_text(to_toml(settings), encoding="utf-8")
    started.write_text(f"{begun}\n", encoding="utf-8")


def describe_training(
    name: str,
    arguments: dict[str, Any],
    settings: TrainingSettings,
    cases: Sequence[Case],
    state: Progression,
    metrics: dict[str, float],
    origin: WeightCard | None = None,
) -> dict[str, Any]:
    """The weight card of a finished training, without the checksum that :func:`save_network` adds."""
    card = origins(settings, cases)
    if origin is not None:
        card["people"] = {split: sorted({*people, *origin.people.get(split, [])}) for split, people in card["people"].items()}
    return {
        **card,
        "name": name,
        "kind": name.split("-")[0],
        "arguments": arguments,
        "data": describe_data(cases, settings.data),
        "started_from": origin.sha256 if origin else "",
        "steps": state.step,
        "best_step": state.best_step,
        "metrics": {name: value for name, value in metrics.items() if not math.isnan(value)},
    }


def origins(settings: TrainingSettings, cases: Sequence[Case]) -> dict[str, Any]:
    """What the cards of all weights of one configuration have in common."""
    return {
        # The brain network serves the task of lesions, and others in heads.
        "task": LESION.name if settings.data.target == "brain" else settings.data.task.name,
        "grid": settings.data.grid,
        "configuration": settings.name,
        "people": people_by_split(cases, settings.data),
        "seed": settings.seed,
        "commit": source_commit(),
        "created": datetime.now(UTC).strftime("%Y-%m-%d"),
        "version": __version__,
    }


def describe_data(cases: Sequence[Case], settings: DataSettings) -> str:
    """One sentence for the weight card: how many real scans and simulated patients, and the mix."""
    parts = []
    for split, chosen in by_split(cases).items():
        parts.append(f"{split}: {len(chosen)} real scans, {len(planned_patients(split, settings))} simulated patients")
    return f"{'; '.join(parts)}. {settings.simulated_fraction:.0%} of the training examples are simulated."


def people_by_split(cases: Sequence[Case], settings: DataSettings) -> dict[str, list[str]]:
    """Patients and donors of simulated patients by split."""
    people = {}
    for split, chosen in by_split(cases).items():
        donors = {donors_by_name()[name].person for plan in planned_patients(split, settings) for name in plan.donors}
        people[split] = sorted({case.patient for case in chosen} | donors)
    return people


def source_commit() -> str:
    """Commit of the source tree that trains, or ``unknown`` outside a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
