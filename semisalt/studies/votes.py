"""Scoring one operating point and one way of voting in milliseconds.

A vote is a mean of its voters' maps, all of them mirrored or none. A pixel that every voter puts above the highest
threshold of the space, or every one below the lowest, is decided whatever the weights; only the others (a few in a
hundred) are voted on for each trial. What hangs together with what is found out once, as far as it can be, in
`basins.py`.
The result is the same, to the bit, as voting on whole maps and post-processing them.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semisalt.inference.components import HOLE_CONNECTIVITY, SALT_CONNECTIVITY, find_components
from semisalt.inference.predict import vote
from semisalt.inference.threshold import PROBABILITY, Operating, apply
from semisalt.metrics import N_LEVELS, levels_passed, precision
from semisalt.studies.basins import Basins, find_basins
from semisalt.studies.views import FoldViews

_CHUNK = 2048  # tiles scored at a time: each takes some milliseconds, beside which the calls count little
_BLOCK = 1 << 16  # pixels voted on at a time: their sums stay in the processor's cache


@dataclass(frozen=True)
class Voting:
    """How voters are heard: the newest `keep` snapshots, each older one `decay` as loud, mirrored or not."""

    keep: int
    decay: float
    flip: bool


@dataclass(frozen=True, eq=False)
class _Chunk:
    """Some tiles of one fold, mirrored or not: what its voters say of pixels that are not decided, and what hangs
    together with what.
    """

    view: FoldViews
    at: NDArray[np.int64]  # [n], where the tiles stand among those scored
    words: Sequence[NDArray[np.uint8]]  # [U] each, the oldest voter's first
    true_areas: NDArray[np.int64]  # [n]
    salt: Basins
    background: Basins


def whole_scores(
    views: Sequence[FoldViews],
    truth: NDArray[np.uint8],
    chosen: NDArray[np.bool_],
    voting: Voting,
    operating: Operating,
) -> NDArray[np.float64]:
    """What `Votes` gives, of whole maps: quicker where one point is asked for. Raises ValueError for no tile."""
    scores = []
    for view in views:
        members = np.flatnonzero(chosen[view.tiles])
        if len(members) == 0:
            continue
        voters, weights = zip(*view.weights(voting.keep, voting.decay), strict=True)
        maps = vote((view.maps[voting.flip, voter][members] for voter in voters), weights)
        scores.append(precision(apply(maps, operating), truth[view.tiles][members]))
    return np.concatenate(scores)


class Votes:
    """Scores tiles at any operating point within a range of thresholds.

    Args:
        views: the folds' voters; together they hold all out-of-fold tiles, in order.
        truth: [N, H, W], the out-of-fold tiles' masks.
        chosen: [N], the tiles to score.
        thresholds: the least and the greatest that will be asked for.
        min_salt, min_hole: the greatest sizes of islands and holes that will be asked for.
    """

    def __init__(
        self,
        views: Sequence[FoldViews],
        truth: NDArray[np.uint8],
        chosen: NDArray[np.bool_],
        thresholds: tuple[float, float],
        min_salt: int,
        min_hole: int,
    ) -> None:
        self.count = int(np.count_nonzero(chosen))
        self.thresholds, self.min_salt, self.min_hole = thresholds, min_salt, min_hole
        flips = {flip for view in views for flip, _ in view.maps}
        # Tiles that are empty whatever is asked for are scored once.
        self.settled = {flip: np.full(self.count, -1, np.int64) for flip in flips}
        rank = np.cumsum(chosen) - 1
        jobs = [
            (flip, view, members[start : start + _CHUNK])
            for flip in flips
            for view in views
            for members in (np.flatnonzero(chosen[view.tiles]),)
            for start in range(0, len(members), _CHUNK)
        ]
        self.pool = ThreadPoolExecutor(os.cpu_count())

        def build(job: tuple[bool, FoldViews, NDArray[np.int64]]) -> _Chunk | None:
            flip, view, members = job
            at = members + view.tiles.start
            return self._build(flip, view, members, rank[at], truth[at])

        self.chunks: dict[bool, list[_Chunk]] = {flip: [] for flip in flips}
        for (flip, _, _), chunk in zip(jobs, self.pool.map(build, jobs), strict=True):
            if chunk is not None:
                self.chunks[flip].append(chunk)

    def scores(self, voting: Voting, operating: Operating) -> NDArray[np.float64]:
        """Each chosen tile's score, float64 [N chosen]. Raises ValueError for a point that was not announced."""
        low, high = self.thresholds
        inside = low <= operating.threshold <= high
        if not inside or operating.min_salt > self.min_salt or operating.min_hole > self.min_hole:
            raise ValueError(
                f"{operating} is outside thresholds {self.thresholds}, islands up to {self.min_salt}, "
                f"holes up to {self.min_hole}"
            )
        if voting.decay > 1:
            raise ValueError(f"{voting}: no voter is louder than a newer one")
        points = self.settled[voting.flip].copy()

        def fill(chunk: _Chunk) -> None:
            points[chunk.at] = _points(chunk, voting, operating)

        list(self.pool.map(fill, self.chunks[voting.flip]))  # numpy lets go of the interpreter's lock
        return points / N_LEVELS

    def _build(
        self,
        flip: bool,
        view: FoldViews,
        members: NDArray[np.int64],
        at: NDArray[np.int64],
        truth: NDArray[np.uint8],
    ) -> _Chunk | None:
        least, most = (_least(threshold) for threshold in self.thresholds)
        maps = [np.asarray(view.maps[flip, voter][members]) for voter in range(view.voters)]
        lowest, highest = np.minimum.reduce(maps), np.maximum.reduce(maps)
        empty = (highest < least).all(axis=(1, 2))
        self.settled[flip][at[empty]] = np.where(truth[empty].any(axis=(1, 2)), 0, N_LEVELS)
        left = ~empty
        if not left.any():
            return None
        lowest, highest, truth = lowest[left], highest[left], truth[left]
        pieces = find_components((lowest >= most).view(np.uint8), SALT_CONNECTIVITY)
        # What may be dropped with an island is not decided.
        decided = (pieces.area >= max(self.min_salt, 1))[pieces.labels].view(np.uint8)
        never = (highest < least).view(np.uint8)
        still_open = np.flatnonzero((decided | never) == 0)
        words = [values[left].ravel()[still_open] for values in maps]
        newest_first = words[::-1]  # as loud as any after it: Voting.decay
        salt = find_basins(newest_first, still_open, decided, truth, SALT_CONNECTIVITY)
        background = find_basins([~word for word in newest_first], still_open, never, truth, HOLE_CONNECTIVITY)
        # By basin of salt, with words of 0 between basins: these are never salt.
        order = salt.pixels
        assert order is not None  # noqa: S101  # they lie tile by tile as yet
        return _Chunk(
            view,
            at[left],
            [np.append(word, np.uint8(0)).take(order) for word in words],
            np.count_nonzero(truth, axis=(1, 2)),
            salt.laid_out(order),
            background.counting_below(self.min_hole).laid_out(order),
        )


