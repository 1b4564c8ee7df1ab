"""Stems change the resolution and nothing else; further channels say nothing until they have learned to."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from segmentation_models_pytorch.encoders import get_encoder
from torch import nn

from semisalt.models import build_unet
from semisalt.models.stem import change_stem, grey_kernel, layout


def trained(name: str) -> nn.Module:
    """An RGB encoder whose BN statistics are no longer the initial ones."""
    torch.manual_seed(1)
    encoder: nn.Module = get_encoder(name, in_channels=3, weights=None)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    return encoder.eval()


@pytest.mark.parametrize(
    ("name", "stem", "in_channels"),
    [
        *(("resnet18", "stock", channels) for channels in (1, 2, 3, 4)),
        ("resnet18", "stride1", 2),
        ("resnet18", "no_pool", 3),
        ("tu-tf_efficientnet_lite0", "stock", 3),
    ],
)
def test_reads_grey_as_the_pretrained_network_does(name: str, stem: str, in_channels: int, tmp_path: Path) -> None:
    reference = trained(name)
    save_file({k: v.contiguous() for k, v in reference.state_dict().items()}, tmp_path / "rgb.safetensors")
    network = build_unet(name, in_channels=in_channels, weights=str(tmp_path / "rgb.safetensors"), stem=stem).eval()
    if stem == "stride1":
        reference.conv1.stride = (1, 1)
    if stem == "no_pool":
        reference.maxpool = nn.Identity()
    grey = torch.randn(2, 1, 64, 96)
    junk = 100 * torch.randn(2, in_channels - 1, 64, 96)
    with torch.no_grad():
        ours = network.encoder(torch.cat([grey, junk], dim=1))[1:]
        theirs = reference(grey.expand(-1, 3, -1, -1))[1:]
    for mine, expected in zip(ours, theirs, strict=True):
        assert mine.shape == expected.shape
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)


def test_further_channels_learn() -> None:
    network = build_unet("resnet18", in_channels=2)
    assert network.encoder.conv1.weight[:, 1].abs().max() > 0  # without weights, an ordinary start
    kernel = grey_kernel(torch.arange(12.0).view(1, 3, 2, 2), 2)
    assert kernel.tolist() == [[[[12.0, 15.0], [18.0, 21.0]], [[0.0, 0.0], [0.0, 0.0]]]]


@pytest.mark.parametrize("name", ["resnet18", "tu-tf_efficientnet_lite0", "se_resnext50_32x4d"])
def test_layout_and_stems(name: str) -> None:
    encoder = get_encoder(name, in_channels=2, weights=None)
    stock = layout(encoder, 2)
    assert stock.reductions == (1, 2, 4, 8, 16, 32)
    assert stock.channels == (2, *encoder.out_channels[1:])
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    change_stem(encoder, "stride1", stock)
    assert layout(encoder, 2).reductions == (1, 1, 2, 4, 8, 16)
    assert encoder.training
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


def test_no_pool_layout() -> None:
    for name in ("resnet18", "se_resnext50_32x4d", "tu-resnet18d"):
        encoder = get_encoder(name, in_channels=1, weights=None)
        change_stem(encoder, "no_pool", layout(encoder, 1))
        assert layout(encoder, 1).reductions == (1, 2, 2, 4, 8, 16), name


@pytest.mark.parametrize(
    ("name", "stem", "told"),
    [
        ("tu-tf_efficientnet_lite0", "no_pool", "no max-pooling.*choose one of stock, stride1"),
        ("tu-convnext_atto", "stride1", "no first convolution of stride 2.*choose one of stock$"),
        ("resnet18", "stride2", "unknown; choose one of stock, no_pool, stride1"),
    ],
)
def test_unsuitable_stems(name: str, stem: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        build_unet(name, in_channels=1, stem=stem)  # type: ignore[arg-type]
