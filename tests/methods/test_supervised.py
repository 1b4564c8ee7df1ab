import numpy as np
import pytest
import torch
from torch import nn

from semisalt.config import LossConfig
from semisalt.data.batches import Batch
from semisalt.data.channels import Channels
from semisalt.methods import Progress
from semisalt.methods.supervised import Supervised

SHAPE = (20, 24)
LOSS = LossConfig(start={"bce": 2.0}, finish={"bce": 0.5, "lovasz_hinge": 1.0}, switch_epoch=2)


class FirstChannel(nn.Module):
    """Logits = factor · image channel + padding-only rubbish."""

    def __init__(self, channels: Channels) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(1.5))
        self.rubbish = torch.full(channels.padded, 1e6)
        channels.crop(self.rubbish[None])[:] = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x[:, 0] + self.rubbish


def setup() -> tuple[Supervised, Batch]:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (3, *SHAPE), dtype=np.uint8)
    masks = (generator.random((3, *SHAPE)) < 0.4).astype(np.uint8)
    channels = Channels(SHAPE, None, "none")
    batch = Batch(torch.from_numpy(images), torch.from_numpy(masks * np.uint8(255)), None, torch.arange(3))
    return Supervised(FirstChannel(channels), channels, LOSS), batch


def test_bce_of_the_tiles_own_pixels() -> None:
    """By the definition in numpy; the network's rubbish on the padding changes nothing."""
    method, batch = setup()
    logits = 1.5 * (batch.images.numpy() / 255.0 - 0.449) / 0.226
    p, y = 1 / (1 + np.exp(-logits)), batch.targets.numpy() / 255
    expected = -np.mean(y * np.log(p) + (1 - y) * np.log(1 - p))
    losses = method.step(batch, Progress(1, 9, 0.1))
    assert losses.parts.keys() == {"bce"}
    assert losses.parts["bce"].item() == pytest.approx(expected, rel=1e-5)
    assert losses.total.item() == pytest.approx(2 * expected, rel=1e-5)


def test_mix_switches_at_its_epoch_and_parts_are_detached() -> None:
    method, batch = setup()
    assert method.step(batch, Progress(1, 0, 0)).parts.keys() == {"bce"}
    late = method.step(batch, Progress(2, 0, 0))
    assert late.parts.keys() == {"bce", "lovasz_hinge"}
    assert late.total.item() == pytest.approx(0.5 * late.parts["bce"].item() + late.parts["lovasz_hinge"].item())
    assert late.total.requires_grad
    assert not any(part.requires_grad for part in late.parts.values())
    late.total.backward()
    (factor,) = method.networks[0].parameters()
    assert factor.grad is not None
    assert factor.grad.abs() > 0


def test_step_uses_the_wrapped_network_and_predictor_gives_the_plain_one() -> None:
    method, batch = setup()
    plain = method.networks[0]
    calls = []

    class Wrapper(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(len(x))
            logits: torch.Tensor = plain(x)
            return logits

    method.networks[0] = Wrapper()
    method.step(batch, Progress(0, 0, 0))
    assert calls == [3]
    assert method.predictor() is plain
    assert method.state_dict() == {}
    method.load_state_dict({})
