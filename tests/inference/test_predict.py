import numpy as np
import pytest
import torch
from torch import nn

from semisalt.data.channels import Channels
from semisalt.data.tiles import TileSet
from semisalt.inference.predict import Predictor, quantise
from tests.tiny import tiny_channels, tiny_network, tiny_tiles

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    made = tiny_network()
    with torch.no_grad():  # statistics other than 0 and 1, so that evaluation mode shows
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.1, 0.1)  # type: ignore[union-attr, operator]
                module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr, operator]
    return made.eval()


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x.astype(np.float64)))


def logits(network: nn.Module, tiles: TileSet, *, mirrored: bool = False) -> np.ndarray:
    """One tile at a time; mirroring is done on the pixels, before padding would be."""
    channels, out = tiny_channels(), []
    assert tiles.depths is not None
    for image, depth in zip(tiles.images, tiles.depths, strict=True):
        pixels = np.ascontiguousarray(image[:, ::-1]) if mirrored else image
        with torch.no_grad():
            out.append(network(channels(torch.from_numpy(pixels[None]), torch.tensor([depth])))[0].numpy())
    return np.stack(out)


def test_plain_prediction_is_the_sigmoid(network: nn.Module) -> None:
    tiles = tiny_tiles(7)
    found = Predictor(tiny_channels(), CPU, "fp32", 3, False)(network, tiles)
    np.testing.assert_allclose(found, sigmoid(logits(network, tiles)), atol=2e-6)
    assert found.dtype == np.float32
    assert found.std() > 1e-3


def test_mirrored_view_is_averaged_in(network: nn.Module) -> None:
    tiles = tiny_tiles(7)
    found = Predictor(tiny_channels(), CPU, "fp32", 4, True)(network, tiles)
    back = sigmoid(logits(network, tiles, mirrored=True))[:, :, ::-1]
    straight = sigmoid(logits(network, tiles))
    np.testing.assert_allclose(found, (straight + back) / 2, atol=2e-6)
    assert np.abs(straight - back).max() > 1e-3


@pytest.mark.parametrize("batch", [1, 2, 5, 7, 64])
def test_any_batch_size_gives_the_same(network: nn.Module, batch: int) -> None:
    tiles = tiny_tiles(7)
    expected = Predictor(tiny_channels(), CPU, "fp32", 7, True)(network, tiles)
    found = Predictor(tiny_channels(), CPU, "fp32", batch, True)(network, tiles)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_tiles_that_need_padding_come_back_in_their_own_size() -> None:
    class Image(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, 0]

    tiles = tiny_tiles(3, shape=(33, 50))
    found = Predictor(Channels((33, 50), None, "none"), CPU, "fp32", 2, True)(Image(), tiles)
    np.testing.assert_allclose(found, sigmoid((tiles.images / 255 - 0.449) / 0.226), atol=2e-6)


def test_network_is_judged_in_evaluation_mode_and_left_as_it_was() -> None:
    network = tiny_network().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    predictor = Predictor(tiny_channels(), CPU, "fp32", 4, True)
    in_training = predictor(network, tiny_tiles(5))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    np.testing.assert_array_equal(in_training, predictor(network.eval(), tiny_tiles(5)))
    assert not network.training


def test_no_tiles_give_no_maps(network: nn.Module) -> None:
    none = tiny_tiles(3).subset(np.array([], np.int64))
    assert Predictor(tiny_channels(), CPU, "fp32", 4, True)(network, none).shape == (0, 32, 32)


def test_bf16_is_near(network: nn.Module) -> None:
    tiles = tiny_tiles(5)
    full = Predictor(tiny_channels(), CPU, "fp32", 5, True)(network, tiles)
    half = Predictor(tiny_channels(), CPU, "bf16", 5, True)(network, tiles)
    assert half.dtype == np.float32
    assert 0 < np.abs(half - full).max() < 0.05


def test_missing_depths_are_an_error(network: nn.Module) -> None:
    tiles = tiny_tiles(3)
    with pytest.raises(ValueError, match="depths"):
        Predictor(tiny_channels(), CPU, "fp32", 4, True)(network, TileSet(tiles.ids, tiles.images, None, None))


def test_quantise_rounds_to_the_nearest() -> None:
    values = np.array([[0.0, 1.0, 0.5, 0.4 / 255, 0.6 / 255, 254.4 / 255, 1.0000001]], np.float32)
    np.testing.assert_array_equal(quantise(values), [[0, 255, 128, 0, 1, 254, 255]])
    every = (np.arange(256) / 255).astype(np.float32)
    np.testing.assert_array_equal(quantise(every), np.arange(256))
    assert quantise(every).dtype == np.uint8


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_quantise_does_not_hide_what_is_not_finite(bad: float) -> None:
    values = np.full((2, 3, 3), 0.5, np.float32)
    values[1, 2, 0] = bad
    with pytest.raises(FloatingPointError, match="not finite"):
        quantise(values)


class Left(nn.Module):
    """Salt where the image channel is positive, and in the left half of what it is shown wherever `bias` says so."""

    def __init__(self, bias: float) -> None:
        super().__init__()
        self.bias = bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = 10 * x[:, 0]
        out[:, :, : x.shape[3] // 2] += self.bias
        return out


def test_agreement_with_the_mirror_image_by_hand() -> None:
    """Pixels that are salt on their own, and a left half that is salt in whichever view it is the left one."""
    images = np.zeros((4, 32, 32), np.uint8)
    images[1, 8:16] = 255  # rows that both views see
    images[2, 8:16, :8] = 255
    images[3] = 255
    tiles = TileSet(tuple("abcd"), images, None, None)
    predictor = Predictor(Channels((32, 32), None, "none"), CPU, "fp32", 3, True)
    maps, agreement = predictor.judge(Left(0.0), tiles)
    assert agreement.tolist() == [1, 1, 1, 1]  # two empty masks agree
    assert ((maps > 0.5) == (images > 127)).all()
    _, agreement = predictor.judge(Left(1000.0), tiles)
    # The left half in one view, the right half in the other: what both see is the rows (and all of the last tile).
    assert agreement.tolist() == pytest.approx([0, 8 / 32, 8 * 8 / (32 * 32), 1])
    assert agreement.dtype == np.float32
    plain = Predictor(Channels((32, 32), None, "none"), CPU, "fp32", 3, False)
    maps, agreement = plain.judge(Left(0.0), tiles)
    assert np.isnan(agreement).all()
    np.testing.assert_array_equal(maps, plain(Left(0.0), tiles))


def test_agreement_equals_plain_loops(network: nn.Module) -> None:
    tiles = tiny_tiles(7)
    _, found = Predictor(tiny_channels(), CPU, "fp32", 3, True).judge(network, tiles)
    one, other = logits(network, tiles) > 0, logits(network, tiles, mirrored=True)[:, :, ::-1] > 0
    expected = [(a & b).sum() / (a | b).sum() if (a | b).any() else 1.0 for a, b in zip(one, other, strict=True)]
    assert found.tolist() == pytest.approx(expected, abs=0.02)
    assert min(expected) < 0.95
