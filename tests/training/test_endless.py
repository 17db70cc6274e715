"""A training without end: gone on with from one small file, stopped by a signal, refused where it is another's."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from heads_of_tests import balls_bank, boxes_head

from veridice.config import to_toml
from veridice.errors import InputError
from veridice.io.weight_cards import read_card
from veridice.simulate.lesion_bank import BANK_FILE, LesionBank
from veridice.training.cubes import LESION
from veridice.training.endless import RESUME_POINT, EndlessTraining, ResumePoint, network_of, point_of
from veridice.training.endless_examples import Sources, draw_scan, endless_plan
from veridice.training.endless_run import labelled_scans, pack
from veridice.training.endless_tasks import SegmenterTask, Task
from veridice.training.settings import (
    DataSettings,
    EndlessSettings,
    ReconstructorSettings,
    SegmenterSettings,
    TrainingSettings,
    load_training_settings,
)

CPU = torch.device("cpu")
GRID = 16


def settings(**endless: object) -> TrainingSettings:
    small = {"crop": 16, "patches": 2, "pool": 3, "validate_every": 4, "save_every": 3, "warm_up": 2, **endless}
    return TrainingSettings(
        name="tiny",
        data=DataSettings(grid=GRID, soft_labels=True),
        segmenter=SegmenterSettings(features=2, depth=3, stem=2, crop=16),
        reconstructor=ReconstructorSettings(depth=3, crop=16),
        endless=EndlessSettings.model_validate(small),
    )


def sources(real: int = 0) -> Sources:
    scan = torch.randint(0, 255, (4, GRID, GRID, GRID), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Sources([boxes_head()], balls_bank(), [scan] * real)


def example(number: int, task: Task, made_of: Sources | None = None) -> torch.Tensor:
    scan = draw_scan(number, made_of or sources(), task.settings, CPU)
    return task.example(scan, np.random.default_rng(number))


def steps(count: int) -> object:
    """Says stop after so many."""
    left = iter(range(count))
    return lambda: next(left, None) is None


def begun(folder: Path, **endless: object) -> EndlessTraining:
    task = SegmenterTask(settings(**endless))
    return EndlessTraining(task, sources(), {"simulated": [example(10**6, task)]}, folder, CPU)


def test_examples_follow_their_number_and_never_repeat() -> None:
    task = SegmenterTask(settings(real_fraction=1.0))
    first, again, other = (example(number, task) for number in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert first.dtype == torch.uint8 and first.shape == (4, GRID, GRID, GRID)
    assert len({endless_plan(9000, index).flair.seed for index in range(50)}) == 50
    assert all(example(number, task, sources(2))[:LESION].any() for number in range(3))


def test_it_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    training = begun(tmp_path)
    training.run(steps(5))
    stored = ResumePoint.read(tmp_path, training._facts())
    assert stored is not None and stored.step == 5 and [row["step"] for row in stored.curve] == [4]
    assert set(stored.curve[0]) == {"step", "loss", "simulated"}
    second = begun(tmp_path)
    assert second.step == 5
    for name, value in second.average.state_dict().items():
        torch.testing.assert_close(value, training.average.state_dict()[name], atol=1e-3, rtol=1e-3)
    second.run(steps(4))
    assert second.step == 9 and [row["step"] for row in second.curve] == [4, 8]
    assert sorted(path.name for path in tmp_path.iterdir()) == [RESUME_POINT]


def test_it_learns_and_the_average_is_smoother(tmp_path: Path) -> None:
    training = begun(tmp_path, learning_rate=5e-3, averaging=0.9)
    training.run(steps(40))
    assert training.curve[-1]["loss"] < training.curve[0]["loss"]
    moved = [
        float((a - b).detach().abs().mean())
        for a, b in zip(training.average.parameters(), training.network.parameters(), strict=True)
    ]
    assert max(moved) > 0


def test_it_begins_from_another_and_counts_its_own_steps(tmp_path: Path) -> None:
    first = begun(tmp_path / "base")
    first.run(steps(3))
    second = begun(tmp_path / "further")
    second.begin_from(tmp_path / "base")
    assert second.step == 0
    for name, value in second.network.state_dict().items():
        torch.testing.assert_close(value, first.average.state_dict()[name], atol=1e-3, rtol=1e-3)
    with pytest.raises(InputError, match="no resume point to begin from"):
        second.begin_from(tmp_path / "nowhere")
    wide = settings().model_copy(update={"segmenter": SegmenterSettings(features=3, depth=3, stem=2, crop=16)})
    third = EndlessTraining(SegmenterTask(wide), sources(), {}, tmp_path / "wide", CPU)
    third.begin_from(tmp_path / "base")
    image = torch.rand(1, 2, GRID, GRID, GRID)
    torch.testing.assert_close(third.average(image), first.average(image), atol=0.2, rtol=0.2)
    deep = settings().model_copy(update={"segmenter": SegmenterSettings(features=2, depth=4, stem=1, crop=16)})
    with pytest.raises(InputError, match="of another network"):
        EndlessTraining(SegmenterTask(deep), sources(), {}, tmp_path / "deep", CPU).begin_from(tmp_path / "base")


def test_it_begins_from_weights_and_knows_whom_they_saw(tmp_path: Path, tiny_weights: Path) -> None:
    card = read_card(tiny_weights, "segmenter").model_copy(update={"people": {"train": ["one"]}})
    shutil.copytree(tiny_weights, tmp_path / "known")
    (tmp_path / "known" / "segmenter.json").write_text(card.model_dump_json())
    point = point_of(tmp_path / "known")
    assert point is not None and point.people == ("one",)
    alike = settings().model_copy(update={"segmenter": SegmenterSettings(**point.arguments, crop=16)})
    training = EndlessTraining(SegmenterTask(alike), sources(), {}, tmp_path / "new", CPU)
    training.begin_from(tmp_path / "known")
    training.save()
    stored = ResumePoint.read(tmp_path / "new")
    assert stored is not None and set(stored.people) == {"one", *(head.name for head in sources().heads)}
    image = torch.rand(1, 2, GRID, GRID, GRID)
    torch.testing.assert_close(training.network.eval()(image), network_of(tmp_path / "known")(image))
    assert point_of(tmp_path) is None


def test_another_network_or_a_broken_file_is_refused(tmp_path: Path) -> None:
    begun(tmp_path).run(steps(1))
    other = settings().model_copy(update={"segmenter": SegmenterSettings(features=4, depth=3, stem=2, crop=16)})
    with pytest.raises(InputError, match="of another network"):
        EndlessTraining(SegmenterTask(other), sources(), {}, tmp_path, CPU)
    assert network_of(tmp_path)(torch.zeros(1, 2, GRID, GRID, GRID)).shape == (1, 1, GRID, GRID, GRID)
    (tmp_path / RESUME_POINT).write_bytes(b"no weights")
    with pytest.raises(InputError, match="no resume point"):
        begun(tmp_path)


def write_material(folder: Path) -> None:
    """Heads and bank as scripts/make_heads.py leaves them."""
    folder.mkdir()
    nib.Nifti1Image(boxes_head().labels, np.eye(4)).to_filename(folder / "head-boxes.nii.gz")
    bank = balls_bank()
    bits = [np.packbits(mask) for mask in bank.masks]
    np.savez_compressed(
        folder / BANK_FILE,
        bits=np.concatenate(bits),
        length=np.array([len(each) for each in bits]),
        corner=bank.corners,
        shape=np.array([mask.shape for mask in bank.masks]),
    )
    again = LesionBank.read(folder)
    assert all(np.array_equal(a, b) for a, b in zip(again.masks, bank.masks, strict=True))


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """How the process is started, on tiny material of its own; ``tiny.toml`` is beside it."""
    write_material(tmp_path / "heads")
    (tmp_path / "manifest.csv").write_text("id,patient,split,flair,t1,mask,brain_mask,ventricles\n")
    data = DataSettings(grid=GRID, cubes=str(tmp_path / "cubes"), simulated_validation=0)
    endless = settings(heads=str(tmp_path / "heads"), save_every=1).endless
    (tmp_path / "tiny.toml").write_text(to_toml(settings().model_copy(update={"data": data, "endless": endless})))
    start = [sys.executable, "-m", "veridice.training.endless_run", str(tmp_path), "--config", str(tmp_path / "tiny.toml")]
    return [*start, "--manifest", str(tmp_path / "manifest.csv")]


@pytest.mark.slow
def test_a_signal_ends_it_cleanly(command: list[str], tmp_path: Path) -> None:
    """The process itself, told to stop as the script does it."""
    command += ["--resume", str(tmp_path / "resume")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}) as process:
        for _ in range(600):
            if (tmp_path / "resume" / RESUME_POINT).exists() or process.poll() is not None:
                break
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 0 and output.startswith("step ")


@pytest.fixture
def carried(command: list[str], tmp_path: Path) -> Path:
    """What travels to a GPU."""
    carried = tmp_path / "carried"
    tiny = load_training_settings(command[command.index("--config") + 1])
    scans = labelled_scans(tiny, tmp_path / "manifest.csv", tmp_path)
    pack(scans, Path(tiny.endless.heads), carried / "material", largest_mib=1.0)
    return carried


def test_what_travels_is_scans_heads_and_lesions(carried: Path) -> None:
    assert sorted(path.name for path in (carried / "material").iterdir()) == ["bank.npz", "head-boxes.nii.gz", "scans.npz"]


@pytest.mark.slow
def test_the_script_for_a_gpu_as_a_whole_on_this_machine(carried: Path, tmp_path: Path) -> None:
    """Packed here, trained there (for a second), from a file of the size that may travel."""
    out = tmp_path / "out"
    environment = {**os.environ, "CONFIG": str(tmp_path / "tiny.toml"), "CARRIED": str(carried), "PYTHON": sys.executable}
    script = Path(__file__).parents[2] / "scripts" / "train_on_gpu"
    done = subprocess.run(
        [script, "run", str(out), "0.02"], check=True, timeout=120, env=environment, capture_output=True, text=True
    )
    assert "step " in done.stdout and (out / RESUME_POINT).exists()


def test_the_script_for_the_background_says_what_is_wrong() -> None:
    """What it does in earnest was tried by hand; it must never touch a training that runs here, hence another name."""
    script = Path(__file__).parents[2] / "scripts" / "train_in_background"

    def told(*options: str) -> tuple[int, str]:
        command = [sys.executable, script, "--config", "unheard-of", *options]
        done = subprocess.run(command, timeout=120, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    assert told("--status") == (0, "not running\n")
    assert told("--stop") == (1, "nothing is running\n")
    assert told() == (2, told()[1]) and "say where the data are" in told()[1]
