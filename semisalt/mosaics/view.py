"""What the rules may look at: labels that are known, predictions, and who lies beside whom."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from semisalt.data.tiles import Survey, TileSet, join
from semisalt.errors import UserError
from semisalt.inference.threshold import Operating
from semisalt.metrics import Masks, precision
from semisalt.mosaics.grid import STEPS, Mosaics, Pairs, Side
from semisalt.run import RunDirectory, read_csv

Flags = NDArray[np.bool_]

HALF = Operating(0.5)  # nothing chosen on any tile


@dataclass(frozen=True, eq=False)
class View:
    """N tiles on the mosaic grid.

    Attributes:
        ids: the tiles' names.
        neighbours: index of the tile on each side or −1, [N] each.
        joint: probability that the neighbour there is the true one, [N] each; 0 where there is none.
        labels: [N, H, W], 0 or 1; all zero where not known, so that no rule can read a label that it may not use.
        known: [N], whose label is known.
        targets: [N], the tiles that are predicted and may be corrected; never a known one.
        probabilities: [N, H, W], p = value / 255; meaningless where not a target.
        operating: how probabilities become masks.

    Raises:
        ValueError: a label that is not known is given, or a target's.
    """

    ids: tuple[str, ...]
    neighbours: Mapping[Side, NDArray[np.int64]]
    joint: Mapping[Side, NDArray[np.float32]]
    labels: NDArray[np.uint8]
    known: Flags
    targets: Flags
    probabilities: NDArray[np.uint8]
    operating: Operating = HALF

    def __post_init__(self) -> None:
        if (self.known & self.targets).any() or self.labels[~self.known].any():
            raise ValueError("a label that is not known, or a target's, was given to the rules")

    def pairs(self, tiles: Flags, side: Side) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Those of `tiles` that have a neighbour on a side, and these neighbours."""
        first = np.flatnonzero(tiles & (self.neighbours[side] >= 0))
        return first, self.neighbours[side][first]

    def rehearsed(self, tiles: NDArray[np.int64], masks: Masks) -> float:
        """The score to expect of masks proposed for `tiles`, from those of them whose label is known."""
        known = self.known[tiles]
        return expected(precision(masks[known], self.labels[tiles[known]]))


def view_of(
    mosaics: Mosaics,
    pairs: Pairs,
    masks: NDArray[np.uint8],
    known: Flags,
    targets: NDArray[np.int64],
    probabilities: NDArray[np.uint8],
    operating: Operating = HALF,
) -> View:
    """What the rules see of a survey.

    Args:
        mosaics: where each of N tiles lies.
        pairs: the tiles that lie side by side in them.
        masks: [L, H, W], labels of the first L tiles.
        known: [N], whose label may be used; others are withheld.
        targets: [n], the tiles that are predicted.
        probabilities: [n, H, W], theirs.
        operating: how probabilities become masks.
    """
    shape = (len(mosaics), *masks.shape[1:])
    labels, maps, wanted = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8), np.zeros(len(mosaics), np.bool_)
    labels[: len(masks)][known[: len(masks)]] = masks[known[: len(masks)]]
    maps[targets], wanted[targets] = probabilities, True
    joint = {side: np.nan_to_num(mosaics.joint(side, pairs)) for side in STEPS}
    return View(mosaics.ids, mosaics.neighbours(), joint, labels, known, wanted, maps, operating)


def all_tiles(survey: Survey, mosaics: Mosaics) -> TileSet:
    """A survey's labelled tiles, then its unlabelled ones, without masks: the order of its mosaics.

    Raises:
        UserError: the mosaics are of other tiles.
    """
    tiles = join(replace(survey.labelled, masks=None), survey.unlabelled)
    if tiles.ids != mosaics.ids:
        raise UserError(f"the mosaics are not of the tiles of {survey.source}: build them again from it")
    return tiles


def known_labels(run: RunDirectory, ids: tuple[str, ...], fold: int | None) -> Flags:
    """[N]: the tiles whose labels a fold of a run may use, its training tiles; with None those that the run may use.

    Raises:
        UserError: folds.csv names none of these tiles.
    """
    rows = read_csv(run.path / "folds.csv")
    usable = {row["id"] for row in rows if row["label_used"] == "1" and row["fold"] != str(fold)}
    known = np.array([tile in usable for tile in ids], np.bool_)
    if usable and not known.any():
        raise UserError(
            f"{run.path}: its labelled tiles are not among the mosaics': build them from the run's own data"
        )
    return known


def expected(scores: NDArray[np.float64]) -> float:
    """The score to expect after these, 0 … 1 each: Laplace's rule of succession, ½ after none."""
    return float((scores.sum() + 1) / (len(scores) + 2))
