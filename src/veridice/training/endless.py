"""A training without end: each step makes a patient that was never seen before. Begun, stopped and gone on with at will.

Weights are averaged along the path (Izmailov et al. 2018; as a decay, Tarvainen and Valpola 2017): the average is what counts,
and what the next run begins from. It is kept with the step in one small file, the resume point (:class:`ResumePoint`).
"""

from __future__ import annotations

import copy
import json
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from veridice.errors import InputError
from veridice.inference.passes import bf16_pays
from veridice.inference.weights import load_network
from veridice.io.atomic import make_folder, replaced
from veridice.networks.mc_unet import McUnet
from veridice.networks.widening import ENTRY, widened, with_further_inputs
from veridice.training.cubes import LESION
from veridice.training.endless_examples import BYTES, SEED, Sources, draw_scan
from veridice.training.endless_tasks import Task

RESUME_POINT = "average.safetensors"
NOISE_OF_COPIES = 0.02
"""Relative deviation that tells the copied channels of a network that is made wider apart."""


@dataclass
class ResumePoint:
    """What a training goes on from.

    Args:
        weights: averaged ones.
        step: optimiser steps that are done.
        curve: a row for each validation.
        facts: architecture and settings, to be told when they are others.
        people: whose heads or scans it learnt from.
    """

    weights: dict[str, Tensor]
    step: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    people: tuple[str, ...] = ()

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the network's class."""
        return {name: value for name, value in self.facts.items() if name not in ("task", "seed")}

    def write(self, folder: Path) -> None:
        """In half precision, one file, whole or not at all."""
        make_folder(folder)
        tensors = {name: value.half().contiguous().cpu() for name, value in self.weights.items()}
        told = {"curve": self.curve, "facts": self.facts, "people": self.people}
        about = {"step": str(self.step), **{name: json.dumps(value) for name, value in told.items()}}
        with replaced(folder / RESUME_POINT) as temporary:
            save_file(tensors, temporary, metadata=about)

    @classmethod
    def read(cls, folder: Path, facts: dict[str, Any] | None = None) -> ResumePoint | None:
        """The resume point of ``folder``, of a network with these ``facts`` if any are given; None where there is none.

        Raises:
            InputError: it is of another network, or no resume point.
        """
        path = folder / RESUME_POINT
        if not path.exists():
            return None
        try:
            with safe_open(path, "pt") as stored:
                about = stored.metadata()
                weights = {name: stored.get_tensor(name).float() for name in stored.keys()}  # noqa: SIM118 (no mapping)
            curve, known = json.loads(about["curve"]), json.loads(about["facts"])
            found = cls(weights, int(about["step"]), curve, known, tuple(json.loads(about["people"])))
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path.name}: no resume point ({type(error).__name__}); delete it to begin anew") from error
        if facts is not None and found.facts != facts:
            raise InputError(f"{path.name}: of another network ({found.facts}, not {facts}); give another folder")
        return found