def _points(chunk: _Chunk, voting: Voting, operating: Operating) -> NDArray[np.int64]:
    """IoU levels passed by each tile of a chunk, [n]."""
    heard = chunk.view.weights(voting.keep, voting.decay)
    salt = _passes([(chunk.words[voter], weight) for voter, weight in heard], _least(operating.threshold))
    n = len(chunk.at)
    counts = chunk.salt.count(salt)
    areas = chunk.salt.per_tile(counts, n)  # predicted salt, and how much of it is salt in truth
    if operating.min_salt > 1:
        islands = chunk.salt.small(salt, counts[0], operating.min_salt)
        areas -= chunk.salt.per_tile(counts, n, islands)
        salt[chunk.salt.open_pixels(islands)] = False
    if operating.min_hole > 1:
        counts = chunk.background.count(~salt)
        holes = chunk.background.small(~salt, counts[0], operating.min_hole)
        holes = holes[areas[0, chunk.background.tile[holes]] > 0]  # a tile without salt stays empty
        areas += chunk.background.per_tile(counts, n, holes)
    return levels_passed(areas[1], areas[0] + chunk.true_areas - areas[1])


def _passes(words: Sequence[tuple[NDArray[np.uint8], float]], least: int) -> NDArray[np.bool_]:
    """Where the mean of some voters' words [U] by their weights, rounded, is `least` or more."""
    (first, loud), *others = words
    # Halves are rounded to even numbers: they come up to `least` where that is even.
    reaches = np.greater_equal if least % 2 == 0 else np.greater
    half = np.float32(least - 0.5)
    passed = np.empty(len(first), np.bool_)
    sums, parts = np.empty((2, min(_BLOCK, len(first))), np.float32)
    for start in range(0, len(first), _BLOCK):
        block = slice(start, start + _BLOCK)
        total = sums[: len(first[block])]
        # As inference.predict.vote does it, word for word: the sum is the same to the bit.
        np.multiply(first[block], np.float32(loud), out=total)
        for word, weight in others:
            total += np.multiply(word[block], np.float32(weight), out=parts[: len(total)])
        reaches(total, half, out=passed[block])
    return passed


def _least(threshold: float) -> int:
    """The least stored value over a threshold."""
    return int(np.searchsorted(PROBABILITY, threshold, side="right"))
