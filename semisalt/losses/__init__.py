"""Segmentation losses: plain functions of logits and targets, and the one table that names them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from torch import Tensor

from semisalt.losses.bce import bce
from semisalt.losses.lovasz import lovasz_hinge

LossFunction = Callable[[Tensor, Tensor], Tensor]  # logits and targets [B, H, W] to a scalar

LOSSES: Mapping[str, LossFunction] = MappingProxyType(
    {
        "bce": bce,
        "lovasz_hinge": lovasz_hinge,
        "lovasz_elu": partial(lovasz_hinge, margin="elu"),
        "lovasz_symmetric": partial(lovasz_hinge, symmetric=True),
        "lovasz_elu_symmetric": partial(lovasz_hinge, margin="elu", symmetric=True),
    }
)
