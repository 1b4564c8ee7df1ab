"""scSE against smp's module, which writes the formula out, and against the formula by hand."""

import pytest
import torch
from segmentation_models_pytorch.base.modules import SCSEModule
from segmentation_models_pytorch.encoders import get_encoder

from semisalt.models.attention import SCSE, PixelMean, quicken_squeezes


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("channels", "height", "width"), [(16, 5, 7), (48, 8, 8), (33, 1, 3)])
def test_equals_smp_forward_and_backward(
    channels: int, height: int, width: int, memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    ours, theirs = SCSE(channels).double(), SCSEModule(channels).double()
    theirs.load_state_dict(ours.state_dict())
    values = torch.randn(3, channels, height, width, dtype=torch.float64).to(memory_format=memory_format)
    direction = torch.randn(3, channels, height, width, dtype=torch.float64)
    results = []
    for module in (ours, theirs):
        x = values.clone().requires_grad_()
        y = module(x)
        parameters = list(module.parameters())
        results.append([y, *torch.autograd.grad((y * direction).sum(), [x, *parameters])])
    for mine, reference in zip(*results, strict=True):
        torch.testing.assert_close(mine, reference, rtol=1e-10, atol=1e-12)


def test_one_value_by_hand() -> None:
    module = SCSE(2).double()
    first, second, pixel = module.cSE[1], module.cSE[3], module.sSE[0]
    for convolution, weight, bias in (
        (first, [1.0, 2.0], [0.5]),
        (second, [0.25, -1.0], [0.0, 1.0]),
        (pixel, [2.0, -1.0], [0.1]),
    ):
        convolution.weight.data = torch.tensor(weight, dtype=torch.float64).view(convolution.weight.shape)
        convolution.bias.data = torch.tensor(bias, dtype=torch.float64)
    x = torch.tensor([[1.0, 3.0], [0.0, 2.0]], dtype=torch.float64).view(1, 2, 1, 2)  # means 2 and 1, hidden 4.5

    def sigmoid(value: float) -> float:
        return float(1 / (1 + torch.exp(torch.tensor(-value, dtype=torch.float64))))

    channel_gates = [sigmoid(0.25 * 4.5), sigmoid(-4.5 + 1.0)]
    pixel_gates = [sigmoid(2 * 1.0 - 0.0 + 0.1), sigmoid(2 * 3.0 - 2.0 + 0.1)]
    expected = [[1.0, 3.0], [0.0, 2.0]]
    got = module(x).detach()
    for channel in (0, 1):
        for column in (0, 1):
            want = expected[channel][column] * (channel_gates[channel] + pixel_gates[column])
            assert float(got[0, channel, 0, column]) == pytest.approx(want, rel=1e-12)


def test_narrow_maps_and_order() -> None:
    x = torch.randn(2, 4, 8, 8).to(memory_format=torch.channels_last)
    y = SCSE(4)(x)
    assert y.shape == x.shape
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_quick_squeeze_is_the_mean_and_keeps_the_order(memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64).to(memory_format=memory_format).requires_grad_()
    mean = PixelMean()(x)
    assert mean.shape == (2, 6, 1, 1)
    for image in range(2):
        for channel in range(6):
            values = x[image, channel].flatten().tolist()
            assert float(mean[image, channel].detach()) == pytest.approx(sum(values) / 35, rel=1e-12)
    direction = torch.randn(2, 6, 1, 1, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((mean * direction).sum(), x)
    torch.testing.assert_close(gradient, (direction / 35).expand_as(x).contiguous(), check_stride=False)


def test_quickened_encoder_answers_as_before() -> None:
    torch.manual_seed(0)
    encoder = get_encoder("se_resnet50", in_channels=1, weights=None).eval()
    names = list(encoder.state_dict())
    x = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        before = encoder(x)
        quicken_squeezes(encoder)
        after = encoder.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert sum(isinstance(module, PixelMean) for module in encoder.modules()) == 3 + 4 + 6 + 3
    assert list(encoder.state_dict()) == names
    for first, second in zip(before, after, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-4)
