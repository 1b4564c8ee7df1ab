"""Binary cross-entropy."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, autocast


def bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean over all pixels of −y·log σ(x) − (1 − y)·log(1 − σ(x)), from logits: no sigmoid goes before it.

    `logits` and `targets` `[B, H, W]`; targets may be soft, 0 … 1, of any type. Returns a scalar, computed
    in fp32 (double for double logits) even under autocast. Raises ValueError for shapes that differ.
    """
    with autocast(logits.device.type, enabled=False):
        x = at_least_fp32(logits)
        return F.binary_cross_entropy_with_logits(x, targets.to(x.dtype))


def at_least_fp32(logits: Tensor) -> Tensor:
    """Half-precision logits as fp32; fp32 and double stay as they are."""
    return logits.float() if logits.dtype.itemsize < 4 else logits
