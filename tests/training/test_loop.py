"""One loop: it learns, stops early, and resumes exactly."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from veridice.errors import InputError
from veridice.networks.mc_unet import McUnet
from veridice.training import loop
from veridice.training.cubes import Example
from veridice.training.loop import Goal, Progression, train_network
from veridice.training.settings import StageSettings

LOWER = Goal("loss", higher_is_better=False)


class Blobs(Dataset[Example]):
    """Noise with a bright cube that is to be found."""

    def __len__(self) -> int:
        return 200

    def __getitem__(self, index: int) -> Example:
        generator = torch.Generator().manual_seed(index)
        images = torch.rand(2, 8, 8, 8, generator=generator)
        lesion = torch.zeros(1, 8, 8, 8)
        lesion[:, 2:5, 2:5, 2:5] = 1
        return {"images": images * 0.3 + lesion, "target": lesion}


def loss(network: nn.Module, batch: Example, generator: torch.Generator) -> torch.Tensor:
    return nn.functional.binary_cross_entropy_with_logits(network(batch["images"], generator).float(), batch["target"])


def validate(network: nn.Module) -> dict[str, float]:
    item = Blobs()[999]
    logits = network(item["images"][None].to(next(network.parameters()).device)).cpu()
    return {"loss": float(nn.functional.binary_cross_entropy_with_logits(logits.float(), item["target"][None]).detach())}


def settings(**changes: object) -> StageSettings:
    return StageSettings(
        **{
            "steps": 24,
            "batch_size": 2,
            "validate_every": 6,
            "checkpoint_every": 2,
            "learning_rate": 0.02,
            "workers": 0,
            **changes,
        }  # type: ignore[arg-type]
    )


def fresh() -> McUnet:
    torch.manual_seed(0)
    return McUnet(features=2, depth=3)


def test_it_learns_and_logs(tmp_path: Path) -> None:
    network = fresh()
    before = validate(network.eval())["loss"]
    state = train_network(network, Blobs(), loss, validate, LOWER, settings(), tmp_path, keep_at=(6,))
    assert state.step == 24
    assert state.best is not None
    assert state.best < 0.7 * before
    assert list(pd.read_csv(tmp_path / "metrics.csv")["step"]) == [6, 12, 18, 24]
    assert (tmp_path / "step-6.safetensors").is_file()


@pytest.mark.parametrize("steps_before", [1, 5, 11, 20])
def test_an_interrupted_training_ends_as_if_it_had_not_been(tmp_path: Path, steps_before: int) -> None:
    undisturbed, resumed = fresh(), fresh()
    train_network(undisturbed, Blobs(), loss, validate, LOWER, settings(), tmp_path / "a")
    calls = 0

    def interrupted(network: nn.Module, batch: Example, generator: torch.Generator) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls > steps_before:
            raise KeyboardInterrupt
        return loss(network, batch, generator)

    with pytest.raises(KeyboardInterrupt):
        train_network(fresh(), Blobs(), interrupted, validate, LOWER, settings(), tmp_path / "b")
    train_network(resumed, Blobs(), loss, validate, LOWER, settings(), tmp_path / "b")
    for first, second in zip(undisturbed.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(first, second)
    steps = [list(pd.read_csv(tmp_path / run / "metrics.csv")["step"]) for run in ("a", "b")]
    assert steps[0] == steps[1]


def test_it_stops_when_validation_no_longer_improves(tmp_path: Path) -> None:
    values = iter([1.0, 0.5, 0.6, 0.7, 0.1])
    state = train_network(
        fresh(), Blobs(), loss, lambda _: {"loss": next(values)}, LOWER, settings(validate_every=2, patience=2), tmp_path
    )
    assert (state.step, state.best_step, state.best) == (8, 4, 0.5)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    train_network(fresh(), Blobs(), loss, validate, LOWER, settings(steps=2), tmp_path)
    with pytest.raises(InputError, match="another folder"):
        train_network(McUnet(features=3, depth=3), Blobs(), loss, validate, LOWER, settings(steps=2), tmp_path)


def test_a_finished_training_is_not_repeated(tmp_path: Path) -> None:
    first, again = fresh(), fresh()
    train_network(first, Blobs(), loss, validate, LOWER, settings(), tmp_path)
    rows = (tmp_path / "metrics.csv").read_text()

    def never(*_: object) -> torch.Tensor:
        raise AssertionError("a step was made")

    state = train_network(again, Blobs(), never, validate, LOWER, settings(), tmp_path)
    assert state.step == 24
    assert (tmp_path / "metrics.csv").read_text() == rows
    for one, other in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("spoil", ["text", "truncated", "pickle"])
def test_a_damaged_checkpoint_is_refused_and_no_code_in_it_runs(tmp_path: Path, spoil: str) -> None:
    train_network(fresh(), Blobs(), loss, validate, LOWER, settings(steps=2), tmp_path)
    path = tmp_path / "checkpoint.pt"
    if spoil == "pickle":
        torch.save({"network": Trap(tmp_path / "sprung")}, path)
    else:
        path.write_bytes(b"no checkpoint" if spoil == "text" else path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"checkpoint\.pt: not a checkpoint") as caught:
        train_network(fresh(), Blobs(), loss, validate, LOWER, settings(steps=2), tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sprung").exists()


class Trap:
    """What a malicious pickle does when it is opened."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.sprung,)