class EndlessTraining:
    """The loop.

    Args:
        task: what is learnt; its settings are those of architecture, variation (``data``) and loop (``endless``).
        sources: what examples are made of.
        checks: examples of people that are not learnt from, by name of the group that they are averaged in.
        folder: of the resume point; what is there is gone on with.
        device: where everything happens.
    """

    def __init__(
        self,
        task: Task,
        sources: Sources,
        checks: dict[str, list[Tensor]],
        folder: Path,
        device: torch.device,
    ) -> None:
        self.task, self.settings = task, task.settings
        self.sources, self.checks, self.folder, self.device = sources, checks, folder, device
        torch.manual_seed(self.settings.seed)
        self.network = task.build().to(device)
        known = ResumePoint.read(folder, self._facts())
        self.step, self.curve = (known.step, known.curve) if known else (0, [])
        self.people = {*(known.people if known else ()), *(head.name for head in sources.heads)}
        if known:
            self.network.load_state_dict(known.weights)
        self.average = copy.deepcopy(self.network)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=self.settings.endless.learning_rate)
        self.pool: deque[Tensor] = deque(maxlen=self.settings.endless.pool)
        self.begun, self.losses = self.step, list[float]()

    def run(self, stop: Callable[[], bool], on_step: Callable[[str], None] = lambda _: None) -> None:
        """Train until ``stop`` says so; the resume point is written now and then and at the end."""
        endless = self.settings.endless
        try:
            while not stop():
                self._take_step()
                if self.step % endless.validate_every == 0:
                    self.validate()
                if self.step % endless.save_every == 0:
                    self.save()
                on_step(self.told())
        finally:
            self.save()

    def begin_from(self, folder: Path) -> None:
        """Take the weights of another resume point, or of a segmenter; steps are counted from 0. A narrower one is made wider.

        A critic begins as the segmenter: what its mask says it learns from there.

        Raises:
            InputError: there is none, or it is of another network.
        """
        known = point_of(folder)
        if known is None:
            raise InputError(f"{folder.name}: no resume point to begin from")
        weights = known.weights
        self.people |= set(known.people)
        if known.facts["task"] == "segmenter" and known.facts["features"] < self._facts().get("features", 0):
            weights = widened(network_of(folder), self._facts()["features"], NOISE_OF_COPIES, self.settings.seed)
        if (known.facts["task"], self.settings.endless.task) == ("segmenter", "critic"):
            weights = with_further_inputs(weights, self.network.state_dict()[ENTRY].shape[1])
        try:
            for network in (self.network, self.average):
                network.load_state_dict(weights)
        except RuntimeError as error:
            raise InputError(f"{folder.name}: of another network ({known.facts}, not {self._facts()})") from error

    def validate(self) -> None:
        """How good the averaged weights are on each group of checks, as a row of the curve."""
        row = {"step": float(self.step), "loss": float(np.mean(self.losses)) if self.losses else float("nan")}
        self.losses = []
        self.average.eval()
        with torch.inference_mode():
            for name, examples in self.checks.items():
                found = [self.task.judge(self.average, example.float() / BYTES) for example in examples]
                row[name] = round(float(np.nanmean(found)), 4)
        self.curve.append({name: value for name, value in row.items() if np.isfinite(value)})

    def save(self) -> None:
        """Write the resume point."""
        weights, people = dict(self.average.state_dict()), tuple(sorted(self.people))
        ResumePoint(weights, self.step, self.curve, self._facts(), people).write(self.folder)

    def told(self) -> str:
        """Where it stands, in a line."""
        loss = f"loss {np.mean(self.losses[-50:]):.3f}" if self.losses else ""
        last = ", ".join(
            f"{name} {value:.3f}" for name, value in (self.curve or [{}])[-1].items() if name not in ("step", "loss")
        )
        return f"step {self.step}; {loss}; {last}"

    def _take_step(self) -> None:
        settings = self.settings.endless
        self._renew_pool()
        rate = settings.learning_rate * min(1.0, (self.step - self.begun + 1) / settings.warm_up)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        rng = np.random.default_rng([SEED + self.settings.seed, self.step, 3])
        batch = self._batch(rng)
        self.network.train()
        generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16_pays(self.device.type)):
            value = self.task.loss(self.network, batch, generator)
        self.optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.step += 1
        self.losses.append(float(value.detach()))
        self._move_average()

    def _renew_pool(self) -> None:
        """Now and then a new example in place of the oldest; at the beginning as many as a step of patches needs."""
        settings = self.settings.endless
        newest = self.step // settings.new_every + settings.patches
        first = newest - settings.patches + 1 if not self.pool else newest
        if self.pool and self.step % settings.new_every:
            return
        for number in range(first, newest + 1):
            scan = draw_scan(number, self.sources, self.settings, self.device)
            self.pool.append(self.task.example(scan, np.random.default_rng([SEED + self.settings.seed, number, 4])))

    def _batch(self, rng: np.random.Generator) -> Tensor:
        """The newest cube as a whole, or patches of different examples of the pool."""
        settings = self.settings.endless
        cubes = [self.pool[-1]]
        if rng.random() >= settings.whole_cubes:
            chosen = rng.choice(len(self.pool), min(settings.patches, len(self.pool)), replace=False)
            cubes = [self._patch(self.pool[number], rng) for number in chosen]
        return torch.stack(cubes).float() / BYTES

    def _patch(self, cube: Tensor, rng: np.random.Generator) -> Tensor:
        """Around a lesion for every second one, else anywhere."""
        edge, grid = self.settings.endless.crop, self.settings.data.grid
        centre = rng.integers(edge // 4, grid - edge // 4, 3)
        places = torch.nonzero(cube[LESION].flatten() >= BYTES // 2) if rng.random() < self.settings.data.lesion_centred else ()
        if len(places):
            middle = np.unravel_index(int(places[int(rng.integers(len(places)))]), cube.shape[1:])
            centre = np.array(middle) + rng.integers(-(edge // 4), edge // 4 + 1, 3)
        start = np.clip(centre - edge // 2, 0, grid - edge)
        return cube[(slice(None), *(slice(int(n), int(n) + edge) for n in start))]

    def _move_average(self) -> None:
        # In the beginning the average follows faster, or it would remember the random start for long.
        decay = min(self.settings.endless.averaging, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, value in zip(self.average.parameters(), self.network.parameters(), strict=True):
                mean.lerp_(value, 1 - decay)

    def _facts(self) -> dict[str, Any]:
        return {"task": self.settings.endless.task, "seed": self.settings.seed, **self.task.architecture}


def point_of(folder: Path) -> ResumePoint | None:
    """The resume point of a folder, or one made of the weights of a segmenter that lie there; None where there is neither."""
    if (point := ResumePoint.read(folder)) is not None or not (folder / "segmenter.json").exists():
        return point
    network, card = load_network(folder, "segmenter")
    facts = {"task": "segmenter", "seed": card.seed, **card.arguments}
    return ResumePoint(dict(network.state_dict()), card.steps, [], facts, tuple(card.people.get("train", ())))


def network_of(folder: Path) -> McUnet:
    """The segmenter of a folder (:func:`point_of`), to be used.

    Raises:
        InputError: there is none.
    """
    point = point_of(folder)
    if point is None or point.facts["task"] != "segmenter":
        raise InputError(f"{folder.name}: no resume point of a segmenter")
    network = McUnet(**point.arguments)
    network.load_state_dict(point.weights)
    return network.eval()


def until(seconds: float | None) -> Callable[[], bool]:
    """Says when so many seconds are over; None: never."""
    begun = time.monotonic()
    return lambda: seconds is not None and time.monotonic() - begun >= seconds
