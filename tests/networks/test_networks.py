"""The three networks: shapes, dropout, gradients, and the counts that the docs state."""

from __future__ import annotations

import copy
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from veridice.networks.blocks import stochastic_dropout
from veridice.networks.mc_unet import McUnet
from veridice.networks.reconstruction_unet import ReconstructionUnet
from veridice.networks.regression_net import RegressionNet

ROOT = Path(__file__).parents[2]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", [(16, 16, 16), (17, 20, 23)])
def test_unets_keep_the_shape(shape: tuple[int, int, int]) -> None:
    assert McUnet(features=2, depth=3)(torch.rand(1, 2, *shape)).shape == (1, 1, *shape)
    rebuilt = ReconstructionUnet(features=2, depth=3)(torch.rand(1, 1, *shape))
    assert rebuilt.shape == (1, 1, *shape)
    assert rebuilt.min() >= 0


@pytest.mark.parametrize("kind", ["channel", "element"])
def test_a_pass_is_a_function_of_image_and_seed(kind: str) -> None:
    network = McUnet(features=4, depth=3, dropout_kind=kind).eval()  # type: ignore[arg-type]
    image = torch.rand(1, 2, 16, 16, 16)
    first = network(image, seeded(1))
    torch.rand(5)
    assert torch.equal(first, network(image, seeded(1)))
    assert not torch.equal(first, network(image, seeded(2)))
    assert torch.equal(network(image), network(image))
    assert torch.equal(first, network.train()(image, seeded(1)))


def test_channel_dropout_drops_whole_channels() -> None:
    dropped = stochastic_dropout(torch.ones(2, 500, 2, 2, 2), 0.2, "channel", seeded(0))
    whole = dropped.flatten(2)
    assert ((whole == 0).all(dim=2) | (whole == 1.25).all(dim=2)).all()
    assert (whole[..., 0] > 0).float().mean().item() == pytest.approx(0.8, abs=0.04)


def test_element_dropout_drops_single_voxels() -> None:
    dropped = stochastic_dropout(torch.ones(1, 2, 20, 20, 20), 0.2, "element", seeded(0))
    assert (dropped > 0).float().mean().item() == pytest.approx(0.8, abs=0.02)
    assert 0 < (dropped[0, 0] == 0).sum() < dropped[0, 0].numel()
    assert dropped.mean().item() == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("stem", [1, 2])
def test_dropout_follows_every_block_of_encoder_and_decoder(stem: int) -> None:
    network = McUnet(features=2, depth=4, stem=stem).eval()
    assert network.dropout_channels == (2, 4, 8, 16, 8, 4, 2)
    image = torch.rand(1, 2, 32, 32, 32)
    plain = network(image)
    masks = torch.ones(sum(network.dropout_channels))
    assert torch.equal(network.finish_with_masks(network.shared_features(image), masks), plain)
    for block in masks.split(list(network.dropout_channels)):
        block.zero_()
        assert not torch.equal(network.finish_with_masks(network.shared_features(image), masks), plain)
        block.fill_(1)


def test_the_reconstruction_network_has_no_dropout() -> None:
    network = ReconstructionUnet(2, 3).eval().unet
    image = torch.rand(1, 1, 16, 16, 16)
    assert torch.equal(network(image, seeded(0)), network(image))


def test_masks_drawn_apart_give_the_same_pass() -> None:
    network = McUnet(features=4, depth=3, stem=2).eval()
    image = torch.rand(1, 2, 16, 16, 16)
    assert torch.equal(
        network(image, seeded(5)), network.finish_with_masks(network.shared_features(image), network.draw_masks(seeded(5)))
    )


@pytest.mark.parametrize("residual", [False, True])
def test_a_stem_keeps_the_shape_and_every_voxel_counts(residual: bool) -> None:
    network = ReconstructionUnet(features=2, depth=3, stem=2, residual=residual)
    image = torch.rand(1, 1, 16, 16, 16, requires_grad=True)
    rebuilt = network(image)
    assert rebuilt.shape == image.shape
    rebuilt.sum().backward()
    assert (image.grad != 0).all()


