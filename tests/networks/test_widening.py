"""A wider network says what the narrower one said."""

from __future__ import annotations

import pytest
import torch

from veridice.networks.critic_unet import CriticUnet
from veridice.networks.mc_unet import McUnet
from veridice.networks.widening import ENTRY, widened, with_further_inputs


@pytest.mark.parametrize(("features", "stem", "depth"), [(6, 2, 3), (8, 1, 4), (5, 2, 4), (4, 2, 3)])
def test_it_says_the_same(features: int, stem: int, depth: int) -> None:
    torch.manual_seed(0)
    arguments = {"depth": depth, "stem": stem}
    narrow = McUnet(features=4, **arguments).eval()
    with torch.no_grad():
        for parameter in narrow.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    wide = McUnet(features=features, **arguments).eval()
    wide.load_state_dict(widened(narrow, features))
    image = torch.rand(1, 2, 32, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(wide(image), narrow(image), atol=1e-4, rtol=1e-4)
    assert sum(p.numel() for p in wide.parameters()) >= sum(p.numel() for p in narrow.parameters())


def test_noise_tells_the_copies_apart_and_follows_its_seed() -> None:
    narrow = McUnet(features=4, depth=3)
    first, again, quiet = (widened(narrow, 6, noise, 1) for noise in (0.05, 0.05, 0.0))
    name = "encoder.1.entry.0.weight"
    assert torch.equal(first[name], again[name]) and not torch.equal(first[name], quiet[name])
    torch.testing.assert_close(quiet[name][:, 0], quiet[name][:, 4])
    assert not torch.equal(first[name][:, 0], first[name][:, 4])
    with pytest.raises(ValueError, match="fewer than 4"):
        widened(narrow, 3)


@pytest.mark.parametrize("stem", [1, 2])
def test_a_critic_begins_with_what_the_segmenter_says_whatever_the_mask(stem: int) -> None:
    torch.manual_seed(0)
    segmenter, critic = McUnet(features=4, depth=3, stem=stem).eval(), CriticUnet(features=4, depth=3, stem=stem).eval()
    critic.load_state_dict(with_further_inputs(segmenter.state_dict(), critic.state_dict()[ENTRY].shape[1]))
    image, shown = torch.rand(1, 2, 16, 16, 16), torch.rand(1, 2, 16, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(critic(torch.cat([image, shown], dim=1)), segmenter(image), atol=1e-5, rtol=1e-5)
