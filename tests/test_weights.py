"""Weights are loaded only when they are what their card says."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path

import pytest
import torch

from veridice.errors import WeightsError
from veridice.networks.weights import load_network, read_card, save_network


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
    with pytest.raises(WeightsError, match="not weights of a segmenter"):
        load_network(tiny_weights, "segmenter")


def test_weights_of_another_width_are_refused(tiny_weights: Path) -> None:
    edit_card(tiny_weights, "segmenter", arguments={"features": 3, "depth": 3})
    with pytest.raises(WeightsError, match="not weights of a segmenter"):
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
