import math

import pytest
import torch

from semisalt.methods import Losses
from semisalt.training.meter import LossMeter, LossNotFiniteError


def losses(total: float, **parts: float) -> Losses:
    return Losses(torch.tensor(total, requires_grad=True), {k: torch.tensor(v) for k, v in parts.items()})


def test_sums_are_weighed_and_detached() -> None:
    meter = LossMeter()
    meter.add(0, losses(1.0, bce=2.0), torch.tensor([0, 1]), 1.0)
    meter.add(1, losses(3.0, bce=4.0, lovasz=1.0), torch.tensor([2]), 0.5)
    meter.look()
    assert {name: value.item() for name, value in meter.sums.items()} == {
        "loss/total": 2.5,
        "loss/bce": 4.0,
        "loss/lovasz": 0.5,
    }
    assert meter.steps == 2
    assert not any(value.requires_grad for value in meter.sums.values())
    meter.clear()
    assert (meter.sums, meter.steps) == ({}, 0)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_first_bad_step_is_named_with_its_tiles(bad: float) -> None:
    meter = LossMeter()
    for step, total in enumerate([1.0, 2.0, bad, math.nan, 1.0]):
        meter.add(step, losses(total), torch.tensor([10 * step, 10 * step + 1]), 1.0)
    with pytest.raises(LossNotFiniteError) as caught:
        meter.look()
    assert (caught.value.step, caught.value.indices) == (2, [20, 21])


def test_looking_twice_looks_at_new_steps_only() -> None:
    meter = LossMeter()
    meter.look()
    meter.add(0, losses(1.0), torch.tensor([0]), 1.0)
    meter.look()
    meter.add(1, losses(math.nan), torch.tensor([7]), 1.0)
    with pytest.raises(LossNotFiniteError) as caught:
        meter.look()
    assert caught.value.indices == [7]