def test_three_heads_are_summed() -> None:
    network = McUnet(features=2, depth=4).eval()
    image = torch.rand(1, 2, 16, 16, 16)
    whole = network(image)
    for head in network.heads:
        silent = head.bias.detach().clone(), head.weight.detach().clone()
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        assert not torch.allclose(network(image), whole)
        with torch.no_grad():
            head.bias.copy_(silent[0])
            head.weight.copy_(silent[1])
    biases = sum(float(head.bias.detach()) for head in network.heads)
    for head in network.heads:
        torch.nn.init.zeros_(head.weight)
    assert torch.allclose(network(image), torch.full_like(whole, biases), atol=1e-5)


def test_a_unet_too_shallow_for_its_heads_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 3"):
        McUnet(depth=2)


@pytest.mark.parametrize(
    ("build", "channels"),
    [(lambda: McUnet(2, 2, 3), 2), (lambda: ReconstructionUnet(2, 3), 1), (lambda: RegressionNet(2, (2, 4)), 2)],
)
@pytest.mark.parametrize("seed", range(8))
def test_every_parameter_learns_from_any_start(build: Callable[[], torch.nn.Module], channels: int, seed: int) -> None:
    torch.manual_seed(seed)
    network = build()
    network.train()(torch.rand(2, channels, 16, 16, 16)).square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    for name, gradient in gradients.items():
        assert gradient is not None, name
        assert torch.isfinite(gradient).all(), name
    assert sum(float(g.abs().sum()) > 0 for g in gradients.values() if g is not None) > len(gradients) // 2


def test_the_regression_net_ends_linearly() -> None:
    network = RegressionNet(3).eval()
    assert network(torch.rand(2, 3, 32, 32, 32)).shape == (2,)
    with torch.no_grad():
        network.dice.bias += 5
        assert (network(torch.rand(2, 3, 32, 32, 32)) > 1).all()
    assert [m.out_channels for m in network.features if isinstance(m, torch.nn.Conv3d)] == [16, 32, 64, 128]


def test_the_docs_state_the_right_counts() -> None:
    table = runpy.run_path(str(ROOT / "scripts" / "network_table.py"))["table"]()
    assert table in (ROOT / "docs" / "networks.md").read_text()


def test_dropout_without_generator_or_rate_changes_nothing() -> None:
    features = torch.rand(1, 3, 4, 4, 4)
    assert stochastic_dropout(features, 0.5, "channel", None) is features
    assert stochastic_dropout(features, 0.0, "element", seeded(0)) is features


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("kind", ["channel", "element"])
def test_the_kept_share_is_one_minus_the_rate(rate: float, kind: str) -> None:
    shape = (4, 1000, 1, 1, 1) if kind == "channel" else (1, 1, 16, 16, 16)
    dropped = stochastic_dropout(torch.ones(shape), rate, kind, seeded(3))  # type: ignore[arg-type]
    kept = dropped[dropped != 0]
    assert kept.numel() / dropped.numel() == pytest.approx(1 - rate, abs=0.04)
    assert torch.allclose(kept, torch.tensor(1 / (1 - rate)))


@pytest.mark.parametrize("shape", [(12, 12, 12), (13, 11, 10)])
def test_the_output_is_the_sum_of_what_each_head_gives_alone(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    network, image = McUnet(features=2, depth=3).eval(), torch.rand(1, 2, *shape)
    with torch.inference_mode():
        whole = network(image)
        alone = []
        for chosen in range(3):
            single = copy.deepcopy(network)
            for number, head in enumerate(single.heads):
                if number != chosen:
                    head.weight.zero_()
                    head.bias.zero_()
            alone.append(single(image))
    assert all(part.abs().max() > 1e-3 for part in alone)
    assert torch.allclose(sum(alone), whole, atol=1e-5)


def test_the_unets_hold_no_state_between_images() -> None:
    """Instance normalisation: a case is judged the same whatever the network saw, and in whatever company."""
    network, images = McUnet(features=2, depth=3).train(), torch.rand(2, 2, 12, 12, 12)
    with torch.inference_mode():
        together = network(images)
        assert torch.allclose(together[1:], network(images[1:]), atol=1e-5)
        assert torch.allclose(network.eval()(images), together, atol=1e-6)
