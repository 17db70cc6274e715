"""Is the order of tools that ``veridice compare`` states the true one? Six tools on simulated people of reserved donors.

python benchmarks/compare_tools.py runs/compare [-n 40] [--passes 20]

Makes the study (gone on with when it was interrupted), masks of six tools (three segmenters of different training, a cautious
and a generous one, and a threshold on the brightness), compares them, and then looks at the truth: the order, every statement,
the best of each scan and the mask made of all against the best single tool.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import spearmanr

from veridice.assessment.analysis import find_brain
from veridice.assessment.models import load_models
from veridice.config import InferenceSettings
from veridice.imaging.grid import GridTransform, fit_grid, grid_images
from veridice.imaging.volume import Volume
from veridice.inference.passes import choose_backend, deterministic_pass
from veridice.inference.weights import load_network
from veridice.io.nifti import read_image, read_mask, write_image
from veridice.io.scan_reader import read_scan
from veridice.io.weight_cards import bundled_weights
from veridice.metrics.overlap import dice
from veridice.training.endless import network_of

RESUME = Path("resume")
TOOLS = ("simulation only", "fold 0", "patients without end", "cautious", "generous", "bright")


def networks() -> dict[str, Any]:
    """Segmenters of different training."""
    return {
        "simulation only": load_network(RESUME / "base", "segmenter")[0],
        "fold 0": load_network(RESUME / "fold-0", "segmenter")[0],
        "patients without end": network_of(RESUME / "see-more"),
    }


def masks_of(
    flair: Volume, images: Any, transform: GridTransform, nets: dict[str, Any], brain: np.ndarray, backend: Any
) -> dict[str, np.ndarray]:
    """What each tool draws (x, y, z)."""
    found = {name: transform.to_native(deterministic_pass(net, images, backend), order=3) for name, net in nets.items()}
    masks = {name: (probability >= 0.5) & brain for name, probability in found.items()}
    masks["cautious"] = (found["fold 0"] >= 0.9) & brain
    masks["generous"] = masks["simulation only"] | masks["patients without end"]
    inside = flair.voxels[brain]
    low, middle, high = np.quantile(inside, [0.25, 0.5, 0.75])
    masks["bright"] = (flair.voxels > middle + 2.2 * (high - low)) & brain
    return masks


def make(folder: Path, patients: int) -> Path:
    """The study and the masks of all tools; returns the data set's root."""
    study = folder / "study"
    command = [sys.executable, "-m", "veridice", "simulate", "-n", str(patients), "-o", str(study), "--cohort", "test-ordinary"]
    subprocess.run([*command, "--donors", "reserved", "--seed", "77"], check=True)
    nets, settings = networks(), InferenceSettings()
    models, backend = load_models(bundled_weights()), choose_backend(settings)
    for subject in sorted(study.glob("sub-*")):
        name = subject.name
        files = [next(subject.rglob(f"*_{kind}.nii.gz"), None) for kind in ("FLAIR", "T1w")]
        target = folder / "masks" / TOOLS[-1] / name / "anat" / f"{name}_label-lesion_mask.nii.gz"
        if target.exists() or files[0] is None:
            continue
        scan = read_scan(files[0], files[1])
        transform = fit_grid(scan.flair, models.grid_shape)
        images = grid_images(scan.flair, scan.t1, transform)
        _, brain = find_brain(scan, images, transform, *models.brain_finder, backend)
        for tool, mask in masks_of(scan.flair, images, transform, nets, brain, backend).items():
            place = folder / "masks" / tool / name / "anat" / f"{name}_label-lesion_mask.nii.gz"
            place.parent.mkdir(parents=True, exist_ok=True)
            write_image(place, scan.flair.with_voxels(mask))
    return study


def true_dice(folder: Path, study: Path) -> pd.DataFrame:
    """A row a scan and tool; also of our own masks, of the best and of the consensus."""
    rows = []
    for truth_file in sorted((study / "derivatives" / "truth").rglob("*label-lesion*_mask.nii.gz")):
        name = truth_file.name.split("_")[0]
        out = folder / "out" / name / "anat"
        flair = next((study / name).rglob("*_FLAIR.nii.gz"))
        grid = read_image(flair).geometry
        truth = read_mask(truth_file, grid).voxels
        files = {tool: folder / "masks" / tool / name / "anat" / f"{name}_label-lesion_mask.nii.gz" for tool in TOOLS}
        files |= {kind: out / f"{name}_label-lesion_desc-{kind}_mask.nii.gz" for kind in ("best", "consensus")}
        rows += [
            {"scan": name, "tool": tool, "dice": dice(read_mask(file, grid).voxels, truth).dice}
            for tool, file in files.items()
            if file.exists()
        ]
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-n", type=int, default=40)
    parser.add_argument("--passes", type=int, default=20)
    arguments = parser.parse_args()
    folder = arguments.folder
    study = make(folder, arguments.n)
    given = [part for tool in TOOLS for part in ("--masks", f"{tool}={folder / 'masks' / tool}")]
    command = [sys.executable, "-m", "veridice", "compare", str(study), str(folder / "out"), *given, "--no-own"]
    more = ["--select", "best", "--select", "consensus", "--skip-bids-validation", "--passes", str(arguments.passes)]
    subprocess.run([*command, *more], check=True)
    true = true_dice(folder, study).pivot_table(index="scan", columns="tool", values="dice")
    told = pd.read_csv(folder / "out" / "tools.tsv", sep="\t").set_index("tool")["mean"]
    tools, means = list(TOOLS), true.mean()
    for tool in sorted(tools, key=lambda tool: -means[tool]):
        sys.stdout.write(f"{tool}: true {means[tool]:.3f}, predicted {told[tool]:.3f}\n")
    single = means[tools].max()
    sys.stdout.write(
        f"{len(true)} people: rank correlation {spearmanr(told[tools], means[tools]).statistic:.2f}; best of each scan "
        f"{means['best']:.3f}, consensus {means['consensus']:.3f}, best single tool {single:.3f}, "
        f"best possible choice {true[tools].max(axis=1).mean():.3f}\n"
    )
    statements(pd.read_csv(folder / "out" / "pairs.tsv", sep="\t"), true)


def statements(pairs: pd.DataFrame, true: pd.DataFrame) -> None:
    """How many statements there are, and how many are wrong."""
    wrong = []
    for pair in pairs[pairs["statement"] != "undecided"].itertuples():
        difference = (true[pair.first] - true[pair.second]).mean()
        if (difference > 0) != (pair.statement == "better"):
            wrong.append(f"{pair.first} and {pair.second} ({difference:+.3f})")
    same = sum(np.sign((true[a] - true[b]).mean()) != 0 for a, b in combinations(TOOLS, 2))
    stated = int((pairs["statement"] != "undecided").sum())
    sys.stdout.write(f"{stated} statements of {same} pairs, wrong: {', '.join(wrong) or 'none'}\n")


if __name__ == "__main__":
    main()
