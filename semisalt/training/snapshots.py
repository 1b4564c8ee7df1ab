"""Snapshots: weights kept along a training, which later vote together or are averaged into one network."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import nn

from semisalt.inference.weights import save_weights, vote_weights


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
