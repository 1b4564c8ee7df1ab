"""Weighted sums of named losses."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from semisalt.losses import LOSSES


class UnknownLossError(KeyError, ValueError):
    """No loss has this name. A ValueError too: a configuration's validator then reports it in its place."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the message in quotes


def mix(logits: Tensor, targets: Tensor, weights: Mapping[str, float]) -> tuple[Tensor, dict[str, Tensor]]:
    """Σ weight · loss, and each loss by name without its weight.

    `logits` and `targets` `[B, H, W]`. The parts are detached scalars on the logits' device, so nothing waits
    for the device here. Raises UnknownLossError for a name that is not in LOSSES, ValueError for no weights.
    """
    check_names(weights)
    if not weights:
        raise ValueError(f"a loss mix needs at least one of {', '.join(LOSSES)}")
    losses = {name: LOSSES[name](logits, targets) for name in weights}
    total = torch.stack([weight * losses[name] for name, weight in weights.items()]).sum()
    return total, {name: loss.detach() for name, loss in losses.items()}


def check_names(names: Iterable[str]) -> None:
    """Raises UnknownLossError, with the nearest known name, for the first name that is not in LOSSES."""
    for name in names:
        if name not in LOSSES:
            nearest = difflib.get_close_matches(name, LOSSES, n=1, cutoff=0.0)[0]
            raise UnknownLossError(f"unknown loss {name!r}: did you mean {nearest!r}? Known: {', '.join(LOSSES)}")
