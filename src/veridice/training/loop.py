"""One loop for the three networks; data, network, loss and validation are handed in.

Step ``i`` depends on the seed and ``i`` alone (examples, dropout, learning rate), so that a run that was interrupted
goes on exactly as if it had not been.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.fabric import Fabric
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torch.utils.tensorboard import SummaryWriter

from veridice.errors import InputError
from veridice.inference.passes import bf16_pays
from veridice.io.atomic import replaced, write_text
from veridice.progress import progress_bar
from veridice.training.cubes import Example
from veridice.training.settings import StageSettings

LossFunction = Callable[[nn.Module, Example, torch.Generator], Tensor]
Validation = Callable[[nn.Module], dict[str, float]]

CHECKPOINT = "checkpoint.pt"
BEST = "best.safetensors"
METRICS = "metrics.csv"


@dataclass(frozen=True)
class Goal:
    """Which validation metric decides early stopping, and in which direction it is better."""

    metric: str
    higher_is_better: bool


@dataclass
class Progression:
    """Where a run stands; saved with every checkpoint."""

    step: int = 0
    best: float | None = None
    best_step: int = 0
    stale: int = 0

    def note(self, value: float, goal: Goal) -> bool:
        """Take in a validation; True when it is the best so far."""
        better = self.best is None or (value > self.best if goal.higher_is_better else value < self.best)
        if math.isnan(value) or not better:
            self.stale += 1
            return False
        self.best, self.best_step, self.stale = value, self.step, 0
        return True


def train_network(
    network: nn.Module,
    examples: Dataset[Example],
    loss: LossFunction,
    validate: Validation,
    goal: Goal,
    settings: StageSettings,
    run: Path,
    seed: int = 0,
    keep_at: tuple[int, ...] = (),
) -> Progression:
    """Train until the steps are done or validation stops improving; leave the best weights in ``network``.

    Args:
        network: trained in place.
        examples: in the order of the optimiser steps, ``settings.examples`` in all.
        loss: scalar of network, batch and the step's random generator.
        validate: metrics of the network in evaluation mode.
        goal: the metric that is watched.
        settings: steps, batch size, learning rate, patience.
        run: folder for checkpoint, best weights, metrics (CSV and TensorBoard); what is there is resumed. A
            ``train_loss`` is the mean since the last validation or, after an interruption, since the last checkpoint.
        seed: of dropout.
        keep_at: steps at which the weights are kept as ``step-N.safetensors``.

    Raises:
        InputError: the checkpoint in ``run`` belongs to another network or cannot be read.
    """
    run.mkdir(parents=True, exist_ok=True)
    fabric = Fabric(accelerator="auto", devices=settings.devices, precision=training_precision())
    fabric.launch()
    optimiser: torch.optim.Optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    wrapped, optimiser = fabric.setup(network, optimiser)
    state = _resume(run, network, optimiser)
    remaining = Subset(examples, range(state.step * settings.batch_size * settings.devices, settings.examples))
    context = "spawn" if settings.workers else None
    workers: dict[str, Any] = {"num_workers": settings.workers, "multiprocessing_context": context}
    loader = fabric.setup_dataloaders(DataLoader(remaining, settings.batch_size, worker_init_fn=_one_thread, **workers))
    store = _Store(run, network, optimiser, state) if fabric.is_global_zero else None
    losses: list[float] = []
    with progress_bar(fabric.is_global_zero) as progress, closing(store.board) if store else nullcontext():
        task = progress.add_task(run.name, total=settings.steps, completed=state.step, note="")
        for batch in loader if state.stale < settings.patience else ():
            _set_learning_rate(optimiser, settings, state.step)
            losses.append(_optimise(fabric, wrapped, optimiser, loss, batch, seed * 1_000_003 + state.step))
            state.step += 1
            validated = state.step % settings.validate_every == 0 or state.step == settings.steps
            if validated:
                metrics = {"train_loss": float(np.mean(losses)), **evaluate(network, validate)}
                losses = []
                improved = state.note(metrics[goal.metric], goal)
                if store:
                    store.validation(metrics, improved)
                progress.update(task, note=f"{goal.metric} {metrics[goal.metric]:.3f}, best at {state.best_step}")
            # Before the checkpoint: a run that is killed between the two keeps them when it passes here again.
            if store and state.step in keep_at:
                save_weights_file(network, run / f"step-{state.step}.safetensors")
            if store and (validated or state.step % settings.checkpoint_every == 0):
                store.checkpoint()
            progress.update(task, completed=state.step)
            if state.stale >= settings.patience:
                break
    fabric.barrier()
    if state.best is None:
        raise InputError(f"{run}: every validation was NaN, so there are no weights; lower the learning rate")
    network.load_state_dict(load_file(run / BEST))
    return state


def _optimise(
    fabric: Fabric, network: nn.Module, optimiser: torch.optim.Optimizer, loss: LossFunction, batch: Example, seed: int
) -> float:
    """One step; returns its loss. Every device draws its own dropout."""
    network.train()
    generator = torch.Generator().manual_seed(seed + 7_919 * fabric.global_rank)
    value = loss(network, batch, generator)
    optimiser.zero_grad()
    fabric.backward(value)
    fabric.clip_gradients(network, optimiser, max_norm=1.0)
    optimiser.step()
    return float(value.detach())


def training_precision() -> Any:
    """``bf16-mixed`` where processor or GPU are faster in bf16, full precision elsewhere."""
    return "bf16-mixed" if bf16_pays("cuda" if torch.cuda.is_available() else "cpu") else "32-true"


def save_weights_file(network: nn.Module, path: Path) -> None:
    """Write a state dictionary, whole or not at all."""
    with replaced(path) as temporary:
        save_file({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}, temporary)


def evaluate(network: nn.Module, validate: Validation) -> dict[str, float]:
    """Metrics of the network in evaluation mode, without gradients."""
    network.eval()
    with torch.inference_mode():
        return validate(network)


def _set_learning_rate(optimiser: torch.optim.Optimizer, settings: StageSettings, step: int) -> None:
    """One cycle as a closed form of the step: 5 % linear warm-up, then half a cosine down to a hundredth."""
    done = step / settings.steps
    factor = done / 0.05 if done < 0.05 else 0.505 + 0.495 * np.cos(np.pi * (done - 0.05) / 0.95)
    for group in optimiser.param_groups:
        group["lr"] = settings.learning_rate * max(float(factor), 0.01)


def _resume(run: Path, network: nn.Module, optimiser: torch.optim.Optimizer) -> Progression:
    path = run / CHECKPOINT
    if not path.exists():
        return Progression()
    try:
        content = torch.load(path, weights_only=True, map_location="cpu")
        network.load_state_dict(content["network"])
        optimiser.load_state_dict(content["optimiser"])
        return Progression(**json.loads(content["state"]))
    except Exception as error:  # torch.load raises half a dozen kinds, none of them documented
        raise InputError(
            f"{path}: not a checkpoint of this configuration ({type(error).__name__}); train into another folder"
        ) from error


class _Store:
    """All that one run writes: checkpoint, best weights, metrics as CSV and for TensorBoard."""

    def __init__(self, run: Path, network: nn.Module, optimiser: torch.optim.Optimizer, state: Progression) -> None:
        self.run, self.network, self.optimiser, self.state = run, network, optimiser, state
        known = pd.read_csv(run / METRICS) if (run / METRICS).exists() else pd.DataFrame({"step": []})
        # Rows behind the resumed step are dropped, not doubled.
        self.rows: list[Any] = known[known["step"] <= state.step].to_dict("records")
        self.board = SummaryWriter(str(run / "tensorboard"), purge_step=state.step + 1)

    def validation(self, metrics: dict[str, float], improved: bool) -> None:
        """Keep the metrics of this step and, when they are the best so far, the weights."""
        if improved:
            save_weights_file(self.network, self.run / BEST)
        self.rows.append({"step": self.state.step, **metrics})
        write_text(self.run / METRICS, pd.DataFrame(self.rows).to_csv(index=False))
        for name, value in metrics.items():
            self.board.add_scalar(name, value, self.state.step)
        self.board.flush()

    def checkpoint(self) -> None:
        """Keep everything that the next step depends on."""
        content = {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "state": json.dumps(vars(self.state)),
        }
        with replaced(self.run / CHECKPOINT) as temporary:
            torch.save(content, temporary)


def _one_thread(_worker: int) -> None:
    # The training itself uses the cores; a worker with as many threads would only slow it down.
    torch.set_num_threads(1)
