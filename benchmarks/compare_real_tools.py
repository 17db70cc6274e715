"""Is the order of tools that ``veridice compare`` states the true one on real scans? On ten people whom the judge never saw.

python benchmarks/compare_real_tools.py runs/compare-real --data FOLDER [--passes 20]

The six tools of compare_tools.py draw masks of the real people of data/training.csv. Those of a donor group are judged with the
segmenter of resume/ that learnt without this group, and with a predictor that is fitted here without it. Reconstructor,
regression networks, brain finder and calibration are those that ship. Then the truth: the order, every statement, the best of
each scan and the mask made of all against the best single tool.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from compare_tools import RESUME, TOOLS, masks_of, networks, statements
from scipy.stats import spearmanr

from veridice.assessment.analysis import find_brain
from veridice.assessment.models import load_models
from veridice.case import Case
from veridice.config import InferenceSettings
from veridice.imaging.grid import fit_grid, grid_images
from veridice.inference.passes import choose_backend
from veridice.io.datasets import read_manifest
from veridice.io.nifti import read_image, read_mask, write_image
from veridice.io.scan_reader import read_scan
from veridice.io.weight_cards import bundled_weights, read_card
from veridice.metrics.overlap import dice
from veridice.quality.model import load_quality_model, save_quality_model
from veridice.quality.predictor import fit_predictor
from veridice.quality.tool_order import compare_pairs, tool_means
from veridice.training.assessed_masks import masks_to_learn
from veridice.training.settings import load_training_settings

MANIFEST, JUDGE = Path("data/training.csv"), Path("results/judge")
SELECTED = ("best", "consensus")


def weights_without(group: int, folder: Path) -> Path:
    """Those that ship, with segmenter and predictor of the other donor groups."""
    place = folder / f"weights-{group}"
    place.mkdir(parents=True, exist_ok=True)
    for file in (*bundled_weights().glob("*.*"), *(RESUME / f"fold-{group}").glob("segmenter.*")):
        shutil.copy(file, place / file.name)
    known = masks_to_learn(JUDGE)
    predictor = fit_predictor(known[known["group"] != group].reset_index(drop=True))
    card = read_card(place, "predictor").model_dump(mode="json", exclude={"arguments", "sha256", "name", "kind"})
    save_quality_model(place, replace(load_quality_model(place), predictor=predictor), card)
    return place


def subject(case: Case) -> str:
    return f"sub-{case.id.replace('-', '')}"


def place_of(folder: Path, tool: str, case: Case) -> Path:
    return folder / "masks" / tool / subject(case) / "anat" / f"{subject(case)}_label-lesion_mask.nii.gz"


def make(cases: list[Case], folder: Path, weights: Path) -> None:
    """A data set of links to these scans, and the masks of all tools."""
    nets, settings = networks(), InferenceSettings()
    models, backend = load_models(weights), choose_backend(settings)
    for case in cases:
        anat = folder / "study" / subject(case) / "anat"
        anat.mkdir(parents=True, exist_ok=True)
        for kind, file in (("FLAIR", case.flair), ("T1w", case.t1)):
            link = anat / f"{subject(case)}_{kind}.nii.gz"
            if file is not None and not link.exists():
                link.symlink_to(file.resolve())
        if place_of(folder, TOOLS[-1], case).exists():
            continue
        scan = read_scan(case.flair, case.t1)
        transform = fit_grid(scan.flair, models.grid_shape)
        images = grid_images(scan.flair, scan.t1, transform)
        _, brain = find_brain(scan, images, transform, *models.brain_finder, backend)
        for tool, mask in masks_of(scan.flair, images, transform, nets, brain, backend).items():
            place = place_of(folder, tool, case)
            place.parent.mkdir(parents=True, exist_ok=True)
            write_image(place, scan.flair.with_voxels(mask))


def compared(cases: list[Case], folder: Path, weights: Path, passes: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What ``veridice compare`` says of these people, and the true Dice (scan, tool, dice)."""
    make(cases, folder, weights)
    given = [part for tool in TOOLS for part in ("--masks", f"{tool}={folder / 'masks' / tool}")]
    command = [sys.executable, "-m", "veridice", "compare", str(folder / "study"), str(folder / "out"), *given, "--no-own"]
    more = ["--weights", str(weights), "--skip-bids-validation", "--passes", str(passes)]
    subprocess.run([*command, *more, *(part for name in SELECTED for part in ("--select", name))], check=True)
    rows = []
    for case in cases:
        grid = read_image(case.flair).geometry
        truth = read_mask(case.mask, grid).voxels
        name, out = subject(case), folder / "out" / subject(case) / "anat"
        files = {tool: place_of(folder, tool, case) for tool in TOOLS}
        files |= {kind: out / f"{name}_label-lesion_desc-{kind}_mask.nii.gz" for kind in SELECTED}
        for tool, file in files.items():
            mask = read_mask(file, grid).voxels
            rows.append({"scan": name, "tool": tool, "dice": dice(mask, truth).dice, "volume": mask.sum() / truth.sum()})
    said = pd.read_csv(folder / "out" / "comparison.tsv", sep="\t", keep_default_na=False, na_values=["n/a"])
    return said, pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder that the paths of data/training.csv start from")
    parser.add_argument("--passes", type=int, default=20)
    options = parser.parse_args()
    cases, told, known = read_manifest(MANIFEST, options.data), [], []
    for group, people in enumerate(load_training_settings("default").data.donor_groups):
        own = [case for case in cases if case.id in people.split(",")]
        folder = options.folder / f"group-{group}"
        said, true = compared(own, folder, weights_without(group, options.folder), options.passes)
        told.append(said)
        known.append(true)
    rows = pd.concat(known)
    true, volumes = rows.pivot_table(index="scan", columns="tool", values="dice"), rows.groupby("tool")["volume"].mean()
    table = pd.concat(told, ignore_index=True)
    table = table[table["status"] == "done"]
    table = table.assign(person=table["scan"], predicted=table["predicted_dice"])
    means, tools = {mean.tool: mean.mean for mean in tool_means(table)}, list(TOOLS)
    for tool in sorted(tools, key=lambda tool: -true[tool].mean()):
        said = f"true {true[tool].mean():.3f}, predicted {means[tool]:.3f}, volume {volumes[tool]:.2f} of the true one"
        sys.stdout.write(f"{tool}: {said}\n")
    order = spearmanr([means[tool] for tool in tools], true[tools].mean()).statistic
    sys.stdout.write(
        f"{len(true)} people: rank correlation {order:.2f}; best of each scan {true['best'].mean():.3f}, consensus "
        f"{true['consensus'].mean():.3f}, best single tool {true[tools].mean().max():.3f}, best possible choice "
        f"{true[tools].max(axis=1).mean():.3f}\n"
    )
    # Two tools' errors are as two draws of one kind; those of people are small beside them.
    errors = np.array([means[tool] - true[tool].mean() for tool in tools])
    sys.stdout.write(f"standard deviation of the error of a difference of two tools: {np.sqrt(2) * errors.std(ddof=1):.3f}\n")
    statements(pd.DataFrame([vars(pair) for pair in compare_pairs(table)]), true)


if __name__ == "__main__":
    main()
