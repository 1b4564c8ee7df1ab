"""Putting tiles together: the surest pair first, rigid pieces joined, what contradicts them refused."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from semisalt.mosaics.grid import Mosaics, Pairs

Place = tuple[int, int]
Fit = Callable[[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]], NDArray[np.float32]]
"""Log likelihood ratios [P] of pairs of tiles: first [P], second [P], below [P] (the second lies below the first)."""

FIT_LIMIT = 10.0  # what one joint can say for or against placing two pieces side by side, in log odds


class Pieces:
    """Tiles in rigid pieces on grids of their own, joined pair by pair.

    At every moment each tile lies in one place of one piece, and each place holds one tile.
    """

    def __init__(self, count: int, fit: Fit | None = None) -> None:
        self.piece = list(range(count))
        self.place: list[Place] = [(0, 0)] * count
        self.at: list[dict[Place, int]] = [{(0, 0): tile} for tile in range(count)]
        self.fit = fit

    def connect(self, first: int, second: int, step: Place) -> bool:
        """Join the pieces of two tiles so that the second lies `step` (rows, columns) from the first.

        Returns False, and changes nothing, where that cannot be: both lie in one piece in another position to each
        other, some tile of one piece would lie upon one of the other, or the joints that come about do not fit.
        """
        wanted = (self.place[first][0] + step[0], self.place[first][1] + step[1])
        shift = (wanted[0] - self.place[second][0], wanted[1] - self.place[second][1])
        one, other = self.piece[first], self.piece[second]
        if one == other:
            return shift == (0, 0)
        if len(self.at[one]) < len(self.at[other]):  # the smaller piece moves: fewer tiles to look up
            one, other, shift = other, one, (-shift[0], -shift[1])
        moved = {(row + shift[0], column + shift[1]): tile for (row, column), tile in self.at[other].items()}
        if not self.at[one].keys().isdisjoint(moved) or not self._fits(self.at[one], moved):
            return False
        self.at[one].update(moved)
        self.at[other] = {}
        for place, tile in moved.items():
            self.piece[tile], self.place[tile] = one, place
        return True

    def _fits(self, standing: dict[Place, int], moved: dict[Place, int]) -> bool:
        """Whether the joints between two pieces speak for them together; a lone joint is the pair's own."""
        if self.fit is None:
            return True
        joints = []
        for (row, column), tile in moved.items():
            for place, below in (((row, column + 1), False), ((row + 1, column), True)):
                if place in standing:
                    joints.append((tile, standing[place], below))
            for place, below in (((row, column - 1), False), ((row - 1, column), True)):
                if place in standing:
                    joints.append((standing[place], tile, below))
        if len(joints) < 2:
            return True
        first, second, below_each = zip(*joints, strict=True)
        ratios = self.fit(np.array(first, np.int64), np.array(second, np.int64), np.array(below_each, np.bool_))
        return float(np.clip(ratios, -FIT_LIMIT, FIT_LIMIT).sum()) > 0


def assemble(ids: tuple[str, ...], pairs: Pairs, fit: Fit | None = None) -> tuple[Mosaics, Pairs]:
    """Place tiles by their pairs: in order of falling probability, each joins two pieces, closes a loop, or is refused.

    A pair is refused, never overwrites, where it would put two tiles into one place or a tile into two, or where the
    loop that it closes does not close. With `fit`, it is refused, too, where the joints that it brings about, its own
    and all others between the two pieces, speak against it on the whole. Among equal probabilities the smaller
    distance comes first, then the ids; the result does not depend on the order of the pairs.

    Args:
        ids: the tiles' names, all different.
        pairs: positions in `ids`.
        fit: how well any two tiles adjoin (`Matches.fit`); None trusts the pairs alone.

    Returns:
        The mosaics (pieces of two tiles or more) and the refused pairs.

    Raises:
        ValueError: ids are not different, or a pair names a tile that does not exist.
    """
    if len(set(ids)) != len(ids):
        raise ValueError("tile ids must be different")
    if len(pairs) and not 0 <= min(pairs.first.min(), pairs.second.min()) <= max(
        pairs.first.max(), pairs.second.max()
    ) < len(ids):
        raise ValueError(f"a pair names a tile beyond the {len(ids)} given")
    rank = np.argsort(np.argsort(np.array(ids, np.str_), kind="stable"), kind="stable")
    order = np.lexsort((pairs.below, rank[pairs.second], rank[pairs.first], pairs.distance, -pairs.probability))
    pieces = Pieces(len(ids), fit)
    refused = []
    for pair in order.tolist():
        step = (1, 0) if pairs.below[pair] else (0, 1)
        if not pieces.connect(int(pairs.first[pair]), int(pairs.second[pair]), step):
            refused.append(pair)
    return _numbered(ids, rank, pieces), pairs.only(np.sort(np.array(refused, np.int64)))


def _numbered(ids: tuple[str, ...], rank: NDArray[np.int64], pieces: Pieces) -> Mosaics:
    """The pieces of two tiles or more as mosaics: the largest first, rows and columns from 0."""
    found = [piece for piece in pieces.at if len(piece) > 1]
    found.sort(key=lambda piece: (-len(piece), min(rank[tile] for tile in piece.values())))
    places = np.full((3, len(ids)), -1, np.int64)
    for number, piece in enumerate(found):
        top, left = (min(place[axis] for place in piece) for axis in (0, 1))
        for (row, column), tile in piece.items():
            places[:, tile] = number, row - top, column - left
    return Mosaics(ids, *places)
