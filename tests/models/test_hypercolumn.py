"""Hypercolumn against slow, plain bilinear interpolation."""

import numpy as np
import torch
from numpy.typing import NDArray

from semisalt.models.hypercolumn import Hypercolumn


def enlarge(coarse: NDArray[np.float64], factor: int) -> NDArray[np.float64]:
    """Bilinear, pixel centres at (i + ½), edges repeated."""
    height, width = coarse.shape
    out = np.empty((height * factor, width * factor))
    for row in range(out.shape[0]):
        for column in range(out.shape[1]):
            y = min(max((row + 0.5) / factor - 0.5, 0), height - 1)
            x = min(max((column + 0.5) / factor - 0.5, 0), width - 1)
            top, left = int(y), int(x)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            dy, dx = y - top, x - left
            above = (1 - dx) * coarse[top, left] + dx * coarse[top, right]
            below = (1 - dx) * coarse[bottom, left] + dx * coarse[bottom, right]
            out[row, column] = (1 - dy) * above + dy * below
    return out


def test_columns_by_hand() -> None:
    torch.manual_seed(0)
    module = Hypercolumn([3, 5]).double()
    coarse = [torch.randn(2, 3, 2, 3).double(), torch.randn(2, 5, 4, 6).double()]
    finest = torch.randn(2, 7, 8, 12).double()
    joined = module(coarse, finest)
    assert joined.shape == (2, 9, 8, 12)
    assert torch.equal(joined[:, :7], finest)
    for index, (level, factor) in enumerate(zip(coarse, (4, 2), strict=True)):
        weight = module.reduce[index].weight.detach().numpy().reshape(-1)
        bias = float(module.reduce[index].bias.detach())
        for image in range(2):
            reduced = np.tensordot(weight, level[image].numpy(), axes=1) + bias
            np.testing.assert_allclose(joined[image, 7 + index].detach(), enlarge(reduced, factor), atol=1e-12)
