"""Putting tiles together: the surest pair first, rigid pieces joined, what contradicts them refused."""

import numpy as np
from numpy.typing import NDArray

from semisalt.mosaics.grid import Mosaics, Pairs

Place = tuple[int, int]


class Pieces:
    """Tiles in rigid pieces on grids of their own, joined pair by pair.

    At every moment each tile lies in one place of one piece, and each place holds one tile.
    """

    def __init__(self, count: int) -> None:
        self.piece = list(range(count))
        self.place: list[Place] = [(0, 0)] * count
        self.at: list[dict[Place, int]] = [{(0, 0): tile} for tile in range(count)]

    def connect(self, first: int, second: int, step: Place) -> bool:
        """Join the pieces of two tiles so that the second lies `step` (rows, columns) from the first.

        Returns False, and changes nothing, where that cannot be: both lie in one piece in another position to each
        other, or some tile of one piece would lie upon one of the other.
        """
        wanted = (self.place[first][0] + step[0], self.place[first][1] + step[1])
        shift = (wanted[0] - self.place[second][0], wanted[1] - self.place[second][1])
        one, other = self.piece[first], self.piece[second]
        if one == other:
            return shift == (0, 0)
        if len(self.at[one]) < len(self.at[other]):  # the smaller piece moves: fewer tiles to look up
            one, other, shift = other, one, (-shift[0], -shift[1])
        moved = {(row + shift[0], column + shift[1]): tile for (row, column), tile in self.at[other].items()}
        if not self.at[one].keys().isdisjoint(moved):
            return False
        self.at[one].update(moved)
        self.at[other] = {}
        for place, tile in moved.items():
            self.piece[tile], self.place[tile] = one, place
        return True


def assemble(ids: tuple[str, ...], pairs: Pairs) -> tuple[Mosaics, Pairs]:
    """Place tiles by their pairs: in order of falling probability, each joins two pieces, closes a loop, or is refused.

    A pair is refused, never overwrites, where it would put two tiles into one place or a tile into two, or where the
    loop that it closes does not close. Among equal probabilities the smaller distance comes first, then the ids;
    the result does not depend on the order of the pairs.

    Args:
        ids: the tiles' names, all different.
        pairs: positions in `ids`.

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
    pieces = Pieces(len(ids))
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
