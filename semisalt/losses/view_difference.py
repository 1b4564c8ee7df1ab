"""Difference of several networks: what fools one must not fool another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import permutations

import torch
from torch import Tensor

from semisalt.losses.bce import at_least_fp32, bce


def view_difference(clean: Sequence[Tensor], fooled: Mapping[tuple[int, int], Tensor]) -> Tensor:
    """Twice the mean over ordered pairs (i, j), i ≠ j, of H(pᵢ(x), pⱼ(gᵢ(x))).

    gᵢ makes an adversarial example against view i, and view j is taught what view i says of the tile itself. H(q, p) is
    the binary cross-entropy −q·log p − (1 − q)·log(1 − p), mean over all pixels. Of two views this is the paper's sum
    H(p₁(x), p₂(g₁(x))) + H(p₂(x), p₁(g₂(x))); of more it stays of that size, whatever their number.

    Args:
        clean: view i's logits `[B, H, W]` on its tiles x; constants, through which no gradient flows.
        fooled: by (i, j), view j's logits `[B, H, W]` on gᵢ(x).

    Returns:
        A scalar, computed in fp32 (double for double logits) even under autocast.

    Raises:
        ValueError: fewer than two views, a pair that is missing or too many, or shapes that differ.

    Source: Qiao et al., "Deep Co-Training for Semi-Supervised Image Recognition", ECCV 2018, equation 5.
    """
    pairs = list(permutations(range(len(clean)), 2))
    if not pairs or set(pairs) != set(fooled):
        raise ValueError(f"{len(clean)} view(s) differ by the pairs {pairs}, got {sorted(fooled)}")
    targets = [at_least_fp32(logits.detach()).sigmoid() for logits in clean]
    return 2 * torch.stack([bce(fooled[i, j], targets[i]) for i, j in pairs]).mean()
