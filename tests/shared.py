"""Tiny scans and weights that several tests share."""

from __future__ import annotations

import gc
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import typer.main
from hypothesis import settings
from scipy import ndimage

from veridice.assessment import models
from veridice.config import LESION, Task
from veridice.imaging.tissue import Tissue
from veridice.imaging.volume import Geometry, Volume
from veridice.inference.weights import save_network
from veridice.io.nifti import write_image
from veridice.io.weight_cards import bundled_weights
from veridice.networks.critic_unet import CriticUnet
from veridice.networks.mc_unet import McUnet
from veridice.networks.reconstruction_unet import ReconstructionUnet
from veridice.networks.regression_net import RegressionNet
from veridice.quality import predictor
from veridice.quality.calibration import CalibrationSet
from veridice.quality.image_features import DESCRIPTORS
from veridice.quality.model import QualityModel, save_quality_model
from veridice.quality.ood import fit_ood_detector
from veridice.quality.predictor import FEATURES
from veridice.quality.single_lesions import LesionModel

GRID = 16

# What libraries and tests make when they are imported stays; the collector need not look through it again and again.
gc.disable()

# A slow machine is no failure; CI tries the same examples every time, people try new ones.
settings.register_profile("veridice", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("veridice")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest begins first, so that at the end no worker waits for another."""
    items.sort(key=lambda item: item.path.name != "test_end_to_end.py")


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Models with random weights are the same in every run."""
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _loaded_once() -> Iterator[None]:
    """Commands called in this process load and compile the same weights once; another content is loaded anew."""
    load, kept = models.load_models, dict[tuple[bool, str, str], models.Models]()

    def load_once(folder: Path | None = None, with_quality: bool = True, task: Task = LESION) -> models.Models:
        content = hashlib.sha256()
        for file in sorted((folder or bundled_weights(task.name)).glob("*.*")):
            content.update(file.name.encode() + file.read_bytes())
        key = (with_quality, task.name, content.hexdigest())
        if key not in kept:
            loaded = load(folder, with_quality, task)
            kept[key] = loaded
        return kept[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load_models", load_once)
        # Typer reads the annotations of all commands anew with each call.
        patch.setattr(typer.main, "get_command", cache(typer.main.get_command))
        yield


@pytest.fixture(scope="session")
def tiny_weights_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_weights(tmp_path_factory.mktemp("weights"))


def make_tiny_weights(folder: Path) -> Path:
    """Fill a folder with all networks, tiny, with random weights."""
    card = {
        "grid": GRID,
        "configuration": "tiny",
        "data": "nothing: random weights",
        "people": {},
        "steps": 0,
        "best_step": 0,
        "seed": 0,
        "commit": "none",
        "created": "2026-01-01",
        "metrics": {"dice": 0.0},
        "version": "0",
    }
    torch.manual_seed(0)
    unet = {"features": 2, "depth": 3}
    coarse = {**card, "name": "brain", "kind": "brain", "arguments": unet, "grid": GRID // 2}
    save_network(folder, McUnet(**unet), coarse)
    anatomy = {"name": "anatomy", "kind": "anatomy", "arguments": {**unet, "classes": len(Tissue)}, "grid": GRID // 2}
    save_network(folder, McUnet(**unet, classes=len(Tissue)), {**card, **anatomy})
    save_network(folder, McUnet(**unet), {"name": "segmenter", "kind": "segmenter", "arguments": unet, **card})
    critic = {"name": "critic", "kind": "critic", "arguments": unet}
    save_network(folder, CriticUnet(**unet), {**card, **critic})
    save_network(
        folder, ReconstructionUnet(**unet), {"name": "reconstructor", "kind": "reconstructor", "arguments": unet, **card}
    )
    for pair, channels in (("image", 3), ("uncertainty", 2), ("error", 2)):
        arguments = {"in_channels": channels, "widths": [2, 4]}
        network = RegressionNet(channels, (2, 4))
        save_network(folder, network, {"name": f"regressor-{pair}", "kind": "regressor", "arguments": arguments, **card})
    save_quality_model(folder, tiny_judge(), card)
    return folder


def tiny_judge() -> QualityModel:
    """Knows nothing, but has an answer to everything."""
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(rng.random((24, len(FEATURES))), columns=list(FEATURES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predictor, "TREES", 3)
        patch.setattr(predictor, "PERCEPTRONS", 1)
        patch.setitem(predictor.PERCEPTRON, "max_iter", 2)
        fitted = predictor.fit_predictor(rows.assign(dice=rows["agreement_mean"], person=[f"p{n}" for n in range(24)]))
    descriptors = [dict(zip(DESCRIPTORS, rng.normal(size=len(DESCRIPTORS)), strict=True)) for _ in range(24)]
    ood = fit_ood_detector(descriptors, list(rng.random((24, 8))), [f"p{n}" for n in range(24)])
    dice, spread = fitted.predict(rows)
    columns = {"predicted": tuple(dice), "spread": tuple(spread), "dice": tuple(rows["agreement_mean"])}
    calibration = CalibrationSet(source="random numbers", simulated=True, patients=24, **columns)
    return QualityModel(fitted, LesionModel(0.0, (1.0, 0.0, 0.0, 0.0, 0.0)), ood, calibration)


@pytest.fixture
def tiny_weights(tiny_weights_once: Path, tmp_path: Path) -> Path:
    """Folder of all five networks, tiny, with random weights; a copy that a test may spoil."""
    folder = tmp_path / "weights"
    shutil.copytree(tiny_weights_once, folder)
    return folder


@pytest.fixture(scope="session")
def tiny_scan_once() -> dict[str, Volume]:
    """An oblique, anisotropic, flipped pair of FLAIR and T1w with a bright lesion, float32."""
    shape = (26, 31, 17)
    angle = 0.2
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-5.0, 4.5, 7.0])
    affine[:3, 3] = (60, -70, -50)
    geometry = Geometry(shape, affine)
    rng = np.random.default_rng(3)
    place = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    radius = np.sqrt((place**2).sum(axis=0))
    head = radius < 0.85
    flair = np.where(head, 500 + 40 * rng.standard_normal(shape), 0)
    flair[12:16, 10:14, 8:10] = 900
    t1 = np.where(head, 300 + 500 * (0.85 - radius) + 20 * rng.standard_normal(shape), 0)
    flair, t1 = (ndimage.gaussian_filter(image, 0.4).astype(np.float32) * head for image in (flair, t1))
    return {"flair": Volume(flair.astype(np.float32), geometry), "t1": Volume(t1.astype(np.float32), geometry)}


@pytest.fixture
def tiny_scan(tiny_scan_once: dict[str, Volume]) -> dict[str, Volume]:
    """The same, in a dictionary that a test may change."""
    return dict(tiny_scan_once)


@pytest.fixture
def scan_files(tiny_scan: dict[str, Volume], tiny_weights: Path, tmp_path: Path) -> dict[str, Path]:
    """The tiny scan and a mask of its lesion as files, tiny weights, and an output folder that is not there yet."""
    folder = tmp_path / "input"
    folder.mkdir()
    mask = tiny_scan["flair"].with_voxels(tiny_scan["flair"].voxels > 750)
    files = {}
    for name, volume in {**tiny_scan, "mask": mask}.items():
        files[name] = folder / f"{name}.nii.gz"
        write_image(files[name], volume)
    files["flair"] = files["flair"].rename(folder / "sub-1_flair.nii.gz")
    return {**files, "weights": tiny_weights, "output": tmp_path / "out"}


TINY_CONFIG = """
name = "tiny"
[data]
grid = 16
simulated_patients = 0
simulated_validation = 0
artefact = 0.5
CUBES
[segmenter]
features = 2
depth = 3
steps = 4
crop = 8
validate_every = 2
workers = 0
[reconstructor]
features = 2
depth = 3
steps = 2
crop = 12
validate_every = 2
workers = 0
[regressor]
widths = [2, 4]
steps = 2
batch_size = 2
crop = 0
passes = 2
train_cases = 4
validation_cases = 3
binary_fraction = 0.5
validate_every = 1
workers = 0
"""


FEDERATION = """
[federation]
name = "two"
training = "tiny.toml"
networks = ["segmenter"]
rounds = 3
steps = 2
min_dice = []

[site]
server = "localhost:9092"
authority = "tiny.toml"
key = "tiny.toml"
manifest = "manifest.csv"
data = "."
output = "site"
"""
"""A member of a federation that learns as TINY_CONFIG says, beside the files of :func:`study`."""


@pytest.fixture
def study(tiny_scan: dict[str, Volume], tmp_path: Path) -> Path:
    """A folder with two labelled scans and its manifest."""
    flair, t1 = tiny_scan["flair"], tiny_scan["t1"]
    ventricles = np.zeros(flair.shape, bool)
    ventricles[12:15, 18:21, 7:10] = True
    flair = flair.with_voxels(np.where(ventricles, 120, flair.voxels).astype(np.float32))
    for name, volume in {
        "flair": flair,
        "t1": t1,
        "mask": flair.with_voxels(flair.voxels > 750),
        "brain": flair.with_voxels(flair.voxels > 0),
        "ventricles": flair.with_voxels(ventricles),
    }.items():
        write_image(tmp_path / f"{name}.nii.gz", volume)
    rows = []
    for split in ("train", "validation"):
        scan = {"flair": "flair.nii.gz", "t1": "t1.nii.gz", "mask": "mask.nii.gz"}
        more = {"brain_mask": "brain.nii.gz", "ventricles": "ventricles.nii.gz"}
        rows.append({"id": f"scan-{split}", "patient": f"a-{split}", "split": split, **scan, **more})
    pd.DataFrame(rows).to_csv(tmp_path / "manifest.csv", index=False)
    (tmp_path / "tiny.toml").write_text(TINY_CONFIG.replace("CUBES", f'cubes = "{tmp_path / "cubes"}"'))
    return tmp_path


FLAGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install veridice[dev]")
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=found, args=[*FLAGS.split(), "--disable-sync"])
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens a page that must not complain; checked when the test ends."""
    complaints: list[str] = []
    contexts = []

    def open_page(path: Path, **settings: Any) -> Any:
        contexts.append(browser.new_context(**{"viewport": {"width": 1400, "height": 1000}, **settings}))
        page = contexts[-1].new_page()
        page.set_default_timeout(15_000)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("requestfailed", lambda request: complaints.append(request.url))
        page.on("dialog", lambda dialog: complaints.append(f"dialog {dialog.message}"))
        page.on(
            "request", lambda request: request.url.startswith(("file:", "data:", "blob:")) or complaints.append(request.url)
        )
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
