"""Does the profile ``paper`` run on the machine at hand, and how long would all of it take?

Fold 0 of its experiment, on fewer simulated patients and with fewer steps, through the stages of ``veridice experiment``.
A stage that trains is prolonged by its time a step (validations included), one that goes through scans by their number::

    python benchmarks/paper_profile.py -o runs/paper-profile --patients 32 --steps 600 --jobs 16

Or the steps of the networks alone, on random volumes that lie ready::

    python benchmarks/paper_profile.py --networks
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from veridice import training
from veridice.config import InferenceSettings, load_training_settings
from veridice.experiment.inputs import claim, usable_cases
from veridice.experiment.protocol import METHODS, ExperimentSettings, assign_folds, lesion_donors, load_experiment, read_cases
from veridice.experiment.stages import SCORES, STAGES, Fold, for_folds, make_fold, run_fold
from veridice.inference import choose_backend, stochastic_passes
from veridice.losses import SegmentationLoss, SsimLoss
from veridice.networks.mc_unet import McUnet
from veridice.networks.reconstruction_unet import ReconstructionUnet
from veridice.networks.regression_net import RegressionNet
from veridice.simulate.cohort import COHORTS, write_cohort

OMITTED = "reverse_classification"
"""Registers on the processor alone: no GPU makes it faster, and it takes minutes."""


def shortened(whole: ExperimentSettings, patients: int, steps: int) -> ExperimentSettings:
    """Fewer patients; each network gets the same share of its steps as the segmenter."""
    stages = ("segmenter", "inner", "reconstructor", "regressor")
    fewer = {f"{stage}_steps": max(1, getattr(whole, f"{stage}_steps") * steps // whole.segmenter_steps) for stage in stages}
    return whole.model_copy(update={**fewer, "patients": patients})


def first_fold(settings: ExperimentSettings, folder: Path, jobs: int) -> Fold:
    """Simulate, look at all scans, share them out; as ``veridice experiment`` does."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration, inference, start = claim(settings, folder)
    configuration = for_folds(configuration, settings, folder, start)
    write_cohort(folder / "cohort", COHORTS[settings.cohort], settings.patients, jobs, lambda: None)
    cases, _ = read_cases(settings, folder / "cohort")
    cases, _ = usable_cases(cases, configuration, folder, True, sys.stdout.write)
    table = assign_folds(cases, settings, lesion_donors(folder / "cohort"))
    return make_fold(0, cases, table, folder, settings, configuration, inference, start)


def timed_steps() -> list[list[float]]:
    """Lets training note the moment of every step from now on; one list a training, in their order."""
    trainings: list[list[float]] = []
    optimise = training._optimise

    def noted(fabric: Any, network: Any, optimiser: Any, loss: Any, batch: Any, seed: int) -> float:
        if not trainings or seed % 1_000_003 == 0:
            trainings.append([])
        value = optimise(fabric, network, optimiser, loss, batch, seed)
        trainings[-1].append(time.perf_counter())
        return value

    training._optimise = noted
    return trainings


