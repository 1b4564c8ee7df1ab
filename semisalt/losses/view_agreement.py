"""Agreement of several networks on tiles that nobody has labelled."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, autocast

from semisalt.losses.bce import at_least_fp32


def view_agreement(logits: Tensor) -> Tensor:
    """Mean over all pixels of H((p₁ + … + p_V)/V) − (H(p₁) + … + H(p_V))/V with p = σ(x): 0 where all views agree.

    H is the entropy of a binary choice, both of its classes counted: the views' Jensen–Shannon divergence. `logits` x
    `[V, B, H, W]`, V ≥ 2; the gradient reaches every view. Returns a scalar, computed from log-sigmoids in fp32 (double
    for double logits) even under autocast, so that sure views give no NaN. Raises ValueError for fewer than two views.
    Source: Qiao et al., "Deep Co-Training for Semi-Supervised Image Recognition", ECCV 2018, equation 3.
    """
    if len(logits) < 2:
        raise ValueError(f"{len(logits)} view(s) given: only two or more can agree")
    with autocast(logits.device.type, enabled=False):
        x = at_least_fp32(logits)
        salt, background = F.logsigmoid(x), F.logsigmoid(-x)
        of_each = _entropy(salt, background).mean(dim=0)
        # The logarithm of the mean probability: that of a sure view's p would be −∞ if p were rounded to 0 first.
        views = torch.tensor(len(x), dtype=x.dtype, device=x.device).log()
        of_mean = _entropy(salt.logsumexp(dim=0) - views, background.logsumexp(dim=0) - views)
        return (of_mean - of_each).mean()


def _entropy(salt: Tensor, background: Tensor) -> Tensor:
    """H of log-probabilities: −p·log p − (1 − p)·log(1 − p)."""
    return -(salt.exp() * salt + background.exp() * background)
