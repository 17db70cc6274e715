"""Weights are loaded only when they are what their card says."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch

from veridice.errors import WeightsError
from veridice.inference.weights import load_network, save_network
from veridice.io.weight_cards import read_card, verify


def edit_card(folder: Path, name: str, /, **changes: object) -> None:
    path = folder / f"{name}.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_round_trip_keeps_weights_to_half_precision(tiny_weights: Path, tmp_path: Path) -> None:
    network, card = load_network(tiny_weights, "segmenter")
    assert not network.training
    save_network(tmp_path / "again", network, card.model_dump(exclude={"sha256"}))
    again, _ = load_network(tmp_path / "again", "segmenter")
    for first, second in zip(network.parameters(), again.parameters(), strict=True):
        assert first.dtype == torch.float32
        assert torch.equal(first, second)


def test_one_flipped_bit_is_noticed(tiny_weights: Path) -> None:
    path = tiny_weights / "segmenter.safetensors"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="damaged or altered"):
        load_network(tiny_weights, "segmenter")


def test_a_pickle_is_never_opened(tiny_weights: Path) -> None:
    content = pickle.dumps({"a": 1})
    (tiny_weights / "segmenter.safetensors").write_bytes(content)
    edit_card(tiny_weights, "segmenter", sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(WeightsError, match="not weights of this kind, segmenter"):
        load_network(tiny_weights, "segmenter")


def test_weights_of_another_width_are_refused(tiny_weights: Path) -> None:
    edit_card(tiny_weights, "segmenter", arguments={"features": 3, "depth": 3})
    with pytest.raises(WeightsError, match="not weights of this kind, segmenter"):
        load_network(tiny_weights, "segmenter")


@pytest.mark.parametrize(
    "changes", [{"name": "reconstructor"}, {"kind": "regressor"}, {"unknown": 1}, {"kind": "nonsense"}, {"sha256": None}]
)
def test_a_wrong_card_is_refused(tiny_weights: Path, changes: dict[str, object]) -> None:
    edit_card(tiny_weights, "segmenter", **changes)
    with pytest.raises(WeightsError, match="card"):
        read_card(tiny_weights, "segmenter")


def test_a_missing_card_or_file_is_named(tiny_weights: Path) -> None:
    (tiny_weights / "segmenter.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"segmenter\.safetensors: no such weights"):
        load_network(tiny_weights, "segmenter")
    with pytest.raises(WeightsError, match=r"nothing\.json: no such weight card"):
        read_card(tiny_weights, "nothing")


class Trap:
    """What a malicious pickle does when it is opened."""

    def __init__(self, sprung: Path) -> None:
        self.sprung = sprung

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.sprung,)


def test_code_in_a_pickle_does_not_run(tiny_weights: Path, tmp_path: Path) -> None:
    torch.save({"a": Trap(tmp_path / "sprung")}, tiny_weights / "segmenter.safetensors")
    content = (tiny_weights / "segmenter.safetensors").read_bytes()
    edit_card(tiny_weights, "segmenter", sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(WeightsError, match="not weights of this kind, segmenter"):
        load_network(tiny_weights, "segmenter")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    "arguments", [{"features": "x"}, {"features": 2, "depth": 2}, {"colour": 1}, {"features": 2, "depth": 4}]
)
def test_arguments_that_build_no_such_network_are_refused(tiny_weights: Path, arguments: dict[str, object]) -> None:
    edit_card(tiny_weights, "segmenter", arguments=arguments)
    with pytest.raises(WeightsError, match="not weights of this kind, segmenter") as caught:
        load_network(tiny_weights, "segmenter")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00"])
def test_a_damaged_card_is_refused(tiny_weights: Path, content: bytes) -> None:
    (tiny_weights / "segmenter.json").write_bytes(content)
    with pytest.raises(WeightsError, match=r"segmenter\.json"):
        read_card(tiny_weights, "segmenter")


def test_verify_sees_every_changed_byte(tiny_weights: Path) -> None:
    path = tiny_weights / "regressor-error.safetensors"
    content = path.read_bytes()
    assert verify(tiny_weights, "regressor-error").sha256 == hashlib.sha256(content).hexdigest()
    for place in (0, len(content) // 3, len(content) - 1):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(WeightsError, match="damaged or altered"):
            verify(tiny_weights, "regressor-error")


def test_batch_statistics_are_stored_too(tiny_weights: Path, tmp_path: Path) -> None:
    network, card = load_network(tiny_weights, "regressor-error")
    network.train()(torch.rand(2, 2, 8, 8, 8))
    save_network(tmp_path / "again", network, card.model_dump(exclude={"sha256"}))
    again, _ = load_network(tmp_path / "again", "regressor-error")
    expected = network.state_dict()
    for name, value in again.state_dict().items():
        assert value.dtype == expected[name].dtype
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5)
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == [
        "regressor-error.json",
        "regressor-error.safetensors",
    ]
