from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from semisalt.data.channels import Channels, relative_depth

Ramp = Literal["none", "rows", "image_rows"]
SHAPES = [(101, 101), (32, 32), (33, 95), (101, 64), (5, 7), (1, 3), (2, 1), (200, 31)]


def padded_by_numpy(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """np.pad, half before and half after, the odd one after."""
    widths = [(0, 0)]
    for size in images.shape[1:]:
        extra = int(np.ceil(size / 32) * 32) - size
        widths.append((extra // 2, extra - extra // 2))
    values = images / 255.0
    rows, columns = widths[1], widths[2]
    values = np.pad(values, [(0, 0), rows, (0, 0)], mode="reflect" if images.shape[1] > 1 else "edge")
    return np.pad(values, [(0, 0), (0, 0), columns], mode="reflect" if images.shape[2] > 1 else "edge")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ramp", ["none", "rows", "image_rows"])
@pytest.mark.parametrize("deep", [False, True])
def test_channels_equal_numpy_arithmetic(shape: tuple[int, int], ramp: Ramp, deep: bool) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    depths = np.array([100.0, 350.0, 900.0], np.float32)
    channels = Channels(shape, (100.0, 900.0) if deep else None, ramp)
    found = channels(torch.from_numpy(images), torch.from_numpy(depths)).numpy()

    grey = padded_by_numpy(images)
    expected = [(grey - 0.449) / 0.226]
    if deep:
        expected.append(np.broadcast_to(np.array([0.0, 0.3125, 1.0])[:, None, None], grey.shape))
    down = np.array([0.001 + 0.999 * row / (grey.shape[1] - 1) for row in range(grey.shape[1])])
    if ramp == "rows":
        expected.append(np.broadcast_to(down[None, :, None], grey.shape))
    if ramp == "image_rows":
        expected.append(grey * down[None, :, None])
    assert found.dtype == np.float32
    assert channels.count == len(expected) == found.shape[1]
    assert channels.padded == grey.shape[1:]
    np.testing.assert_allclose(found, np.stack(expected, axis=1), atol=2e-6)


@given(height=st.integers(1, 140), width=st.integers(1, 140))
def test_crop_inverts_padding(height: int, width: int) -> None:
    images = np.random.default_rng(height * 1000 + width).integers(0, 256, (2, height, width), dtype=np.uint8)
    channels = Channels((height, width), None, "none")
    seen = channels(torch.from_numpy(images), None)
    assert all(
        0 <= padded - size < 32 and padded % 32 == 0
        for padded, size in zip(channels.padded, images.shape[1:], strict=True)
    )
    back = channels.crop(seen[:, 0]).numpy() * 0.226 + 0.449
    np.testing.assert_array_equal(np.rint(back * 255).astype(np.uint8), images)


def test_memory_is_channels_last() -> None:
    seen = Channels((32, 32), (0, 1), "rows")(torch.zeros(2, 32, 32, dtype=torch.uint8), torch.zeros(2))
    assert seen.is_contiguous(memory_format=torch.channels_last)


def test_missing_depths_are_an_error_only_where_they_are_used() -> None:
    images = torch.zeros(2, 32, 32, dtype=torch.uint8)
    with pytest.raises(ValueError, match="uses the tiles' depths"):
        Channels((32, 32), (0.0, 1.0), "none")(images, None)
    given = Channels((32, 32), None, "none")(images, torch.ones(2))
    assert given.shape == (2, 1, 32, 32)


def test_tiles_of_another_size_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"\(32, 31\) given"):
        Channels((32, 32), None, "none")(torch.zeros(2, 32, 31, dtype=torch.uint8), None)


def test_relative_depth_of_equal_depths_is_zero() -> None:
    torch.testing.assert_close(relative_depth(torch.tensor([5.0, 5.0]), (5.0, 5.0)), torch.zeros(2))
    torch.testing.assert_close(relative_depth(torch.tensor([50, 960]), (50.0, 960.0)), torch.tensor([0.0, 1.0]))