def report(fold: Fold, whole: ExperimentSettings, trainings: list[list[float]]) -> str:
    """Seconds of each stage as run, and what the same stage would take in the whole experiment."""
    done, rows, moments = fold.settings, [], iter(trainings)
    for path in sorted((fold.folder / STAGES).glob("*.json"), key=lambda each: each.stat().st_mtime):
        seconds = json.loads(path.read_text(encoding="utf-8"))["seconds"]
        steps = getattr(done, f"{path.stem.split('-')[0]}_steps", 0)
        if steps:
            # The first steps wait for the processes that prepare examples, and choose kernels.
            later = next(moments)[steps // 4 :]
            each = (later[-1] - later[0]) / (len(later) - 1)
            prolonged = seconds + each * (getattr(whole, f"{path.stem.split('-')[0]}_steps") - steps)
            rows.append({"stage": path.stem, "steps": steps, "ms_a_step": each * 1e3, "seconds": seconds, "whole": prolonged})
        else:
            more = COHORTS[whole.cohort].patients / done.patients
            rows.append({"stage": path.stem, "seconds": seconds, "whole": seconds * more})
    table = pd.DataFrame(rows)
    hours = table["whole"].sum() / 3600
    return "\n".join(
        (
            table.round(1).to_string(index=False),
            f"whole fold, without {OMITTED}: {hours:.1f} h; {whole.folds} folds: {whole.folds * hours:.1f} h",
            device(),
            quality(fold),
        )
    )


def network_times(repeats: int = 30) -> str:
    """Milliseconds of a training step of each network and of one stochastic pass, the data lying ready; and what follows."""
    whole, settings = load_experiment("paper"), load_training_settings("paper")
    place, edge = "cuda" if torch.cuda.is_available() else "cpu", settings.data.grid
    volume = torch.rand(1, 2, edge, edge, edge, device=place)
    lesion, nothing = (volume[:, :1] > 0.98).float(), torch.zeros_like(volume[:, :1])
    maps, generator = torch.rand(settings.regressor.batch_size, 2, edge, edge, edge, device=place), torch.Generator()
    chosen = {name: settings.segmenter.model_dump()[name] for name in ("features", "depth", "stem", "dropout_rate")}
    segmenter, overlap = McUnet(**chosen).to(place), SegmentationLoss(0.0)
    reconstructor = ReconstructionUnet(settings.reconstructor.features).to(place)
    regressor, similarity = RegressionNet(2).to(place), SsimLoss()
    steps: dict[str, tuple[torch.nn.Module, Callable[[], torch.Tensor], int]] = {
        "segmenter": (
            segmenter,
            lambda: overlap(segmenter(volume, generator), lesion, nothing),
            whole.segmenter_steps + whole.inner_folds * whole.inner_steps,
        ),
        "reconstructor": (
            reconstructor,
            lambda: similarity(reconstructor(volume[:, :1] * (1 - lesion)), volume[:, :1], lesion),
            whole.reconstructor_steps,
        ),
        "regressor": (regressor, lambda: regressor(maps).float().square().mean(), 6 * whole.regressor_steps),
    }
    lines, hours = [], 0.0
    for name, (network, loss, number) in steps.items():
        each = _step_time(network, loss, place, repeats)
        hours += number * each / 3600
        lines.append(f"{name}: {each * 1e3:.1f} ms a step, {number:,} steps a fold")
    with torch.inference_mode():
        begin = time.perf_counter()
        result = stochastic_passes(segmenter, volume[0].cpu().numpy(), choose_backend(InferenceSettings()), whole.passes, 0)
        lines.append(f"{len(result.sample_masks)} stochastic passes with maps: {time.perf_counter() - begin:.2f} s a scan")
    return "\n".join((*lines, f"all training steps: {hours:.1f} h a fold, {whole.folds * hours:.1f} h in all", device()))


def _step_time(network: torch.nn.Module, loss: Callable[[], torch.Tensor], place: str, repeats: int) -> float:
    optimiser = torch.optim.Adam(network.parameters())
    for number in range(repeats + repeats // 3):
        if number == repeats // 3:  # the first ones choose kernels
            begin = _now()
        optimiser.zero_grad()
        with torch.autocast(place, torch.bfloat16):
            value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return (_now() - begin) / repeats


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def device() -> str:
    """The machine, and the memory that training took of its GPU."""
    if not torch.cuda.is_available():
        return f"no GPU; {torch.get_num_threads()} threads"
    return f"{torch.cuda.get_device_name()}; at most {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of its memory"


def quality(fold: Fold) -> str:
    """How well the network segments its few test scans."""
    table = pd.read_csv(fold.folder / SCORES)
    test = table[(table["split"] == "test") & (table["method"] == "volume")]
    dice = ", ".join(f"{value:.2f}" for value in test["dice"])
    return f"Dice of the {len(test)} test scans: {dice}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=Path("runs/paper-profile"))
    parser.add_argument("--patients", type=int, default=32)
    parser.add_argument("--steps", type=int, default=600, help="of the segmenter; the others in proportion")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--networks", action="store_true", help="time the networks alone")
    arguments = parser.parse_args()
    if arguments.networks:
        sys.stdout.write(f"{network_times()}\n")
        return
    whole = load_experiment("paper", methods=[name for name in METHODS if name != OMITTED])
    fold = first_fold(shortened(whole, arguments.patients, arguments.steps), arguments.output, arguments.jobs)
    counts = ", ".join(f"{len(fold.of(split))} {split}" for split in ("train", "validation", "test"))
    sys.stdout.write(f"fold 0: {counts}\n")
    trainings = timed_steps()
    run_fold(fold)
    sys.stdout.write(f"{report(fold, whole, trainings)}\n")


if __name__ == "__main__":
    main()
