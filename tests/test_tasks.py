"""Another structure than lesions: parts, words, and the how-to for a structure of one's own, followed literally."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from itertools import combinations
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import torch
from command import one_after_the_other
from hypothesis import given
from hypothesis import strategies as st

import veridice
from veridice import cli
from veridice.assessment.models import load_models
from veridice.config import LESION, InferenceSettings, load_task
from veridice.errors import ConfigError, InputError
from veridice.imaging.grid import grid_images, whole_grid
from veridice.imaging.volume import Geometry, Volume
from veridice.inference.passes import choose_backend, stochastic_passes
from veridice.inference.uncertainty import uncertainty_maps
from veridice.io.bids import MAPS, maps_of, read_assessment
from veridice.io.nifti import read_image
from veridice.io.weight_cards import bundled_weights
from veridice.metrics.overlap import dice
from veridice.metrics.parts import label_map, masks_from_probabilities, mean_numbers
from veridice.networks.losses import SegmentationLoss
from veridice.quality import predictor
from veridice.quality.recalibrate import _measured_dice
from veridice.review.studied import open_study
from veridice.training.settings import load_training_settings

PAGE = Path(__file__).parents[1] / "docs/how-to/your-own-structure.md"
BLOCK = re.compile(r"^```(bash|toml|csv)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHAPE = (18, 22, 16)
TINY = {"grid": 16, "features": 2, "depth": 3, "steps": 4, "validate_every": 2, "masks": 3, "graded_masks": 2, "stem": 1}


# What a task is


def test_lesions_are_the_task_that_nobody_names() -> None:
    assert load_task("lesion") == LESION
    assert maps_of(LESION) is MAPS


def test_names_of_maps_differ_and_say_what_they_are_of() -> None:
    task = load_task("hippocampus")
    files = [file for file, _, _ in maps_of(task).values()]
    assert len(set(files)) == len(files) == len(MAPS)
    assert task.own_mask in maps_of(task) and not any("lesion_" in file for file in files)


def test_sentences_change_their_words_and_no_file_does() -> None:
    task = load_task("hippocampus")
    assert task.say("the lesions lie outside the FLAIR.") == "the hippocampus lie outside the T1w."
    assert task.say("the FLAIR's grid, a lesion") == "the T1w's grid, a hippocampus"
    name = "/data/FLAIR/lesions/sub-1_FLAIR.nii.gz: sub-1_label-lesion_mask.nii is not a mask"
    assert task.say(name) == name


def test_images_are_asked_for_by_name() -> None:
    task = load_task("hippocampus")
    assert task.take(flair=None, t1="a") == ("a", None)
    with pytest.raises(InputError, match="needs a T1w: give --t1"):
        task.take(flair=None, t1=None)
    with pytest.raises(InputError, match="takes no FLAIR"):
        task.take(flair="b", t1="a")
    assert LESION.take(flair="a", t1="b") == ("a", "b") and LESION.take(flair="a", t1=None) == ("a", None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name = 'x'\ntarget = 'x'\ncontrasts = []", "contrasts"),
        ("name = '../x'\ntarget = 'x'", "field 'name'"),
        ("name = 'x'\ntarget = '<b>'", "field 'target'"),
        ("name = 'x'\ntarget = 'x'\ncontrasts = ['t1', 't1']", "must differ"),
        ("name = 'x'\ntarget = 'x'\nparts = {a = 1, b = 1}", "must differ"),
        ("name = 'x'\ntarget = 'x'\nparts = {a = 0}", "field 'parts"),
        ("name = 'x'\ntarget = 'x'\nlabel = 3", "field 'label'"),
    ],
)
def test_a_task_that_is_none_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_task(str(tmp_path / "x.toml"))


def test_a_task_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ConfigError, match="brain, hippocampus, lesion"):
        load_task("liver")


# Parts


def test_maps_of_parts_are_those_of_each_part_alone() -> None:
    samples = torch.rand(5, 2, 8, 8, 8, generator=torch.Generator().manual_seed(0))
    both = uncertainty_maps(iter(samples))
    for number, part in enumerate(both.parts()):
        alone = uncertainty_maps(iter(samples[:, number]))
        for name, map_ in vars(alone).items():
            np.testing.assert_array_equal(getattr(part, name), map_)
        assert alone.parts() == (alone,) and alone.together() is alone
    whole = both.together()
    np.testing.assert_array_equal(whole.mean, samples.mean(dim=0).numpy().max(axis=0).clip(0, 1))
    union = np.unpackbits(whole.sample_masks, axis=1).reshape(5, 8, 8, 8)
    np.testing.assert_array_equal(union, (samples >= 0.5).any(dim=1).numpy())


@given(st.integers(1, 4), st.integers(0, 99))
def test_parts_exclude_one_another_and_miss_nothing(count: int, seed: int) -> None:
    probabilities = list(np.random.default_rng(seed).random((count, 4, 5, 6)))
    parts = masks_from_probabilities(probabilities)
    assert np.sum(parts, axis=0).max() <= 1
    np.testing.assert_array_equal(np.any(parts, axis=0), np.max(probabilities, axis=0) >= 0.5)
    for number, part in enumerate(parts):
        assert (probabilities[number][part] == np.max(probabilities, axis=0)[part]).all()


def test_labels_are_those_of_the_task() -> None:
    task = load_task("hippocampus").model_copy(update={"parts": {"a": 3, "b": 9}})
    first, second = np.zeros((2, 2, 2, 2), bool)
    first[0], second[1, 0] = True, True
    assert np.unique(label_map([first, second], task)).tolist() == [0, 3, 9]
    assert label_map([first], LESION) is first


def test_a_mean_leaves_out_what_is_not_there() -> None:
    parts = [{"a": 1.0, "b": None, "c": np.nan}, {"a": 2.0, "b": 4.0, "c": None}]
    assert mean_numbers(parts) == {"a": 1.5, "b": 4.0, "c": None}
    assert mean_numbers(parts[:1]) == {"a": 1.0, "b": None, "c": None}


def test_the_loss_of_parts_is_the_mean_of_their_losses() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 4, 4, 4, generator=generator)
    target = (torch.rand(2, 2, 4, 4, 4, generator=generator) > 0.7).float()
    ignore = (torch.rand(2, 1, 4, 4, 4, generator=generator) > 0.8).float()
    loss = SegmentationLoss(1.0, batch_dice=True)
    each = [float(loss(logits[:, n : n + 1], target[:, n : n + 1], ignore)) for n in (0, 1)]
    assert float(loss(logits, target, ignore)) == pytest.approx(np.mean(each), rel=1e-5)


def test_a_crop_comes_to_the_cube_whole_and_back() -> None:
    affine = np.diag([-1.0, 1.5, 2.0, 1.0])
    volume = Volume(np.random.default_rng(0).random((10, 12, 7)).astype(np.float32), Geometry((10, 12, 7), affine))
    transform = whole_grid(volume, (20, 24, 14))
    back = transform.to_native(transform.to_grid(volume.voxels))
    assert transform.box == ((0, 10), (0, 12), (0, 7))
    assert np.abs(back - volume.voxels)[2:-2, 2:-2, 2:-2].mean() < 0.15


# A structure of one's own


def blobs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A crop in which a bright ball and a dark one lie side by side, and their labels."""
    rng = np.random.default_rng(seed)
    place = np.stack(np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij")).T
    middle = np.array(SHAPE) / 2 + rng.uniform(-1, 1, 3)
    left, right = (((place - middle - [0, side, 0]) ** 2).sum(axis=-1).T < 14 for side in (-4, 4))
    image = 300 + 20 * rng.standard_normal(SHAPE) + 200 * left - 150 * right
    return image.astype(np.float32), (left + 2 * right).astype(np.uint8)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of ten people in which the how-to was followed up to its first judgement."""
    folder = tmp_path_factory.mktemp("putamen")
    rows = ["id,patient,split,t1,mask"]
    for name in ("images", "masks"):
        (folder / name).mkdir()
    for number in range(1, 11):
        name = f"p{number:03}"
        for kind, voxels in zip(("images", "masks"), blobs(number), strict=True):
            nib.save(nib.Nifti1Image(voxels, np.diag([-1.0, 1, 1, 1])), folder / kind / f"{name}.nii.gz")
        rows.append(f"{name},{name},{'validation' if number % 3 == 2 else 'train'},images/{name}.nii.gz,masks/{name}.nii.gz")
    (folder / "people.csv").write_text("\n".join(rows) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(predictor, "TREES", 3)
        patch.setitem(predictor.PERCEPTRON, "max_iter", 2)
        write_settings(folder)
        give_commands("veridice train")
    return folder


@pytest.fixture
def people(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it that a test may spoil; its working folder."""
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def blocks(language: str) -> list[str]:
    return [text for kind, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")) if kind == language]


def write_settings(folder: Path) -> None:
    """The files of the page, with tiny networks."""
    names = ("putamen.toml", "putamen-training.toml", "putamen-experiment.toml")
    for name, text in zip(names, blocks("toml"), strict=True):
        for field, value in TINY.items():
            text = re.sub(rf"^({field}) = .*$", rf"\1 = {value}", text, flags=re.MULTILINE)
        text = re.sub(r"^(\w+_steps) = .*$", r"\1 = 2", text, flags=re.MULTILINE)
        # Processes of their own would take longer than all they do.
        text = re.sub(r"^(\[(?:segmenter|reconstructor|regressor)\])$", r"\1\nworkers = 0", text, flags=re.MULTILINE)
        (folder / name).write_text(text)


def give_commands(beginning: str) -> None:
    """Those of the page that begin so."""
    lines = [line for text in blocks("bash") for line in text.splitlines() if line.startswith(beginning)]
    assert lines
    for line in lines:
        passes = ["--passes=2"] if beginning == "veridice check" else []
        assert cli.run([*shlex.split(line)[1:], *passes]) == 0, line


def test_the_how_to_followed_literally(people: Path, capsys: pytest.CaptureFixture[str]) -> None:
    give_commands("veridice check")
    own = json.loads((people / "own" / "sub-p001_veridice.json").read_text())
    assert own["task"]["name"] == "putamen" and own["decided_by"] and not own["quality_class"]
    assert {"judged_left", "judged_right"} <= set(own["volumes_ml"]) and "brain" not in own["volumes_ml"]
    assert own["maps"]["putamen_mask"] == "sub-p001_label-putamen_dseg.nii.gz" and not own["tables"]
    labels = np.unique(np.asarray(nib.load(people / "own" / own["maps"]["putamen_mask"]).dataobj))
    assert set(labels.tolist()) <= {0, 1, 2}
    html = (people / "given" / "sub-p001_report.html").read_text()
    assert "lesion" not in re.sub(r'name="reason" value="[^"]*"|#[0-9a-f]+', "", html.split("<h1>")[1].split("<script>")[0])
    assert "FLAIR" not in html.split("<h1>")[1].split("<script>")[0]
    given = np.asarray(nib.load(people / "given" / "sub-p001_label-putamen_desc-input_dseg.nii.gz").dataobj)
    np.testing.assert_array_equal(given, blobs(1)[1])
    capsys.readouterr()
    common = ["--task=putamen.toml", "--weights=runs/putamen/weights", "--passes=2", "-o", "wrong"]
    nib.save(nib.Nifti1Image(3 * blobs(1)[1], np.diag([-1.0, 1, 1, 1])), people / "other.nii.gz")
    assert cli.run(["check", "--t1=images/p001.nii.gz", "--mask=other.nii.gz", *common]) == 3
    assert "a mask for this task has 0, 1 left, 2 right" in capsys.readouterr().err
    assert cli.run(["check", "--flair=images/p001.nii.gz", *common]) == 2
    assert not (people / "wrong").exists()
    assert cli.run(["check", "--t1=images/p001.nii.gz", "--task=putamen.toml", "-o", "wrong"]) == 3
    assert "no weights ship for task 'putamen'" in capsys.readouterr().err
    other = ["--task=hippocampus", "--weights=runs/putamen/weights", "-o", "wrong"]
    assert cli.run(["check", "--t1=images/p001.nii.gz", *other]) == 3
    assert "for task 'putamen', not for 'hippocampus'" in capsys.readouterr().err
    # A promise of one's own: the true Dice of a label map is the mean of its parts'.
    rows = [{"assessment": "given/sub-p001_veridice.json", "truth": "masks/p001.nii.gz"}]
    known = _measured_dice(
        people / "t.csv", people / rows[0]["assessment"], rows[0], read_assessment(people / rows[0]["assessment"])
    )
    assert known == 1.0


def test_scores_are_the_means_of_the_parts(people: Path) -> None:
    """The agreement of the passes, pair by pair and part by part, and the entropy in the mask."""
    task = load_task("putamen.toml")
    assert load_training_settings("putamen-training.toml").data.task == task
    models, asked = load_models(people / "runs/putamen/weights", task=task), InferenceSettings(passes=3, precision="fp32")
    result = veridice.check(t1="images/p002.nii.gz", models=models, task="putamen.toml", settings=asked)
    image = read_image(Path("images/p002.nii.gz"))
    images = grid_images(image, None, whole_grid(image, (16, 16, 16)))
    passes = stochastic_passes(models.segmenter, images, choose_backend(asked), 3, asked.seed)
    masks = np.unpackbits(passes.sample_masks, axis=1).reshape(3, 2, 16, 16, 16).astype(bool)
    each = [np.mean([dice(a[n], b[n]).dice for a, b in combinations(masks, 2)]) for n in (0, 1)]
    scores = result.assessment.scores
    assert scores["pairwise_dice"] == pytest.approx(np.mean(each))
    entropies = [e[m >= 0.5].mean() for e, m in zip(passes.entropy, passes.mean, strict=True) if (m >= 0.5).any()]
    assert scores["mean_foreground_entropy"] == (pytest.approx(np.mean(entropies), rel=1e-5) if entropies else None)


def test_a_study_of_another_structure(people: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BIDS in, another tool's label maps judged, table and page out; nothing of lesions in either."""
    monkeypatch.setattr("veridice.parallel.in_processes", one_after_the_other)
    for number in (1, 2):
        for folder, suffix in (("images", "T1w"), ("masks", "label-putamen_dseg")):
            place = people / "study" / ("derivatives/tool" if folder == "masks" else "") / f"sub-{number:02}" / "anat"
            place.mkdir(parents=True)
            shutil.copy(people / folder / f"p{number:03}.nii.gz", place / f"sub-{number:02}_{suffix}.nii.gz")
    common = ["--skip-bids-validation", "--task=putamen.toml", "--weights=runs/putamen/weights"]
    masks = ["--masks=derivatives/tool", "--passes=2", "--n-jobs=1"]
    assert cli.run(["run", "study", "out", "participant", *common, *masks]) == 0
    assert cli.run(["run", "study", "out", "group", *common]) == 0
    table = pd.read_csv("out/veridice.tsv", sep="\t").set_index("scan")
    assert list(table.index) == ["sub-01", "sub-02"] or list(table.index) == ["sub-02", "sub-01"]
    for number in (1, 2):
        volume = float((blobs(number)[1] > 0).sum()) / 1000
        assert table.loc[f"sub-{number:02}", "lesion_volume_ml"] == pytest.approx(volume)
    assert "Which putamen masks need a look?" in Path("out/report.html").read_text()
    with pytest.raises(InputError, match="a study of the putamen"):
        open_study(Path("out"), Path("study"))


def test_the_hippocampus_that_ships(tmp_path: Path) -> None:
    """Its weights are intact, small and cited; an image that is none is told as unknown, and no mask of it is accepted."""
    folder = bundled_weights("hippocampus")
    assert sum(file.stat().st_size for file in folder.iterdir()) < 6_000_000
    assert cli.run(["models", "--task=hippocampus", "--verify"]) == 0 and "Simpson" in load_task("hippocampus").cite
    noise = np.random.default_rng(0).random((34, 48, 36)).astype(np.float32)
    nib.save(nib.Nifti1Image(noise, np.eye(4)), tmp_path / "noise.nii.gz")
    result = veridice.check(t1=tmp_path / "noise.nii.gz", task="hippocampus", settings=InferenceSettings(passes=2))
    assert result.verdict != "accept" and "unknown_scan" in result.assessment.warning_codes
    assert not any("brain" in warning or "FLAIR" in warning for warning in result.warnings)


@pytest.mark.slow
def test_the_experiment_of_the_how_to(people: Path) -> None:
    give_commands("veridice experiment")
    ladder = pd.read_csv(people / "runs/putamen-experiment/results/ladder.csv").set_index("method")
    assert {"pairwise_dice", "volume", "regressor_error", "reverse_classification"} <= set(ladder.index)
