"""Agreement of a student's logits with a teacher's probabilities, over pixels that count."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, autocast

from semisalt.losses.bce import at_least_fp32


def squared_consistency(logits: Tensor, probabilities: Tensor) -> Tensor:
    """Mean over all pixels of 2(σ(x) − q)²: the squared error summed over the two classes.

    `logits` x and `probabilities` q `[B, H, W]`; q is a constant. Returns a scalar, computed in fp32 even under
    autocast. Source: Tarvainen & Valpola, "Mean teachers are better role models", NeurIPS 2017.
    """
    with autocast(logits.device.type, enabled=False):
        return 2 * (at_least_fp32(logits).sigmoid() - probabilities.detach()).square().mean()


def threshold_consistency(logits: Tensor, probabilities: Tensor, confidence: float) -> Tensor:
    """BCE against the teacher's hard decisions [q > ½], where max(q, 1 − q) ≥ `confidence`.

    Other pixels are ignored, which is not the same as calling them background; the sum is divided by the number of all
    pixels, so that few sure pixels weigh little. `logits` and `probabilities` q `[B, H, W]`; q is a constant. Returns a
    scalar, computed in fp32 even under autocast. Source: Sohn et al., "FixMatch", NeurIPS 2020.
    """
    with autocast(logits.device.type, enabled=False):
        q = probabilities.detach()
        x = at_least_fp32(logits)
        losses = F.binary_cross_entropy_with_logits(x, (q > 0.5).to(x.dtype), reduction="none")
        return torch.where(sure(q, confidence), losses, 0.0).mean()


def sure(probabilities: Tensor, confidence: float) -> Tensor:
    """Where max(q, 1 − q) ≥ `confidence`, bool of the same shape."""
    return torch.maximum(probabilities, 1 - probabilities) >= confidence
