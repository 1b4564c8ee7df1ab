"""Several networks that speak as one."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn


class Views(nn.ModuleList):
    """Networks whose mean probability is the prediction: what co-training leaves.

    Maps [B, C, H, W] to logits fp32 [B, H, W]: log p̄ − log(1 − p̄) with p̄ = mean σ(xᵢ), from log-sigmoids, so that sure
    views lose no digits.
    """

    def __init__(self, networks: Iterable[nn.Module]) -> None:
        super().__init__(networks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The logit of the mean probability."""
        return mean_logit(torch.stack([network(x) for network in self]))


def mean_logit(logits: torch.Tensor) -> torch.Tensor:
    """The logit of the mean over the first axis of σ(logits), fp32 [...] of [V, ...]."""
    x = logits.float()
    return F.logsigmoid(x).logsumexp(dim=0) - F.logsigmoid(-x).logsumexp(dim=0)
