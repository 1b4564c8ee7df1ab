"""Depthwise convolutions in float32: the same network by name, the exacter gradients, elsewhere nothing."""

import copy
import pickle
from collections.abc import Callable
from typing import cast

import pytest
import torch
from torch import nn

from semisalt.models.depthwise import quicken_depthwise
from semisalt.models.unet import build_unet


def convolutions() -> nn.Sequential:
    """A pointwise, a depthwise and a grouped convolution."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 1), nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.Conv2d(16, 8, 3, padding=1, groups=4)
    )


def gradients(network: nn.Module, x: torch.Tensor, *, bf16: bool) -> list[torch.Tensor]:
    network.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        y = network(x)
    y.float().square().mean().backward()
    return [cast(torch.Tensor, parameter.grad).clone() for parameter in network.parameters()]


def test_without_autocast_nothing_changes() -> None:
    network = convolutions()
    x = torch.randn(2, 3, 9, 9)
    plain = network(x)
    quicken_depthwise(network)
    assert torch.equal(network(x), plain)


def test_names_and_weights_stay() -> None:
    network = convolutions()
    before = copy.deepcopy(network.state_dict())
    quicken_depthwise(network)
    after = network.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_under_autocast_the_depthwise_convolution_alone_computes_in_float32() -> None:
    network = convolutions()
    x = torch.randn(4, 16, 32, 32)
    exact = network[1](x)
    quicken_depthwise(network)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = network[1](x)
    assert y.dtype == torch.bfloat16
    # In bfloat16 x and the weights would have been rounded, too, and few of these would be the same.
    assert torch.equal(y, exact.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        grouped = network[2](x)
    assert not torch.equal(grouped, network[2](x).bfloat16())


def test_without_gradients_it_computes_as_autocast_has_it() -> None:
    network = convolutions()
    x = torch.randn(4, 16, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        plain = network[1](x)
        quicken_depthwise(network)
        assert torch.equal(network[1](x), plain)


def test_gradients_are_nearer_to_those_of_float32() -> None:
    network = convolutions()
    x = torch.randn(4, 3, 32, 32)
    exact = gradients(network, x, bf16=False)[2]
    rough = gradients(network, x, bf16=True)[2]
    quicken_depthwise(network)
    quick = gradients(network, x, bf16=True)[2]
    assert (quick - exact).norm() < (rough - exact).norm()
    assert (quick - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("again", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])  # noqa: S301
def test_a_copy_computes_alike_with_weights_of_its_own(again: Callable[[nn.Module], nn.Sequential]) -> None:
    network = convolutions()
    quicken_depthwise(network)
    other, x = again(network), torch.randn(1, 16, 8, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = network[1](x)
        with torch.no_grad():
            network[1].weight.zero_()
        assert torch.equal(other[1](x), y)
    assert torch.equal(y, other[1](x).bfloat16())


@pytest.mark.parametrize("encoder", ["tu-tf_efficientnet_lite0", "mobilenet_v2"])
def test_the_encoders_of_a_unet_are_spared(encoder: str) -> None:
    network = build_unet(encoder, in_channels=2)
    depthwise = [
        module
        for module in network.modules()
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
    ]
    assert depthwise
    for module in depthwise:
        x = torch.randn(2, module.in_channels, 12, 12)
        exact = module(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(module(x), exact.bfloat16())
