from typing import Literal

import numpy as np
import pytest
import torch
from torch import nn

from semisalt.data.batches import Batch
from semisalt.data.channels import Channels
from semisalt.losses.bce import bce
from semisalt.methods.adversarial import fgsm
from tests.methods.toys import SHAPE, Pointwise, moved_statistics, toy_batch
from tests.tiny import tiny_channels, tiny_network, tiny_tiles

EPSILON = 0.02
CHANNELS = Channels(SHAPE, None, "none")


def tiny_batch() -> Batch:
    tiles = tiny_tiles(6)
    assert tiles.masks is not None
    assert tiles.depths is not None
    images, masks = torch.from_numpy(tiles.images), torch.from_numpy(tiles.masks[:4] * np.uint8(255))
    return Batch(images, masks, torch.from_numpy(tiles.depths), torch.arange(6))


@pytest.mark.parametrize("a", [1.5, -0.7])
def test_against_the_label_or_the_networks_own_decision(a: float) -> None:
    """By the derivative in numpy: ∂BCE/∂x has the sign of a · (σ(z) − y)."""
    batch = toy_batch(3, 2)
    found = fgsm(Pointwise(CHANNELS, a, 0.2), CHANNELS, batch, EPSILON).numpy()
    grey = batch.images.numpy() / 255
    z = a * (grey - 0.449) / 0.226 + 0.2
    y = np.concatenate([batch.targets.numpy() / 255, z[3:] > 0])
    expected = np.clip(grey + EPSILON * np.sign(a * (1 / (1 + np.exp(-z)) - y)), 0, 1)
    np.testing.assert_allclose(found, 255 * expected, atol=1e-4)


@pytest.mark.parametrize("ramp", ["none", "rows", "image_rows"])
@pytest.mark.parametrize("deep", [False, True])
def test_input_moves_by_epsilon_over_the_normalisations_deviation(
    ramp: Literal["none", "rows", "image_rows"], deep: bool
) -> None:
    """Catches ε added to the normalised channel (a quarter of the attack), and depths or ramps that are attacked."""
    channels = Channels(SHAPE, (0.0, 1000.0) if deep else None, ramp)
    batch = toy_batch(3, 2, low=20, high=230)  # far from the ends of the range
    example = fgsm(Pointwise(channels, 1.0, 0.0), channels, batch, EPSILON)
    moved = (channels(example, batch.depths) - channels(batch.images, batch.depths)).numpy()
    sign = np.sign(moved[:, 0])
    assert set(np.unique(sign)) == {-1, 1}
    np.testing.assert_allclose(moved[:, 0], sign * EPSILON / 0.226, atol=1e-5)
    if deep:
        assert not moved[:, 1].any()
    if ramp == "rows":
        assert not moved[:, -1].any()
    if ramp == "image_rows":
        height = channels.padded[0]
        down = np.array([0.001 + 0.999 * row / (height - 1) for row in range(height)])[:, None]
        np.testing.assert_allclose(moved[:, -1], sign * EPSILON * down, atol=1e-6)


def test_an_example_is_a_tile() -> None:
    """Black stays at 0 and white at 255, though the loss would have them beyond."""
    batch = toy_batch(2, 2)
    batch.images[:, ::2], batch.images[:, 1::2] = 0, 255
    example = fgsm(Pointwise(CHANNELS, 1.0, 0.0), CHANNELS, batch, EPSILON)
    assert example.min() == 0
    assert example.max() == 255
    assert example.unique().tolist() == pytest.approx([0.0, 5.1, 249.9, 255.0], abs=1e-4)
    assert not example.requires_grad


def test_padding_carries_no_loss() -> None:
    """The toy's logits on the padding outweigh all others, and are wrong: the attack must not look at them."""
    batch = toy_batch(3, 2)
    network = Pointwise(CHANNELS, 1.0, 0.0)
    example = fgsm(network, CHANNELS, batch, EPSILON)
    network.padding.zero_()
    assert torch.equal(fgsm(network, CHANNELS, batch, EPSILON), example)


def test_neither_statistics_nor_gradients_nor_mode_change() -> None:
    """Catches an attack in training mode, and one by backward() through the weights."""
    network, batch = tiny_network(), tiny_batch()
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.ndim > 1 else None
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    fgsm(network, tiny_channels(), batch, EPSILON)
    assert sum(moved_statistics(network)) == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    for parameter in network.parameters():
        assert parameter.grad is None if parameter.ndim < 2 else bool((parameter.grad == 1).all())
    assert all(module.training for module in network.modules())
    network.eval()
    fgsm(network, tiny_channels(), batch, EPSILON)
    assert not any(module.training for module in network.modules())


def test_attacked_as_it_predicts_and_restored_after_a_failure() -> None:
    modes = []

    class Failing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            modes.append(self.training)
            raise RuntimeError(str(x.shape))

    network = Failing()
    with pytest.raises(RuntimeError):
        fgsm(network, CHANNELS, toy_batch(1, 1), EPSILON)
    assert modes == [False]
    assert network.training


def test_it_fools_a_network_more_than_chance_does() -> None:
    network, channels, batch = tiny_network().eval(), tiny_channels(), tiny_batch()
    right = torch.cat([batch.targets / 255, channels.crop(network(channels(batch.images, batch.depths)))[4:] > 0])

    def loss(grey: torch.Tensor) -> float:
        with torch.no_grad():
            return float(bce(channels.crop(network(channels(grey, batch.depths))), right))

    chance = torch.rand(batch.images.shape, generator=torch.Generator().manual_seed(0)) - 0.5
    moved = (batch.images + 255 * EPSILON * chance.sign()).clamp(0, 255)
    clean = loss(batch.images.float())
    assert loss(fgsm(network, channels, batch, EPSILON)) - clean > 5 * abs(loss(moved) - clean)
