"""The operating point: threshold and component sizes, chosen on cached out-of-fold probabilities.

Probabilities are uint8, p = value / 255, and salt is p > threshold.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semisalt.inference.components import (
    HOLE_CONNECTIVITY,
    SALT_CONNECTIVITY,
    Components,
    find_components,
    lay_out,
)
from semisalt.inference.postprocess import CHUNK, remove_small
from semisalt.metrics import N_LEVELS, Masks, levels_passed

THRESHOLDS = tuple(round(0.2 + 0.02 * step, 2) for step in range(31))  # .20 … .80
MIN_SALTS = (0, 10, 20, 40, 80, 160)
MIN_HOLES = (0, 20, 80)

PROBABILITY = np.arange(256) / 255  # of each stored value


@dataclass(frozen=True)
class Operating:
    """Salt is p > `threshold`; islands under `min_salt` and holes under `min_hole` pixels are dropped."""

    threshold: float
    min_salt: int = 0
    min_hole: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1 or min(self.min_salt, self.min_hole) < 0:
            raise ValueError(f"a threshold lies in 0 … 1 and sizes are 0 or more; got {self}")

    @property
    def words(self) -> str:
        """For people."""
        sizes = {"islands": self.min_salt, "holes": self.min_hole}
        dropped = " and ".join(f"{name} under {size} px" for name, size in sizes.items() if size)
        return f"salt where p > {self.threshold:.2f}, {dropped or 'nothing'} dropped"


class Curve(NamedTuple):
    """The score at each threshold, `[T]` each."""

    thresholds: NDArray[np.float64]
    scores: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Search:
    """The best operating point, its mean precision, and the curve over thresholds at the best sizes."""

    best: Operating
    score: float
    curve: Curve


@dataclass(frozen=True, eq=False)
class Grid:
    """Each tile's score at each operating point of a grid, from which choices are made in milliseconds."""

    thresholds: tuple[float, ...]
    min_salts: tuple[int, ...]
    min_holes: tuple[int, ...]
    points: NDArray[np.uint8]  # [T, S, H, N]: how many of the ten IoU levels the tile passes

    def search(self) -> Search:
        """The operating point with the best mean precision.

        The choice among equals is the middle of the longest row of winning thresholds, the lower of two;
        among equally long rows the smaller sizes win, then the lower threshold.
        """
        n = self.points.shape[-1]
        if n == 0:
            raise ValueError("a search needs at least one tile")
        totals = self.points.sum(axis=-1, dtype=np.int64)  # integers: equal scores are exactly equal
        threshold, salt, hole = _middle_of_plateau(totals)
        best = Operating(self.thresholds[threshold], self.min_salts[salt], self.min_holes[hole])
        scores = totals[:, salt, hole] / (N_LEVELS * n)
        return Search(best, float(scores[threshold]), Curve(np.array(self.thresholds), scores))

    def cross_fitted(self, groups: NDArray[np.int64], usable: NDArray[np.bool_] | None = None) -> NDArray[np.float64]:
        """The score of each tile `[N]` at the operating point chosen on the tiles of all other groups.

        `usable` `[N]`: the tiles that may be chosen on; all of them without it.

        Raises ValueError for fewer than two groups, or another number of tiles.
        """
        if groups.shape != self.points.shape[-1:] or len(np.unique(groups)) < 2:
            raise ValueError("cross-fitting needs a group for each tile, and two groups or more")
        scores = np.empty(len(groups))
        for group in np.unique(groups):
            held_out = groups == group
            best = self.only(~held_out if usable is None else ~held_out & usable).search().best
            at = (
                self.thresholds.index(best.threshold),
                self.min_salts.index(best.min_salt),
                self.min_holes.index(best.min_hole),
            )
            scores[held_out] = self.points[at][held_out] / N_LEVELS
        return scores

    def only(self, tiles: NDArray[np.bool_]) -> Grid:
        """The same grid on some of its tiles, given by a mask `[N]`."""
        return Grid(self.thresholds, self.min_salts, self.min_holes, self.points[..., tiles])


def apply(probabilities: NDArray[np.uint8], operating: Operating) -> NDArray[np.uint8]:
    """Masks `[N, H, W]` of 0 and 1 from uint8 probabilities of that shape."""
    salt = _over(probabilities, operating.threshold)
    return remove_small(salt, operating.min_salt, operating.min_hole)


def search(
    probabilities: NDArray[np.uint8],
    truth: Masks,
    thresholds: Sequence[float] = THRESHOLDS,
    min_salts: Sequence[int] = MIN_SALTS,
    min_holes: Sequence[int] = MIN_HOLES,
) -> Search:
    """The best operating point of a grid on these tiles; see `Grid.search` for ties, `tabulate` for errors.

    Its score is the best of many on the same tiles, hence flattering: `cross_fitted` gives the honest figure.
    """
    return tabulate(probabilities, truth, thresholds, min_salts, min_holes).search()


def cross_fitted(
    probabilities: NDArray[np.uint8],
    truth: Masks,
    groups: NDArray[np.int64],
    thresholds: Sequence[float] = THRESHOLDS,
    min_salts: Sequence[int] = MIN_SALTS,
    min_holes: Sequence[int] = MIN_HOLES,
) -> NDArray[np.float64]:
    """Each tile's score at the operating point that the other groups chose; see `Grid.cross_fitted`."""
    return tabulate(probabilities, truth, thresholds, min_salts, min_holes).cross_fitted(groups)


