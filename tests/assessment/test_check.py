"""One call for a notebook: paths, images or volumes in, one result out; the command line asks the same function."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

import veridice
from veridice import cli
from veridice.assessment.models import Models
from veridice.config import InferenceSettings
from veridice.io.nifti import read_image

SETTINGS = InferenceSettings(passes=2)


@pytest.fixture
def models(tiny_weights: Path) -> Models:
    return veridice.load_models(tiny_weights)


@pytest.mark.parametrize("kind", ["path", "text", "image", "volume"])
def test_every_kind_of_source_gives_the_same_answer(kind: str, scan_files: dict[str, Path], models: Models) -> None:
    given = {
        "path": lambda path: path,
        "text": str,
        "image": nib.load,
        "volume": read_image,
    }[kind]
    flair, t1, mask = (given(scan_files[name]) for name in ("flair", "t1", "mask"))
    result = veridice.check(flair, t1=t1, mask=mask, models=models, settings=SETTINGS)
    plain = veridice.check(scan_files["flair"], scan_files["t1"], scan_files["mask"], models=models, settings=SETTINGS)
    assert result.predicted_dice == plain.predicted_dice
    assert (result.verdict, result.interval) == (plain.verdict, plain.interval)
    np.testing.assert_array_equal(result.volumes["input_mask"].voxels, plain.volumes["input_mask"].voxels)


def test_what_a_result_holds(scan_files: dict[str, Path], models: Models) -> None:
    result = veridice.check(scan_files["flair"], mask=scan_files["mask"], models=models, settings=SETTINGS)
    entropy = result.maps["entropy"]
    assert isinstance(entropy, nib.Nifti1Image) and entropy.shape == nib.load(scan_files["flair"]).shape
    assert result.maps["input_mask"].get_data_dtype() == np.uint8
    assert set(result.lesions["place"]) <= {"mask", "missed"}
    assert len(result.lesions) == len(result.found) + len(result.missed)
    assert any("no T1w" in warning for warning in result.warnings)
    assert result.assessment.maps == {} and not scan_files["output"].exists()


def test_a_notebook_shows_names_as_text(scan_files: dict[str, Path], models: Models) -> None:
    name = "<img src=x onerror=alert(1)>"
    page = veridice.check(scan_files["flair"], models=models, settings=SETTINGS, case=name)._repr_html_()
    assert "&lt;img src=x" in page and "<img src=x" not in page
    assert "data:image/png;base64," in page and "Predicted Dice" in page


def test_the_command_line_writes_what_the_call_writes(
    scan_files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = veridice.check(
        scan_files["flair"],
        scan_files["t1"],
        [scan_files["mask"]],
        output=tmp_path / "called",
        models=scan_files["weights"],
        settings=SETTINGS,
    )
    assert cli.run(["check", "--json", "--passes=2", *[f"--{name}={path}" for name, path in scan_files.items()]]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["predicted_dice"] == result.predicted_dice
    names = [sorted(path.name for path in folder.iterdir()) for folder in (tmp_path / "called", scan_files["output"])]
    assert names[0] == names[1]
    assert set(result.assessment.maps) == set(said["maps"])


def test_what_is_no_image_is_said_of_its_name(scan_files: dict[str, Path], models: Models) -> None:
    with pytest.raises(veridice.VeridiceError, match=r"^t1: is list, not an image"):
        veridice.check(scan_files["flair"], t1=[1, 2], models=models)  # type: ignore[arg-type]
    empty = nib.Nifti1Image(np.zeros((20, 20, 20), np.float32), np.eye(4))
    with pytest.raises(veridice.VeridiceError, match=r"^flair\.nii: every voxel is 0"):
        veridice.check(empty, models=models)
