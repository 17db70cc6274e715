"""The paper's Figure 1: what the networks make of a small, a medium and a large lesion load."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from veridice.experiment.cases import KnownCase, Panel
from veridice.experiment.results.figures import saved
from veridice.inference.passes import reconstruct, stochastic_passes
from veridice.io.atomic import replaced
from veridice.metrics.scores import error_map
from veridice.types import Voxels

COLUMNS = (
    "T1w",
    "true mask",
    "prediction",
    "uncertainty, 0 to 1 bit",
    "input of the Rec U-net",
    "reconstruction",
    "error map, ±0.5",
)
LOADS = {"small": 0.1, "medium": 0.5, "large": 0.9}
"""Quantile of the loads, among the cases that have lesions."""


def choose_loads(loads: dict[str, float]) -> dict[str, str]:
    """The case nearest to each quantile of :data:`LOADS`, by its name; fewer where one case is nearest to two."""
    known = {case: load for case, load in sorted(loads.items()) if load > 0}
    chosen: dict[str, str] = {}
    for name, share in LOADS.items():
        wanted = np.quantile(list(known.values()), share) if known else 0.0
        nearest = min(known.keys() - set(chosen.values()), key=lambda case: (abs(known[case] - wanted), case), default=None)
        if nearest is not None:
            chosen[name] = nearest
    return chosen


def slices_of(scan: KnownCase, panel: Panel) -> Voxels:
    """The axial slice of the cube with most of the true lesion, one for each column (columns, x, y)."""
    images, truth = scan.images, scan.transform.to_grid(scan.truth)
    passes = stochastic_passes(panel.segmenter, images, panel.backend, panel.passes, panel.seed).together()
    segmentation, entropy = passes.mean, passes.entropy
    mask = segmentation >= 0.5
    rebuilt = reconstruct(panel.reconstructor, images[0], mask, panel.backend)
    # Where there is but one contrast, it is the T1w.
    t1 = images[1] if images[1].any() else images[0]
    shown = (t1, truth, segmentation, entropy, np.where(mask, 0, images[0]), rebuilt)
    level = int(truth.sum(axis=(0, 1)).argmax())
    return np.stack([map_[:, :, level] for map_ in (*shown, error_map(images[0], rebuilt))]).astype(np.float32)


def store_slices(scans: dict[str, tuple[KnownCase, str]], panel: Panel, path: Path) -> None:
    """Keep slices and captions of the scans of each load for :func:`figure1`."""
    arrays = {name: slices_of(scan, panel) for name, (scan, _) in scans.items()}
    captions = {f"caption-{name}": np.array(caption) for name, (_, caption) in scans.items()}
    with replaced(path) as temporary:
        np.savez_compressed(temporary, allow_pickle=False, **arrays, **captions)


def figure1(stored: Path, folder: Path) -> None:
    """``figure1.png`` and ``.svg`` in ``folder`` from what :func:`store_slices` kept: one row a load, one column each of
    :data:`COLUMNS`.
    """
    with np.load(stored) as content:
        slices = {name: content[name] for name in LOADS if name in content}
        captions = {name: str(content[f"caption-{name}"]) for name in slices}
    if len(slices) < len(LOADS):  # of two or one, none is small for certain
        captions = {name: caption.removeprefix(f"{name}: ") for name, caption in captions.items()}
    size = (11.0, 1.65 * len(slices) + 0.3)
    with saved(folder, "figure1", len(COLUMNS), size, rows=len(slices)) as (_, panels):
        for row, (name, images) in enumerate(slices.items()):
            _draw_row(panels[row * len(COLUMNS) : (row + 1) * len(COLUMNS)], images, captions[name], titled=row == 0)


def _draw_row(panels: Sequence[Axes], images: Voxels, caption: str, titled: bool) -> None:
    styles: list[dict[str, Any]] = [{"cmap": "gray", "vmin": 0, "vmax": 1}] * 7
    styles[3] = {"cmap": "magma", "vmin": 0, "vmax": 1}
    styles[6] = {"cmap": "RdBu_r", "vmin": -0.5, "vmax": 0.5}
    for axes, image, style, title in zip(panels, images, styles, COLUMNS, strict=True):
        # Left of the picture is the patient's right: radiological convention.
        axes.imshow(image.T[:, ::-1], origin="lower", **style)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        if titled:
            axes.set_title(title, fontsize=8)
    panels[0].set_ylabel(caption, fontsize=8)
