"""Settings are checked when they are read, and say which field is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from veridice.config import LARGEST_SEED, InferenceSettings, to_toml
from veridice.errors import ConfigError
from veridice.inference.passes import Backend, stochastic_passes
from veridice.networks.mc_unet import McUnet
from veridice.training.settings import (
    DataSettings,
    RegressorSettings,
    SegmenterSettings,
    StageSettings,
    TrainingSettings,
    load_training_settings,
    on_whole_cubes,
)


def written(folder: Path, text: str) -> str:
    path = folder / "c.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed = 1", "field 'name'"),
        ('name = "a"\ncolour = 1', "field 'colour'"),
        ('name = "a"\n[segmenter]\nsteps = 0', "field 'segmenter.steps'"),
        ('name = "a"\n[segmenter]\nwidth = 3', "field 'segmenter.width'"),
        ('name = "a"\n[segmenter]\ndropout_rate = 1.0', "field 'segmenter.dropout_rate'"),
        ('name = "a"\n[segmenter]\ndropout_kind = "voxel"', "field 'segmenter.dropout_kind'"),
        ('name = "a"\n[reconstructor]\nssim_form = "other"', "field 'reconstructor.ssim_form'"),
        ('name = "a"\n[regressor]\npasses = 1', "field 'regressor.passes'"),
        ('name = "a"\n[regressor]\ninputs = ["image", "sound"]', "field 'regressor.inputs.1'"),
        ('name = "a"\n[data]\ngrid = 8', "field 'data.grid'"),
        ('name = "a"\n[data]\nnoise = -0.1', "field 'data.noise'"),
        ('name = "a"\n[data]\nt1_absent = "often"', "field 'data.t1_absent'"),
        ("name = ", "not TOML"),
    ],
)
def test_a_wrong_file_is_told_by_name_and_field_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_training_settings(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(b'name = "\xff\xfe"')
    with pytest.raises(ConfigError, match=r"c\.toml"):
        load_training_settings(str(tmp_path / "c.toml"))


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="give a TOML file"):
        load_training_settings(str(tmp_path))


def test_what_is_left_out_takes_its_default(tmp_path: Path) -> None:
    read = load_training_settings(written(tmp_path, 'name = "a"\n[segmenter]\nsteps = 7'))
    assert read == TrainingSettings(name="a", segmenter=SegmenterSettings(steps=7))
    assert read.data == DataSettings()


shares = st.floats(0, 1)
some_data = st.builds(DataSettings, grid=st.integers(96, 300), noise=st.floats(0, 9), t1_absent=shares, manifest=st.text())
some_segmenter = st.builds(SegmenterSettings, steps=st.integers(1, 10**6), keep_at=st.lists(shares).map(tuple))
some_regressor = st.builds(
    RegressorSettings, widths=st.lists(st.integers(1, 99), min_size=1).map(tuple), huber_delta=st.floats(1e-6, 9)
)


@given(st.builds(TrainingSettings, name=st.text(), data=some_data, segmenter=some_segmenter, regressor=some_regressor))
@settings(deadline=None)
def test_settings_survive_toml(tmp_path_factory: pytest.TempPathFactory, drawn: TrainingSettings) -> None:
    folder = tmp_path_factory.getbasetemp()
    assert load_training_settings(written(folder, to_toml(drawn))) == drawn


@given(st.integers(1, 500), st.integers(1, 8), st.integers(1, 4))
def test_examples_are_counted_batch_by_batch(steps: int, batch: int, devices: int) -> None:
    stage = StageSettings(steps=steps, batch_size=batch, devices=devices)
    assert stage.examples == sum(batch * devices for _ in range(steps))


@pytest.mark.parametrize("network", ["segmenter", "reconstructor", "regressor"])
def test_whole_cubes_change_one_network_alone(network: str) -> None:
    before = load_training_settings("default")
    after = on_whole_cubes(before, network)
    stage = getattr(after, network)
    assert (stage.crop, stage.batch_size, stage.steps) == (0, 1, getattr(before, network).steps)
    assert stage.learning_rate < getattr(before, network).learning_rate
    assert after.model_copy(update={network: getattr(before, network)}) == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"passes": 1},
        {"min_dice": 1.01},
        {"min_dice": -0.01},
        {"device": "tpu"},
        {"precision": "fp16"},
        {"x": 1},
        {"seed": -1},
        {"seed": LARGEST_SEED + 1},
    ],
)
def test_wrong_inference_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        InferenceSettings(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", [0, LARGEST_SEED])
def test_every_seed_that_is_accepted_can_be_used(seed: int) -> None:
    accepted = InferenceSettings(passes=2, seed=seed)
    network, images = McUnet(features=1, depth=3), np.zeros((2, 8, 8, 8), np.float32)
    result = stochastic_passes(network, images, Backend("cpu", "fp32", 1), accepted.passes, accepted.seed)
    assert result.mean.shape == (8, 8, 8)
