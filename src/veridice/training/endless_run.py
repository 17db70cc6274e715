"""Runs :mod:`.endless` on the real material; ``scripts/train_in_background`` and ``train_on_gpu`` call it as a module.

The material is a folder of scans, or what :func:`pack` made of one, for a machine that has little installed and little time.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from veridice.errors import VeridiceError
from veridice.simulate.heads import read_heads
from veridice.simulate.lesion_bank import BANK_FILE, LesionBank
from veridice.training.cubes import LESION
from veridice.training.endless import EndlessTraining, ResumePoint, network_of, point_of, until
from veridice.training.endless_examples import BYTES, DrawnScan, Sources, draw_scan
from veridice.training.endless_tasks import AnatomyTask, CriticTask, ReconstructorTask, SegmenterTask, Task
from veridice.training.settings import TrainingSettings, load_training_settings

TOLD_EVERY = 10.0
"""Seconds between two lines of the log."""
SCANS = "scans.npz"
PACKED_MIB = 48.0
"""A lent machine takes 64 with the repository and the packages that it lacks."""
LEARNT, REAL = "learnt", "real"
KEPT_APART, CHECKS, FIRST_CHECK = 16, 16, 10**8
"""Anatomy: of how many heads one is kept apart, patients that are made of them, and the number of the first."""
OTHERS: dict[str, Callable[[TrainingSettings], Task]] = {
    "segmenter": SegmenterTask,
    "anatomy": AnatomyTask,
    "reconstructor": ReconstructorTask,
}
Scans = Mapping[str, list[torch.Tensor]]
"""Labelled scans on the cube (4, x, y, z; uint8): those that are learnt from, and groups that the training is checked on."""


def main() -> int:
    """Train until a signal, or until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of the scans, or of what was packed")
    parser.add_argument("--config", default="see-more")
    parser.add_argument("--manifest", type=Path, default=Path("data/training.csv"))
    parser.add_argument("--resume", type=Path, help="folder of the resume point")
    parser.add_argument("--start", type=Path, help="folder of the resume point to begin from, where there is none yet")
    parser.add_argument("--leave-out", type=int, metavar="GROUP", help="donor group whose real scans are only checked on")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--steps", type=int, help="until so many are done in all, those of former runs included")
    parser.add_argument("--pack", type=Path, metavar="FOLDER", help="write the material there and do nothing else")
    options = parser.parse_args()
    told_to_stop: list[int] = []

    def on_signal(number: int, _frame: FrameType | None) -> None:
        told_to_stop.append(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    over = until(60 * options.minutes if options.minutes else None)
    try:
        settings = load_training_settings(options.config)
        resume, last = options.resume or Path("resume") / settings.name, options.steps or sys.maxsize
        known = ResumePoint.read(resume)
        if known is not None and known.step >= last and not options.pack:
            sys.stdout.write(f"step {known.step}: all are done\n")
            return 0
        packed = (options.data / SCANS).exists()
        heads = options.data if packed else Path(settings.endless.heads)
        scans = (
            unpacked(options.data) if packed else labelled_scans(settings, options.manifest, options.data, options.leave_out)
        )
        if options.pack:
            pack(scans, heads, options.pack)
            return 0
        training = prepared(settings, scans, heads, resume, options.start)
        training.run(lambda: bool(told_to_stop) or over() or training.step >= last, _Log())
    except VeridiceError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    sys.stdout.write(f"{training.told()}\n")
    return 0


def prepared(settings: TrainingSettings, scans: Scans, heads: Path, resume: Path, start: Path | None = None) -> EndlessTraining:
    """The training with all that it learns from and is checked on, on the best device.

    Args:
        settings: architecture, variation, loop.
        scans: labelled ones.
        heads: folder of heads and lesions.
        resume: folder of the resume point.
        start: folder of the one to begin from, where there is none yet in ``resume``; its steps do not count. A critic begins
            from its segmenter.

    Raises:
        InputError: heads are missing, or a resume point is another's.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    task, everybody = chosen_task(settings, device), read_heads(heads)
    bank = LesionBank.read(heads)
    if settings.endless.task == "anatomy":
        # Nobody drew the anatomy of the real scans; some people are kept apart instead.
        apart = Sources(everybody[::KEPT_APART], bank)
        drawn = [draw_scan(FIRST_CHECK + number, apart, settings, torch.device("cpu")) for number in range(CHECKS)]
        groups = {"simulated": drawn}
        everybody = [head for number, head in enumerate(everybody) if number % KEPT_APART]
    else:
        known = {name: group for name, group in scans.items() if name != LEARNT and group}
        groups = {name: [DrawnScan(hard(scan.float() / BYTES), None) for scan in group] for name, group in known.items()}
    checks = {
        name: [task.example(scan, np.random.default_rng([number, 6])) for number, scan in enumerate(group)]
        for name, group in groups.items()
    }
    training = EndlessTraining(task, Sources(everybody, bank, scans.get(LEARNT, [])), checks, resume, device)
    if isinstance(task, CriticTask) and task.segmenter is not None:
        start = start or Path(settings.endless.segmenter)
    if start and not training.step:
        training.begin_from(start)
    return training


def chosen_task(settings: TrainingSettings, device: torch.device) -> Task:
    """What the settings say is to be learnt."""
    kind = settings.endless.task
    if kind != "critic":
        return OTHERS[kind](settings)
    segmenter = None
    if (folder := settings.endless.segmenter) and point_of(Path(folder)) is not None:
        segmenter = network_of(Path(folder)).to(device)
    return CriticTask(settings, segmenter)


def hard(cube: torch.Tensor) -> torch.Tensor:
    """A cube (4, x, y, z) whose true mask is of zeros and ones."""
    return torch.cat([cube[:LESION], (cube[LESION:] >= 0.5).float()])


def labelled_scans(settings: TrainingSettings, manifest: Path, data: Path, left_out: int | None = None) -> Scans:
    """Real scans and simulated validation patients; a training on simulated patients alone is checked on all real scans.

    Args:
        settings: donor groups, share of real scans.
        manifest: of the real scans, relative to ``data``.
        data: folder.
        left_out: donor group that is not learnt from; its scans alone are checked on then.

    Raises:
        InputError: a scan is missing or cannot be read.
    """
    from veridice.io.datasets import read_manifest
    from veridice.training.examples import planned_patients, prepare_material, real_groups
    from veridice.training.provenance import by_split

    cases, plans = read_manifest(manifest, data), planned_patients("validation", settings.data)
    if not cases and not plans:
        return {}
    material = prepare_material(cases, plans, settings.data, Path(settings.data.cubes), lambda: None)
    learnt = {case.patient for case in by_split(cases)["train"]} if settings.endless.real_fraction else set()
    checked = {case.patient for case in cases} - learnt
    if left_out is not None:
        checked = {patient for patient, group in real_groups(cases, settings.data).items() if group == left_out}
    groups = {
        LEARNT: [case for case in material.real if case.donors[0] in learnt - checked],
        REAL: [case for case in material.real if case.donors[0] in checked],
        "simulated": material.simulated,
    }
    return {name: [torch.from_numpy(np.load(case.file)) for case in group] for name, group in groups.items()}


def pack(scans: Scans, heads: Path, folder: Path, largest_mib: float = PACKED_MIB) -> None:
    """Scans, lesions and as many heads as go into so many MiB; of the checks every third, since they cost time and room."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: group if name == LEARNT else group[::3] for name, group in scans.items()}
    arrays: dict[str, Any] = {f"{name} {n}": scan.numpy() for name, group in kept.items() for n, scan in enumerate(group)}
    np.savez_compressed(folder / SCANS, **arrays)
    shutil.copy(heads / BANK_FILE, folder / BANK_FILE)
    room = largest_mib * 2**20 - sum((folder / name).stat().st_size for name in (SCANS, BANK_FILE))
    for file in sorted(heads.glob("head-*.nii.gz"), key=lambda path: path.name[::-1]):
        room -= file.stat().st_size
        if room < 0:
            break
        shutil.copy(file, folder / file.name)


def unpacked(folder: Path) -> Scans:
    """The scans that :func:`pack` wrote."""
    found: dict[str, list[torch.Tensor]] = {}
    with np.load(folder / SCANS, allow_pickle=False) as stored:
        for name in stored.files:
            found.setdefault(name.rsplit(" ", 1)[0], []).append(torch.from_numpy(stored[name]))
    return found


class _Log:
    """A line now and then, for a file that somebody may look at."""

    def __init__(self) -> None:
        self.begun = self.last = time.monotonic()
        self.steps = 0

    def __call__(self, told: str) -> None:
        self.steps += 1
        now = time.monotonic()
        if now - self.last >= TOLD_EVERY:
            self.last = now
            sys.stdout.write(f"{told}; {(now - self.begun) / self.steps:.2f} s a step\n")
            sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
