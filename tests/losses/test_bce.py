import math

import pytest
import torch

from semisalt.losses.bce import bce


def test_by_hand():
    # Catches a sigmoid applied twice (.69… on the first pixel) and a sum in place of the mean.
    logits = torch.tensor([[[2.0, -1.0], [0.0, 3.0]]], dtype=torch.float64)
    targets = torch.tensor([[[1.0, 0.0], [0.25, 0.0]]])
    p = [1 / (1 + math.exp(-x)) for x in (2.0, -1.0, 0.0, 3.0)]
    pixels = [-y * math.log(q) - (1 - y) * math.log(1 - q) for q, y in zip(p, (1, 0, 0.25, 0), strict=True)]
    assert bce(logits, targets).item() == pytest.approx(sum(pixels) / 4)


def test_far_logits_stay_finite():
    # Catches log(sigmoid(x)) in two steps: it is −inf here.
    assert bce(torch.full((1, 1, 1), -500.0), torch.ones(1, 1, 1)).item() == pytest.approx(500)


def test_mask_types_and_autocast():
    logits = torch.tensor([[[2.0, -1.0]]])
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2
    for dtype in (torch.uint8, torch.bool, torch.float32):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = bce(logits.bfloat16(), torch.tensor([[[1, 0]]]).to(dtype))
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_shapes_must_agree():
    # Catches broadcasting [B, 1, H, W] against [B, H, W] into a silent [B, B, H, W].
    with pytest.raises(ValueError, match="size"):
        bce(torch.zeros(2, 1, 3, 3), torch.zeros(2, 3, 3))
