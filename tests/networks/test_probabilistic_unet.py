"""The probabilistic U-net: its samples differ by their codes alone, and its divergence is that of the two Gaussians."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from veridice.experiment.methods import probabilistic_samples
from veridice.inference.passes import Backend
from veridice.networks.mc_unet import McUnet
from veridice.networks.probabilistic_unet import ProbabilisticUnet, drawn
from veridice.training.generative import take_over

FP32 = Backend("cpu", "fp32", 1)
TINY = {"features": 2, "depth": 3, "latent": 4, "maps": 3}


def network(**more: int) -> ProbabilisticUnet:
    torch.manual_seed(0)
    return ProbabilisticUnet(**TINY, **more).eval()


def test_divergence_is_the_closed_form_and_zero_without_a_target() -> None:
    net, images = network(), torch.rand(3, 2, 16, 16, 16)
    target = (torch.rand(3, 1, 16, 16, 16) > 0.8).float()
    logits, divergence = net(images, torch.Generator().manual_seed(1), target)
    prior, posterior = net.prior(images), net.posterior(torch.cat([images, target], dim=1))
    m, s, n, t = prior.mean, prior.stddev, posterior.mean, posterior.stddev
    expected = (torch.log(s / t) + (t**2 + (n - m) ** 2) / (2 * s**2) - 0.5).sum(dim=1).mean()
    assert divergence.item() == pytest.approx(expected.item(), rel=1e-4) and divergence > 0
    assert logits.shape == (3, 1, 16, 16, 16)
    assert net(images)[1].item() == pytest.approx(0, abs=1e-6)


def test_a_sample_depends_on_its_generator_alone_and_the_mean_on_none() -> None:
    net, images = network(classes=2), torch.rand(1, 2, 16, 16, 16)
    first, again, other = (net(images, torch.Generator().manual_seed(seed))[0] for seed in (5, 5, 6))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(net(images)[0], net.finish(net.body(images), drawn(net.prior(images), None)))


def test_samples_share_the_body_and_are_those_of_whole_passes() -> None:
    net, images = network(), np.random.default_rng(0).random((2, 16, 16, 16)).astype(np.float32)
    maps = probabilistic_samples(net, images, FP32, 4, seed=3)
    shown = torch.from_numpy(images)[None]
    whole = [net(shown, torch.Generator().manual_seed(3 * 1_000_003 + n))[0][0, 0].sigmoid().detach() for n in range(4)]
    np.testing.assert_allclose(maps.mean, torch.stack(whole).mean(dim=0).numpy(), atol=1e-6)
    assert maps.variance.max() > 0


def test_the_body_takes_over_what_fits(tmp_path: Path) -> None:
    torch.manual_seed(1)
    segmenter = McUnet(features=2, depth=3)
    file = tmp_path / "segmenter.safetensors"
    save_file(segmenter.state_dict(), file)
    net = network()
    heads = net.body.heads[0].weight.clone()
    take_over(net.body, file)
    assert torch.equal(net.body.encoder[0].entry[0].weight, segmenter.encoder[0].entry[0].weight)
    assert torch.equal(net.body.heads[0].weight, heads)


def test_it_learns_that_two_answers_are_right() -> None:
    """One image with two truths, a wide one and a narrow one: samples are of both kinds."""
    torch.manual_seed(0)
    net = ProbabilisticUnet(features=4, depth=3, latent=2, maps=4)
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    image = torch.rand(1, 2, 8, 8, 8)
    truths = torch.zeros(2, 1, 1, 8, 8, 8)
    truths[0, ..., 3:5, :, :], truths[1, ..., 1:7, :, :] = 1, 1
    for step in range(140):
        generator = torch.Generator().manual_seed(step)
        logits, divergence = net(image, generator, truths[step % 2])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, truths[step % 2]) + 0.01 * divergence
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.eval()
    with torch.no_grad():
        sizes = [(net(image, torch.Generator().manual_seed(n))[0] > 0).float().mean().item() for n in range(30)]
    assert min(sizes) < 0.35 and max(sizes) > 0.65
