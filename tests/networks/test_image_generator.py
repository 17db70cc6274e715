"""Images from labels: who learns from which loss, and that a wrong mask makes an error where it is wrong."""

from __future__ import annotations

import numpy as np
import torch

from veridice.experiment.methods import generated_error
from veridice.imaging.tissue_classes import CLASSES, labels_with_mask, tissue_classes
from veridice.inference.passes import Backend
from veridice.networks.image_generator import ImageGenerator

FP32 = Backend("cpu", "fp32", 1)


def gradients(loss: torch.Tensor, network: torch.nn.Module) -> list[torch.Tensor]:
    network.zero_grad()
    loss.backward()
    return [torch.zeros(()) if p.grad is None else p.grad.clone() for p in network.parameters()]


def test_neither_loss_reaches_the_other_network() -> None:
    torch.manual_seed(0)
    net = ImageGenerator(labels=3, features=2, depth=3, adversarial=0.5)
    assert net.discriminator is not None
    labels, image = torch.rand(2, 3, 16, 16, 16), torch.rand(2, 1, 16, 16, 16)
    both = gradients(net(labels, image), net)
    # By hand, with detached copies.
    made = net(labels)
    for_generator = (made - image).abs().mean() + 0.5 * (net.discriminator(labels, made) - 1).square().mean()
    told = net.discriminator(labels, image), net.discriminator(labels, net(labels).detach())
    for_discriminator = 0.5 * ((told[0] - 1).square().mean() + told[1].square().mean())
    first, second = gradients(for_generator, net), gradients(for_discriminator, net)
    for (name, _), seen, one, other in zip(net.named_parameters(), both, first, second, strict=True):
        expected = other if name.startswith("discriminator") else one
        torch.testing.assert_close(seen, expected, atol=1e-6, rtol=1e-4)


def test_a_plain_regression_has_no_discriminator() -> None:
    net = ImageGenerator(labels=3, features=2, depth=3, adversarial=0.0)
    labels, image = torch.rand(1, 3, 16, 16, 16), torch.rand(1, 1, 16, 16, 16)
    assert net.discriminator is None
    torch.testing.assert_close(net(labels, image), (net(labels) - image).abs().mean())


def test_classes_are_ordered_by_brightness_and_the_mask_goes_before_them() -> None:
    steps = np.repeat(np.array([0.0, 0.3, 0.6, 0.9], np.float32), 16)[:, None, None] * np.ones((1, 8, 8), np.float32)
    noisy = (steps + np.random.default_rng(0).normal(0, 0.02, steps.shape)).astype(np.float32)
    assert (tissue_classes(noisy).argmax(axis=0) == np.round(steps / 0.3)).mean() > 0.99
    assert tissue_classes(np.zeros((4, 4, 4), np.float32))[0].all()
    mask = np.zeros(steps.shape, bool)
    mask[30:34] = True
    labels = labels_with_mask(np.stack([np.zeros_like(noisy), noisy]), mask)
    assert labels.shape == (CLASSES + 1, *mask.shape) and (labels.sum(axis=0) == 1).all()
    np.testing.assert_array_equal(labels[-1] > 0, mask)


def test_the_error_lies_where_the_mask_is_wrong() -> None:
    """Bright things of one class, of which the mask says which are bright by disease: learnt in a second."""
    rng, place = np.random.default_rng(0), np.stack(np.meshgrid(*[np.arange(16)] * 3, indexing="ij"))

    def scan() -> tuple[np.ndarray, np.ndarray]:
        middle = rng.uniform(5, 11, 3)
        lesion = ((place - middle[:, None, None, None]) ** 2).sum(axis=0) < 9
        t1 = np.where(place[0] < 8, 0.3, 0.6).astype(np.float32)
        return np.stack([np.where(lesion, 0.9, 0.5 - 0.3 * (t1 > 0.5)), t1]).astype(np.float32), lesion

    torch.manual_seed(0)
    net = ImageGenerator(CLASSES + 1, features=3, depth=3, adversarial=0.01)
    optimiser = torch.optim.Adam(net.parameters(), 5e-3)
    for _ in range(70):
        images, lesion = scan()
        loss = net(torch.from_numpy(labels_with_mask(images, lesion))[None], torch.from_numpy(images[:1])[None])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.eval()
    images, lesion = scan()
    right, wrong = (np.abs(generated_error(net, images, mask, FP32)) for mask in (lesion, np.zeros_like(lesion)))
    assert wrong[lesion].mean() > 2 * right[lesion].mean()
