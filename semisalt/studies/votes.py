"""Scoring one operating point and one way of voting in milliseconds.

A vote is a mean of its voters' maps. A pixel that every voter puts above the highest threshold of the space, or every
one below the lowest, is decided whatever the weights; only the others (a few in a hundred) are voted on for each trial.
The result is the same, to the bit, as voting on whole maps and post-processing them.
"""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semisalt.inference.postprocess import CHUNK, remove_small
from semisalt.inference.threshold import PROBABILITY, Operating
from semisalt.metrics import N_LEVELS, levels_passed, overlap
from semisalt.studies.views import FoldViews


@dataclass(frozen=True)
class Voting:
    """How voters are heard: the newest `keep` snapshots, each older one `decay` as loud, mirrored or not."""

    keep: int
    decay: float
    flip: bool


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Some tiles of one fold: what is decided, and the voters' words on the rest."""

    view: FoldViews
    at: NDArray[np.int64]  # [n], where the tiles stand among those scored
    decided: NDArray[np.uint8]  # [n, H, W], 1 where decided salt
    open: NDArray[np.int64]  # [U], flat positions of what is not decided
    words: Mapping[tuple[bool, int], NDArray[np.uint8]]  # [U] each
    truth: NDArray[np.uint8]  # [n, H, W]


class Votes:
    """Scores tiles at any operating point within a range of thresholds.

    Args:
        views: the folds' voters; together they hold all out-of-fold tiles, in order.
        truth: [N, H, W], the out-of-fold tiles' masks.
        chosen: [N], the tiles to score.
        thresholds: the least and the greatest that will be asked for.
    """

    def __init__(
        self,
        views: Sequence[FoldViews],
        truth: NDArray[np.uint8],
        chosen: NDArray[np.bool_],
        thresholds: tuple[float, float],
    ) -> None:
        self.count = int(np.count_nonzero(chosen))
        self.thresholds = thresholds
        # Empty whatever is asked for: these tiles are scored once.
        self.settled = np.full(self.count, -1, np.int64)
        least, most = (_least(threshold) for threshold in thresholds)
        rank = np.cumsum(chosen) - 1
        jobs = [
            (view, members[start : start + CHUNK])
            for view in views
            for members in (np.flatnonzero(chosen[view.tiles]),)
            for start in range(0, len(members), CHUNK)
        ]
        self.pool = ThreadPoolExecutor(os.cpu_count())

        def build(job: tuple[FoldViews, NDArray[np.int64]]) -> _Chunk:
            view, members = job
            at = members + view.tiles.start
            return self._build(view, members, rank[at], truth[at], least, most)

        self.chunks = [chunk for chunk in self.pool.map(build, jobs) if len(chunk.at)]

    def scores(self, voting: Voting, operating: Operating) -> NDArray[np.float64]:
        """Each chosen tile's score, float64 [N chosen]. Raises ValueError for a threshold outside the range."""
        if not self.thresholds[0] <= operating.threshold <= self.thresholds[1]:
            raise ValueError(f"threshold {operating.threshold} is outside {self.thresholds}")
        points = self.settled.copy()

        def fill(chunk: _Chunk) -> None:
            points[chunk.at] = _points(chunk, voting, operating)

        list(self.pool.map(fill, self.chunks))  # OpenCV and numpy let go of the interpreter's lock
        return points / N_LEVELS

    def _build(
        self,
        view: FoldViews,
        members: NDArray[np.int64],
        at: NDArray[np.int64],
        truth: NDArray[np.uint8],
        least: int,
        most: int,
    ) -> _Chunk:
        maps = {key: np.asarray(values[members]) for key, values in view.maps.items()}
        lowest = np.minimum.reduce(list(maps.values()))
        highest = np.maximum.reduce(list(maps.values()))
        empty = (highest < least).all(axis=(1, 2))
        self.settled[at[empty]] = np.where(truth[empty].any(axis=(1, 2)), 0, N_LEVELS)
        left = ~empty
        decided = (lowest[left] >= most).view(np.uint8)
        still_open = np.flatnonzero((lowest[left] < most) & (highest[left] >= least))
        words = {key: values[left].ravel()[still_open] for key, values in maps.items()}
        return _Chunk(view, at[left], decided, still_open, words, truth[left])


def _points(chunk: _Chunk, voting: Voting, operating: Operating) -> NDArray[np.int64]:
    """IoU levels passed by each tile of a chunk, [n]."""
    # As inference.predict.vote does it, word for word: the sum is the same to the bit.
    total: NDArray[np.float32] | float = 0.0
    for voter, weight in chunk.view.weights(voting.keep, voting.decay):
        total = total + np.float32(weight) * chunk.words[voting.flip, voter]
    masks = chunk.decided.copy()
    masks.ravel()[chunk.open] = np.rint(total) >= _least(operating.threshold)
    if operating.min_salt > 1 or operating.min_hole > 1:
        masks = remove_small(masks, operating.min_salt, operating.min_hole)
    return levels_passed(*overlap(masks, chunk.truth))


def _least(threshold: float) -> int:
    """The least stored value over a threshold."""
    return int(np.searchsorted(PROBABILITY, threshold, side="right"))
