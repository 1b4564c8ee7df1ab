"""Candidates that only their place gives: the fourth tile of a square whose other three are known.

Noise can hide a tile from its neighbours: each takes others for likelier. Where three tiles of a square of two by two
are known, the fourth adjoins two of them. It may be known already as the neighbour of one, and is a candidate for the
other, whatever that joint looks like; else both joints together tell it from all other tiles.
"""

import numpy as np

from semisalt.mosaics.candidates import Candidates, with_margins
from semisalt.mosaics.evidence import BLOCK, Evidence, Ints

MOST = 2  # tiles that are taken for each corner

Ends = tuple[Ints, Ints]  # first and second tiles of pairs, [P] each
Both = tuple[Evidence, Evidence]  # right, below


def with_corners(
    found: tuple[Candidates, Candidates], known: tuple[Ends, Ends], evidence: Both, screen: Both
) -> tuple[Candidates, Candidates]:
    """The candidates of both directions (right, below), and those that corners of known pairs add to them.

    Args:
        found: the candidates so far.
        known: pairs taken for true; no tile has two neighbours on one side.
        evidence: how well pairs adjoin.
        screen: the same by one model for all tiles, which compares all of them quickly.
    """
    count = len(evidence[0].edges.level_before)
    across, down = ({onwards: _neighbours(ends, count, onwards) for onwards in (True, False)} for ends in known)
    right, below = _Added(), _Added()
    for rightwards in (True, False):
        for downwards in (True, False):
            # Of each tile with a neighbour `across` and one `down`: the fourth of their square, which lies across from
            # the one and down from the other.
            corner = np.flatnonzero((across[rightwards] >= 0) & (down[downwards] >= 0))
            one, other = down[downwards][corner], across[rightwards][corner]
            fourth, by_other = across[rightwards][one], down[downwards][other]
            lacking, by_other_lacking = (fourth < 0) & (by_other >= 0), (by_other < 0) & (fourth >= 0)
            right.add(one[lacking], by_other[lacking], rightwards)
            below.add(other[by_other_lacking], fourth[by_other_lacking], downwards)
            open_ = (fourth < 0) & (by_other < 0)
            asked, tile = _search(screen, (one[open_], other[open_]), (rightwards, downwards))
            right.add(one[open_][asked], tile, rightwards)
            below.add(other[open_][asked], tile, downwards)
    return right.joined(found[0], evidence[0]), below.joined(found[1], evidence[1])


class _Added:
    """Pairs of one direction that are to be candidates."""

    def __init__(self) -> None:
        self.first: list[Ints] = []
        self.second: list[Ints] = []

    def add(self, tiles: Ints, others: Ints, onwards: bool) -> None:
        """Pairs of tiles and their neighbours right or below (`onwards`), or left or above."""
        self.first.append(tiles if onwards else others)
        self.second.append(others if onwards else tiles)

    def joined(self, found: Candidates, evidence: Evidence) -> Candidates:
        """Candidates and these pairs, each once, but for those at borders that say nothing."""
        edges, first, second = evidence.edges, np.concatenate(self.first), np.concatenate(self.second)
        loud = edges.usable_before[first] & edges.usable_after[second] & (first != second)
        count = max(1, len(edges.level_before))
        new = np.setdiff1d(first[loud] * count + second[loud], found.first * count + found.second)
        first, second = np.divmod(new, count)
        return with_margins(
            np.concatenate([found.first, first]),
            np.concatenate([found.second, second]),
            np.concatenate([found.ratio, evidence.of(first, second)]),
            np.concatenate([found.information, evidence.information(first, second)]),
        )


def _neighbours(ends: Ends, count: int, onwards: bool) -> Ints:
    """[N]: each tile's known neighbour right or below (`onwards`), or left or above; −1 where there is none."""
    tiles, others = ends if onwards else ends[::-1]
    found = np.full(count, -1, np.int64)
    found[tiles] = others
    return found


def _search(screen: Both, ends: Ends, onwards: tuple[bool, bool]) -> tuple[Ints, Ints]:
    """Positions of corners, and the tiles that fit them best by both joints; up to `MOST` tiles a corner."""
    corners, tiles = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    if len(ends[0]):
        compare = [part.comparison(forwards) for part, forwards in zip(screen, onwards, strict=True)]
        for start in range(0, len(ends[0]), BLOCK):
            part = slice(start, start + BLOCK)
            ratios = compare[0](ends[0][part]) + compare[1](ends[1][part])
            most = min(MOST, ratios.shape[1])
            best = np.argpartition(ratios, -most, axis=1)[:, -most:]
            fits = np.take_along_axis(ratios, best, axis=1) > -np.inf
            row, place = np.nonzero(fits)
            corners.append(start + row)
            tiles.append(best[row, place])
    return np.concatenate(corners), np.concatenate(tiles)
