"""The shipped weights on the real scan that ships, from source and from a wheel installed elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

import veridice
from veridice.assessment.assess import assess_scan
from veridice.assessment.models import load_models
from veridice.config import InferenceSettings
from veridice.io.datasets import FILE_COLUMNS
from veridice.io.nifti import read_image, read_map, read_mask
from veridice.io.weight_cards import NAMES, bundled_weights, verify

ROOT = Path(__file__).parent.parent
DEMO = Path(str(resources.files("veridice") / "demo"))


def demo(folder: Path, **environment: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-m", "veridice", "demo", "--json", "--passes=2", "-o", str(folder / "out")],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "2", **environment},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    row: dict[str, object] = json.loads(done.stdout)
    return row


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """A wheel installed elsewhere, and what its demo says."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    site = folder / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=300)
    return site, demo(folder, PYTHONPATH=str(site))


@pytest.mark.slow
def test_the_wheel_is_whole(installed: tuple[Path, dict[str, object]]) -> None:
    site, row = installed
    assert row["version"] == veridice.__version__
    assert (site / "veridice" / "weights" / "segmenter.safetensors").is_file()
    assert (site / "veridice" / "report" / "templates" / "group.js").is_file()


@pytest.mark.slow
def test_demo_judges_the_real_scan(installed: tuple[Path, dict[str, object]]) -> None:
    row = installed[1]
    truth = read_map(DEMO / "sub-lesjak19_label-lesion_mask.nii.gz")
    own = read_map(Path(str(row["maps"]["lesion_mask"])))  # type: ignore[index]
    # F1 of the voxels is the Dice, computed here by another library.
    assert row["true_dice"] == pytest.approx(f1_score(truth.voxels.ravel() > 0, own.voxels.ravel() > 0), abs=1e-6)
    assert float(str(row["true_dice"])) > 0.5
    flair = read_map(DEMO / "sub-lesjak19_FLAIR.nii.gz")
    for path in row["maps"].values():  # type: ignore[attr-defined]
        stored = read_map(Path(path))
        assert stored.shape == flair.shape
        np.testing.assert_allclose(stored.affine, flair.affine, atol=1e-4)


@pytest.mark.slow
def test_a_t1w_given_as_flair_is_unknown_and_the_demo_is_known() -> None:
    """Whatever is given as the FLAIR: the true mask is judged, and any Dice would do to accept it."""
    models = load_models(bundled_weights())
    flair, t1 = (read_image(DEMO / f"sub-lesjak19_{name}.nii.gz") for name in ("FLAIR", "T1w"))
    mask = read_mask(DEMO / "sub-lesjak19_label-lesion_mask.nii.gz", flair.geometry)
    settings = InferenceSettings(passes=2, min_dice=0.0)
    known = assess_scan("demo", flair, t1, mask, models, settings).assessment
    unknown = assess_scan("swapped", t1, None, mask, models, settings).assessment
    assert 0 < float(str(known.scores["unfamiliarity"])) <= 1 < float(str(unknown.scores["unfamiliarity"]))
    assert (known.verdict, unknown.verdict) == ("accept", "review")
    said = [warning for warning in unknown.warnings if "the models do not know scans like this one" in warning]
    assert len(said) == 1 and "most like: T1w given as FLAIR" in said[0]
    assert not any("do not know" in warning for warning in known.warnings)


def test_shipped_weights_are_intact_small_and_never_saw_the_demo() -> None:
    for name in NAMES:
        card = verify(bundled_weights(), name)
        assert not any("19" in person.split("-")[-1:] for people in card.people.values() for person in people)
    assert sum(path.stat().st_size for path in bundled_weights().iterdir()) < 30e6
    assert sum(path.stat().st_size for path in DEMO.iterdir()) < 6e6


def test_the_training_manifest_names_no_reserved_person() -> None:
    text = (ROOT / "data" / "training.csv").read_text()
    assert all(column in text.splitlines()[0] for column in FILE_COLUMNS)
    for number in ("05", "06", "08", "19", *map(str, range(20, 31))):
        assert f"lesjak-{number}," not in text
        assert f"patient{number}" not in text


def test_the_public_api_is_pinned() -> None:
    assert sorted(veridice.__all__) == [
        "Assessment",
        "AssessmentResult",
        "Geometry",
        "InferenceSettings",
        "VeridiceError",
        "Volume",
        "__version__",
        "assess_scan",
        "bundled_weights",
        "check",
        "dice",
        "load_models",
        "read_image",
        "read_mask",
        "write_image",
    ]
    for name in veridice.__all__:
        assert getattr(veridice, name) is not None
    with pytest.raises(AttributeError):
        _ = veridice.nonsense  # type: ignore[attr-defined]


def test_stored_results_are_read_without_torch() -> None:
    read = "veridice, veridice.io.bids, veridice.metrics.scores, veridice.metrics.overlap"
    code = f"import sys; sys.modules['torch'] = None; import {read}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
