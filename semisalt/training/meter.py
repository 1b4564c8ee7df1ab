"""Losses of an epoch, summed on the device and looked at rarely."""

from dataclasses import dataclass, field

import torch

from semisalt.methods import Losses


class LossNotFiniteError(Exception):
    """A step's loss was NaN or infinite."""

    def __init__(self, step: int, indices: list[int]) -> None:
        super().__init__(f"step {step}")
        self.step, self.indices = step, indices


@dataclass
class LossMeter:
    """Mean losses and health since the epoch began, by the names they have in the log.

    `sums` and `steps` are what a checkpoint keeps of it.
    """

    sums: dict[str, torch.Tensor] = field(default_factory=dict)
    steps: int = 0
    _unseen: list[tuple[int, torch.Tensor, torch.Tensor]] = field(default_factory=list)

    def add(self, step: int, losses: Losses, indices: torch.Tensor, share: float) -> None:
        """Take a step's losses without waiting for the device. `share` weighs a process's part of the batch."""
        total = losses.total.detach()
        self._unseen.append((step, total, indices))
        named = {f"loss/{name}": value for name, value in {"total": total, **losses.parts}.items()}
        named |= {f"health/{name}": value for name, value in losses.health.items()}
        for name, value in named.items():
            weighed = value.float() * share
            self.sums[name] = self.sums[name] + weighed if name in self.sums else weighed
        self.steps += 1

    def look(self) -> None:
        """Wait for the steps since the last look.

        Raises:
            LossNotFiniteError: names the first step whose loss is not finite, and its tiles.
        """
        if not self._unseen:
            return
        finite = torch.isfinite(torch.stack([total for _, total, _ in self._unseen])).tolist()
        for good, (step, _, indices) in zip(finite, self._unseen, strict=True):
            if not good:
                raise LossNotFiniteError(step, indices.tolist())
        self._unseen.clear()

    def clear(self) -> None:
        """Begin a new epoch."""
        self.sums, self.steps = {}, 0
