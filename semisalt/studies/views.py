"""What a finished run's voters say of their own validation tiles: each alone, with and without mirroring, on disk.

RUN/views/ holds one uint8 file [n, H, W] for each voter and view, p = value / 255; its name carries a digest of the
weights and the tiles, so that it is read again only for the same ones.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from semisalt.data.channels import Channels
from semisalt.data.tiles import TileSet
from semisalt.errors import UserError
from semisalt.files import write_array
from semisalt.inference.build import build_network
from semisalt.inference.ensemble import voters_of
from semisalt.inference.evaluate import load_oof
from semisalt.inference.predict import Predictor, quantise
from semisalt.inference.weights import load_weights, vote_weights
from semisalt.precision import Precision
from semisalt.run import RunDirectory

Maps = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class FoldViews:
    """One fold's voters on its own validation tiles.

    Attributes:
        tiles: where the fold's tiles stand among all out-of-fold tiles.
        maps: by (mirrored, voter), the oldest voter first; uint8 [n, H, W], read from disk as needed.
        fixed: how loud each voter is where the study does not search that; None where it does.
    """

    tiles: slice
    maps: dict[tuple[bool, int], Maps]
    fixed: tuple[float, ...] | None

    @property
    def voters(self) -> int:
        """How many there are."""
        return 1 + max(voter for _, voter in self.maps)

    def weights(self, keep: int, decay: float) -> list[tuple[int, float]]:
        """The voters that are heard, and how loud: the newest `keep`, each `decay` as loud as the next."""
        if self.fixed is not None:
            return list(enumerate(self.fixed))
        kept = min(keep, self.voters)
        return list(zip(range(self.voters - kept, self.voters), vote_weights(kept, decay), strict=True))


def stored_views(run: RunDirectory, labelled: TileSet) -> list[FoldViews]:
    """The run's own out-of-fold probabilities as they are: one voter a fold, mirrored as the run has it."""
    probabilities, _, fold_of = load_oof(run, labelled)
    flip = run.config.inference.flip
    return [FoldViews(part, {(flip, 0): probabilities[part]}, (1.0,)) for part in _parts(fold_of)]


def predicted_views(
    run: RunDirectory,
    labelled: TileSet,
    device: torch.device,
    announce: Callable[[str], None],
    *,
    snapshots: bool,
    flips: tuple[bool, ...],
) -> list[FoldViews]:
    """Every voter of every finished fold on its validation tiles; what lies in RUN/views is not predicted again.

    Args:
        run: finished folds of it.
        labelled: the run's labelled tiles.
        device: where the networks run.
        announce: told of each prediction.
        snapshots: each snapshot is a voter; else those that the run itself predicts with.
        flips: with mirroring, without, or both.

    Raises:
        UserError: no fold is finished, or the weights are gone.
    """
    _, tiles, fold_of = load_oof(run, labelled)
    config, channels = run.config, Channels(**run.channels)
    network = build_network(config, channels, weights="none").to(device)
    network.to(memory_format=torch.channels_last)
    views = []
    for fold, part in zip(run.finished_folds(), _parts(fold_of), strict=True):
        own = tiles.subset(np.arange(part.start, part.stop))
        files = _snapshots(run, fold) if snapshots else [path for path, _ in voters_of(run, fold)]
        maps = {}
        for flip in flips:
            predictor = Predictor(channels, device, _precision(run), config.inference.batch, flip)
            for voter, file in enumerate(files):
                target = _target(run, fold, file, own, flip)
                if not target.exists():
                    announce(f"fold {fold}, {file.name}, {'' if flip else 'not '}mirrored: {len(own)} tiles → {target}")
                    load_weights(file, network)
                    write_array(target, quantise(predictor(network, own)))
                maps[flip, voter] = np.load(target, mmap_mode="r")
        fixed = None if snapshots else tuple(weight for _, weight in voters_of(run, fold))
        views.append(FoldViews(part, maps, fixed))
    return views


def _parts(fold_of: NDArray[np.int64]) -> list[slice]:
    """Where each fold's tiles stand; they stand together."""
    edges = [0, *(np.flatnonzero(np.diff(fold_of)) + 1).tolist(), len(fold_of)]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def _snapshots(run: RunDirectory, fold: int) -> list[Path]:
    return [run.fold(fold).snapshots / snapshot["file"] for snapshot in run.fold_result(fold)["snapshots"]]


def _target(run: RunDirectory, fold: int, weights: Path, tiles: TileSet, flip: bool) -> Path:
    if not weights.exists():
        raise UserError(
            f"{weights} is gone, and snapshots or mirroring cannot be searched without it: train the run again, or "
            "search threshold, min_salt and min_hole alone"
        )
    digest = hashlib.sha256(weights.read_bytes() + "\n".join(tiles.ids).encode()).hexdigest()[:16]
    return run.path / "views" / f"fold{fold}-{weights.stem}-{'mirrored' if flip else 'plain'}-{digest}.npy"


def _precision(run: RunDirectory) -> Precision:
    precision = run.config.training.precision
    if precision == "auto":
        raise ValueError("a run's configuration is settled")
    return precision
