"""One loop for the three networks; data, network, loss and validation are handed in.

Step ``i`` depends on the seed and ``i`` alone (examples, dropout, learning rate), so that a run that was interrupted
goes on exactly as if it had not been.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.fabric import Fabric
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset
from torch.utils.tensorboard import SummaryWriter

from veridice.config import StageSettings
from veridice.errors import InputError
from veridice.inference import bf16_supported
from veridice.training_data import Example

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

    def better(self, value: float, best: float | None) -> bool:
        return best is None or (value > best if self.higher_is_better else value < best)


@dataclass
class Progression:
    """Where a run stands; saved with every checkpoint."""

    step: int = 0
    best: float | None = None
    best_step: int = 0
    stale: int = 0


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
        examples: example ``i`` belongs to optimiser step ``i // batch_size``.
        loss: scalar of network, batch and the step's random generator.
        validate: metrics of the network in evaluation mode.
        goal: the metric that is watched.
        settings: steps, batch size, learning rate, patience.
        run: folder for checkpoint, best weights, metrics (CSV and TensorBoard); what is there is resumed.
        seed: of dropout.
        keep_at: steps at which the weights are kept as ``step-N.safetensors``.

    Raises:
        InputError: the checkpoint in ``run`` belongs to another network or cannot be read.
    """
    run.mkdir(parents=True, exist_ok=True)
    fabric = Fabric(accelerator="auto", devices="auto", precision=training_precision())
    fabric.launch()
    optimiser: torch.optim.Optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate)
    wrapped, optimiser = fabric.setup(network, optimiser)
    state = _resume(run, network, optimiser)
    log = _MetricLog(run, state.step)
    remaining = Subset(examples, range(state.step * settings.batch_size, settings.steps * settings.batch_size))
    loader = fabric.setup_dataloaders(
        DataLoader(
            remaining,
            batch_size=settings.batch_size,
            num_workers=settings.workers,
            worker_init_fn=_one_thread,
            multiprocessing_context="spawn" if settings.workers else None,
        )
    )
    losses: list[float] = []
    with progress_bar(fabric.is_global_zero) as progress:
        task = progress.add_task(run.name, total=settings.steps, completed=state.step, note="")
        for batch in loader if state.stale < settings.patience else ():
            wrapped.train()
            _set_learning_rate(optimiser, settings, state.step)
            generator = torch.Generator().manual_seed(seed * 1_000_003 + state.step)
            value = loss(wrapped, batch, generator)
            optimiser.zero_grad()
            fabric.backward(value)
            fabric.clip_gradients(wrapped, optimiser, max_norm=1.0)
            optimiser.step()
            losses.append(float(value.detach()))
            state.step += 1
            if state.step in keep_at:
                save_weights_file(network, run / f"step-{state.step}.safetensors")
            if state.step % settings.validate_every == 0 or state.step == settings.steps:
                metrics = {"train_loss": float(np.mean(losses)), **evaluate(network, validate)}
                losses = []
                _note(state, metrics[goal.metric], goal, network, run)
                log.write(state.step, metrics)
                _save_checkpoint(run, network, optimiser, state)
                progress.update(task, note=f"{goal.metric} {metrics[goal.metric]:.3f} (best {state.best:.3f})")
            progress.update(task, completed=state.step)
            if state.stale >= settings.patience:
                break
    network.load_state_dict(load_file(run / BEST))
    return state


def training_precision() -> Any:
    """``bf16-mixed`` where the processor or GPU computes in bf16, full precision elsewhere."""
    return "bf16-mixed" if bf16_supported("cuda" if torch.cuda.is_available() else "cpu") else "32-true"


def save_weights_file(network: nn.Module, path: Path) -> None:
    """Write a state dictionary under a temporary name, then rename it."""
    temporary = path.with_name(f".{path.name}.tmp")
    save_file({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}, temporary)
    temporary.replace(path)


def evaluate(network: nn.Module, validate: Validation) -> dict[str, float]:
    """Metrics of the network in evaluation mode, without gradients."""
    network.eval()
    with torch.inference_mode():
        return validate(network)


def _note(state: Progression, value: float, goal: Goal, network: nn.Module, run: Path) -> None:
    if goal.better(value, state.best):
        state.best, state.best_step, state.stale = value, state.step, 0
        save_weights_file(network, run / BEST)
    else:
        state.stale += 1


def _set_learning_rate(optimiser: torch.optim.Optimizer, settings: StageSettings, step: int) -> None:
    """One cycle as a closed form of the step: 5 % linear warm-up, then half a cosine down to a hundredth."""
    done = step / settings.steps
    factor = done / 0.05 if done < 0.05 else 0.505 + 0.495 * np.cos(np.pi * (done - 0.05) / 0.95)
    for group in optimiser.param_groups:
        group["lr"] = settings.learning_rate * max(float(factor), 0.01)


def _save_checkpoint(run: Path, network: nn.Module, optimiser: torch.optim.Optimizer, state: Progression) -> None:
    temporary = run / f".{CHECKPOINT}.tmp"
    content = {"network": network.state_dict(), "optimiser": optimiser.state_dict(), "state": json.dumps(vars(state))}
    torch.save(content, temporary)
    temporary.replace(run / CHECKPOINT)


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


class _MetricLog:
    """Metrics to CSV and TensorBoard; rows after the resumed step are dropped, not doubled."""

    def __init__(self, run: Path, step: int) -> None:
        self.path = run / METRICS
        known = pd.read_csv(self.path) if self.path.exists() else pd.DataFrame({"step": []})
        self.rows: list[dict[str, Any]] = known[known["step"] <= step].to_dict("records")  # type: ignore[assignment]
        self.board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        self.rows.append({"step": step, **metrics})
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        pd.DataFrame(self.rows).to_csv(temporary, index=False)
        temporary.replace(self.path)
        for name, value in metrics.items():
            self.board.add_scalar(name, value, step)
        self.board.flush()


def progress_bar(shown: bool = True) -> Progress:
    """A progress bar on stderr whose tasks carry a ``note``."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=Console(stderr=True), disable=not shown)


def _one_thread(_worker: int) -> None:
    # The training itself uses the cores; a worker with as many threads would only slow it down.
    torch.set_num_threads(1)
