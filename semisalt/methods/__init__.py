"""What a training step computes. The loop (training/fit.py) knows nothing else of a method."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import nn

from semisalt.data.batches import Batch


@dataclass(frozen=True)
class Progress:
    """Where a training stands: epoch and step from 0, and the share of all steps that are done."""

    epoch: int
    step: int
    share: float


@dataclass(frozen=True)
class Losses:
    """A step's scalar to minimise, and detached scalars for the log: its named parts, and how healthy the step was.

    A method that teaches itself has among its parts what the labels gave, weighed as it is in the total: `supervised`.
    """

    total: torch.Tensor
    parts: dict[str, torch.Tensor] = field(default_factory=dict)
    health: dict[str, torch.Tensor] = field(default_factory=dict)


class Method(Protocol):
    """A way of learning.

    `networks` are trained and checkpointed. The loop replaces each by its compiled or distributed form before the
    first step, so `step` calls `self.networks[i]` and keeps no other reference. `followers` are moved to the device
    with them, and never trained. `predictor` is the plain network that is validated, kept as snapshots and used for
    predictions; `beside` names others whose score is logged. `state_dict` holds what else a resumed run needs: a method
    that has nothing of the kind leaves these as they are here.
    """

    networks: list[nn.Module]
    followers: list[nn.Module]

    def step(self, batch: Batch, progress: Progress) -> Losses:
        """The losses of one batch, under the loop's precision."""
        ...

    def after_step(self, progress: Progress) -> None:  # noqa: ARG002
        """Called when the optimiser has moved the weights."""
        return

    def predictor(self) -> nn.Module:
        """The network whose predictions count."""
        ...

    def beside(self) -> dict[str, nn.Module]:
        """Plain networks that are validated for the log alone, by name."""
        return {}

    def state_dict(self) -> dict[str, torch.Tensor]:
        """State beside the networks' own."""
        return {}

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:  # noqa: ARG002
        """Restore `state_dict`."""
        return