def test_the_best_weights_are_left_in_the_network_not_the_last(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []
    values = iter([0.9, 0.1, 0.5, 0.6])

    def remember(network: nn.Module) -> dict[str, float]:
        seen.append(torch.cat([p.detach().clone().ravel() for p in network.parameters()]))
        return {"loss": next(values)}

    network = fresh()
    state = train_network(network, Blobs(), loss, remember, LOWER, settings(), tmp_path)
    left = torch.cat([parameter.detach().ravel() for parameter in network.parameters()])
    assert (state.best, state.best_step) == (0.1, 12)
    assert torch.equal(left, seen[1])
    assert not torch.equal(left, seen[3])


def test_weights_to_be_kept_survive_an_interruption_at_any_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed just before ``step-6`` is written: the run that goes on still has to leave that file."""
    save = loop.save_weights_file

    def killed(network: nn.Module, path: Path) -> None:
        if path.name == "step-6.safetensors":
            raise KeyboardInterrupt
        save(network, path)

    monkeypatch.setattr(loop, "save_weights_file", killed)
    with pytest.raises(KeyboardInterrupt):
        train_network(fresh(), Blobs(), loss, validate, LOWER, settings(), tmp_path, keep_at=(6,))
    monkeypatch.undo()
    train_network(fresh(), Blobs(), loss, validate, LOWER, settings(), tmp_path, keep_at=(6,))
    assert (tmp_path / "step-6.safetensors").is_file()


@pytest.mark.parametrize(("higher", "better", "worse"), [(True, 0.9, 0.1), (False, 0.1, 0.9)])
def test_a_goal_knows_its_direction(higher: bool, better: float, worse: float) -> None:
    goal = Goal("m", higher)
    assert Progression(best=worse).note(better, goal)
    assert not Progression(best=better).note(worse, goal)
    assert not Progression(best=better).note(better, goal)
    assert Progression().note(worse, goal)


def test_metrics_written_just_before_a_kill_are_not_doubled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed between the row of step 12 and its checkpoint: the run goes on from step 10 and meets step 12 again."""
    undisturbed, resumed = fresh(), fresh()
    train_network(undisturbed, Blobs(), loss, validate, LOWER, settings(), tmp_path / "a")
    save = torch.save

    def killed(content: dict[str, object], path: Path) -> None:
        if '"step": 12' in str(content["state"]):
            raise KeyboardInterrupt
        save(content, path)

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        train_network(fresh(), Blobs(), loss, validate, LOWER, settings(), tmp_path / "b")
    monkeypatch.undo()
    assert list(pd.read_csv(tmp_path / "b" / "metrics.csv")["step"]) == [6, 12]
    train_network(resumed, Blobs(), loss, validate, LOWER, settings(), tmp_path / "b")
    assert list(pd.read_csv(tmp_path / "b" / "metrics.csv")["step"]) == [6, 12, 18, 24]
    for first, second in zip(undisturbed.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(first, second)


def test_a_training_that_diverges_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="every validation was NaN"):
        train_network(fresh(), Blobs(), loss, lambda _: {"loss": float("nan")}, LOWER, settings(steps=4), tmp_path)
