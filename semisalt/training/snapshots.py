"""Snapshots: weights kept along a training, which later vote together or are averaged into one network."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from semisalt.files import atomic


@dataclass(frozen=True)
class Snapshot:
    """One kept set of weights: its epoch (from 0), its validation score and its file's name."""

    epoch: int
    score: float
    file: str


class Snapshots:
    """The last `keep` snapshots of a fold, oldest first.

    With `best` a snapshot is taken at each new best validation score; with `last` at each validation, blindly, which
    keeps the choice independent of the validation tiles.
    """

    def __init__(self, folder: Path, *, keep: int, select: Literal["best", "last"]) -> None:
        self.folder, self.keep, self.select = folder, keep, select
        self.kept: list[Snapshot] = []

    def consider(self, epoch: int, score: float, new_best: bool, network: nn.Module, write: bool) -> None:
        """Keep the network's weights if they qualify; only the process that has `write` touches the disk."""
        if self.select == "best" and not new_best:
            return
        snapshot = Snapshot(epoch, score, f"epoch{epoch:04d}.safetensors")
        if write:
            save_weights(self.folder / snapshot.file, network)
        self.kept = [*self.kept, snapshot][-self.keep :]

    def discard_others(self) -> None:
        """Remove files that are not in the list: dropped ones, and leftovers of a killed process."""
        names = {snapshot.file for snapshot in self.kept}
        for file in self.folder.glob("*.safetensors"):
            if file.name not in names:
                file.unlink()

    def state(self) -> list[dict[str, Any]]:
        """The list as plain values, for the checkpoint."""
        return [asdict(snapshot) for snapshot in self.kept]

    def restore(self, state: Sequence[dict[str, Any]]) -> None:
        """Take up the list of a checkpoint."""
        self.kept = [Snapshot(**entry) for entry in state]

    def files(self) -> list[Path]:
        """The snapshots' files, oldest first."""
        return [self.folder / snapshot.file for snapshot in self.kept]


def vote_weights(count: int, decay: float) -> list[float]:
    """Exponentially decreasing weights, newest (last) heaviest, adding up to 1.

    Source: the 27th place's write-up of the TGS challenge ('10 last best snapshots, exponentially decreasing').
    """
    raw = [decay ** (count - 1 - position) for position in range(count)]
    return [weight / sum(raw) for weight in raw]


def average_weights(files: Sequence[Path], decay: float) -> dict[str, torch.Tensor]:
    """The snapshots' weighted mean, computed in fp64; integer buffers come from the newest.

    Batch-norm statistics of the mean are only a start: they belong to weights that no training step ever saw and have
    to be estimated again (Izmailov et al. 2018).
    """
    weights = vote_weights(len(files), decay)
    newest = load_file(files[-1])
    total = {name: torch.zeros_like(tensor, dtype=torch.float64) for name, tensor in newest.items()}
    for file, weight in zip(files, weights, strict=True):
        for name, tensor in load_file(file).items():
            total[name] += weight * tensor.double()
    return {
        name: total[name].to(tensor.dtype) if tensor.is_floating_point() else tensor for name, tensor in newest.items()
    }


def save_weights(path: Path, network: nn.Module) -> None:
    """Write a network's weights as safetensors, atomically."""
    # safetensors refuses channels-last strides; the values are what counts.
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with atomic(path) as temporary:
        save_file(state, temporary)


def load_weights(path: Path, network: nn.Module) -> None:
    """Load safetensors into a network of the same shape."""
    network.load_state_dict(load_file(path))