def tabulate(
    probabilities: NDArray[np.uint8],
    truth: Masks,
    thresholds: Sequence[float] = THRESHOLDS,
    min_salts: Sequence[int] = MIN_SALTS,
    min_holes: Sequence[int] = MIN_HOLES,
) -> Grid:
    """Score every tile at every operating point. `probabilities` and `truth` `[N, H, W]`.

    The components of a tile are found once a threshold: what every size would drop follows from their areas.
    Raises ValueError for an axis that is empty or does not rise, unfit shapes, or probabilities not in uint8.
    """
    if probabilities.dtype != np.uint8 or probabilities.ndim != 3 or probabilities.shape != truth.shape:
        raise ValueError(
            f"need uint8 probabilities [N, H, W] and masks of their shape; "
            f"got {probabilities.dtype} {probabilities.shape} and {truth.shape}"
        )
    axes = (tuple(thresholds), tuple(min_salts), tuple(min_holes))
    for axis in axes:
        if not axis or list(axis) != sorted(set(axis)):
            raise ValueError(f"an axis of the grid must rise from value to value; got {axis}")
    points = np.empty((*map(len, axes), len(truth)), np.uint8)

    def fill(start: int) -> None:
        chunk = slice(start, start + CHUNK)
        points[..., chunk] = _chunk_points(probabilities[chunk], truth[chunk], *axes)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # OpenCV and numpy let go of the interpreter's lock
        list(pool.map(fill, range(0, len(truth), CHUNK)))
    return Grid(*axes, points)


def _chunk_points(
    probabilities: NDArray[np.uint8],
    truth: Masks,
    thresholds: Sequence[float],
    min_salts: Sequence[int],
    min_holes: Sequence[int],
) -> NDArray[np.int64]:
    """IoU levels passed, `[T, S, H, N]`."""
    salt_before = lay_out(truth != 0).reshape(len(truth), -1).cumsum(axis=1, dtype=np.int32)
    true_area = salt_before[:, -1]
    points = []
    for threshold in thresholds:
        area, hit = _areas(_over(probabilities, threshold), salt_before, min_salts, min_holes)
        points.append(levels_passed(hit, area + true_area - hit))
    return np.stack(points)


def _areas(
    masks: NDArray[np.uint8],
    salt_before: NDArray[np.int32],
    min_salts: Sequence[int],
    min_holes: Sequence[int],
) -> NDArray[np.int64]:
    """Predicted area and its overlap with the truth at all sizes, `[2, S, H, N]`."""
    islands = find_components(masks, SALT_CONNECTIVITY)
    sizes = _sizes(islands, salt_before)
    areas = np.empty((2, len(min_salts), len(min_holes), len(masks)), np.int64)
    filled = np.zeros((2, len(min_holes), len(masks)), np.int64)
    background = 1 - masks
    dropped = islands.area == 0
    for step, min_salt in enumerate(min_salts):
        kept = islands.area >= max(min_salt, 1)
        salt = _per_tile(islands.tile, sizes, kept, len(masks))
        lost = np.zeros(len(masks), np.bool_)
        lost[islands.tile[~(kept | dropped)]] = True
        # A dropped island joins the background beside it: holes may grow or merge, but none is born.
        again = lost & (filled[0, -1] > 0) if step > 0 else np.ones_like(lost)
        dropped = ~kept
        background[again & lost] = dropped[islands.labels[again & lost]]
        filled[:, :, again] = 0
        salty = np.flatnonzero(again & (salt[0] > 0))
        if min_holes[-1] > 1 and len(salty):
            filled[:, :, salty] = _holes(background[salty], salt_before[salty], min_holes)
        areas[:, step] = salt[:, None] + filled
    return areas


def _holes(
    background: NDArray[np.uint8], salt_before: NDArray[np.int32], min_holes: Sequence[int]
) -> NDArray[np.int64]:
    """Area of the holes under each size and its overlap with the truth, `[2, H, N]`."""
    holes = find_components(background, HOLE_CONNECTIVITY)
    sizes = _sizes(holes, salt_before)
    small = [(holes.area < min_hole) & (holes.area > 0) for min_hole in min_holes]
    return np.stack([_per_tile(holes.tile, sizes, which, len(background)) for which in small], axis=1)


def _sizes(components: Components, salt_before: NDArray[np.int32]) -> NDArray[np.int64]:
    """Area of each component and how much of it is truly salt, `[2, K]`."""
    starts, ends = (components.runs - 1).T  # counts run up to and with a pixel; each row begins with padding
    counts = salt_before.ravel()
    hits = np.bincount(components.run_component, weights=counts[ends] - counts[starts], minlength=len(components.area))
    return np.stack([components.area, hits.astype(np.int64)])


def _per_tile(tile: NDArray[np.int64], sizes: NDArray[np.int64], which: NDArray[np.bool_], n: int) -> NDArray[np.int64]:
    """Sizes of the chosen components summed over each tile, `[2, N]`."""
    sums = [np.bincount(tile[which], weights=values[which], minlength=n) for values in sizes]
    return np.stack(sums).astype(np.int64)


def _middle_of_plateau(totals: NDArray[np.int64]) -> tuple[int, int, int]:
    """Where in `[T, S, H]` the choice falls among the highest values; the rule stands at `Grid.search`."""
    winning = totals == totals.max()
    longest = 0
    choice = (0, 0, 0)
    for salt, hole in np.ndindex(winning.shape[1:]):
        edges = np.diff(winning[:, salt, hole].astype(np.int8), prepend=0, append=0)
        for start, end in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
            if end - start > longest:
                longest = int(end - start)
                choice = (int(start + end - 1) // 2, salt, hole)
    return choice


def _over(probabilities: NDArray[np.uint8], threshold: float) -> NDArray[np.uint8]:
    """Where p > threshold, strictly, as 0 and 1."""
    least = int(np.searchsorted(PROBABILITY, threshold, side="right"))  # 256 where nothing lies over it
    return (probabilities >= least).view(np.uint8)
