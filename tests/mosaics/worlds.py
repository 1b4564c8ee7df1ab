"""Small grids of tiles with labels made by hand."""

from collections.abc import Sequence

import numpy as np

from semisalt.mosaics.grid import Mosaics, Pairs
from semisalt.mosaics.view import View, view_of

SIZE = 12
Mask = np.ndarray
Column = Sequence[Mask | None]  # from top to bottom; None: a tile whose label is not known

EMPTY = np.zeros((SIZE, SIZE), np.uint8)
FULL = np.ones((SIZE, SIZE), np.uint8)
STRIPE = EMPTY.copy()
STRIPE[:, 3:7] = 1
OTHER = EMPTY.copy()
OTHER[:, 8:11] = 1
HALF = STRIPE.copy()  # vertical in its lower half alone
HALF[: SIZE // 2] = 0
FULL_BOTTOM = EMPTY.copy()
FULL_BOTTOM[-1] = 1
SLOPE = np.tri(SIZE, dtype=np.uint8)


def mosaics_of(grids: Sequence[np.ndarray], count: int) -> Mosaics:
    """Mosaics from grids of tile numbers, −1 where there is none."""
    mosaic, row, column = (np.full(count, -1, np.int64) for _ in range(3))
    for number, grid in enumerate(grids):
        for place, tile in np.ndenumerate(grid):
            if tile >= 0:
                mosaic[tile], row[tile], column[tile] = number, *place
    return Mosaics(tuple(f"t{tile:03}" for tile in range(count)), mosaic, row, column)


def pairs_of(mosaics: Mosaics, probability: float = 0.99) -> Pairs:
    """A pair for all that adjoin."""
    beside = mosaics.neighbours()
    right, below = (np.flatnonzero(beside[side] >= 0) for side in ("right", "below"))
    first = np.concatenate([right, below])
    second = np.concatenate([beside["right"][right], beside["below"][below]])
    flags = np.arange(len(first)) >= len(right)
    return Pairs(first, second, flags, np.zeros(len(first), np.float32), np.full(len(first), probability, np.float32))


def columns_view(
    columns: Sequence[Column],
    predictions: dict[int, Mask] | None = None,
    *,
    probability: float = 0.99,
    planted: Mask | None = None,
    sideways: bool = False,
) -> View:
    """Each column (or with `sideways` each row) is a mosaic; tiles are numbered through.

    A tile without a label is a target, predicted empty unless `predictions` says otherwise; `planted` is the label that
    it secretly has.
    """
    tiles = [tile for column in columns for tile in column]
    numbers = np.split(np.arange(len(tiles)), np.cumsum([len(column) for column in columns])[:-1])
    mosaics = mosaics_of([line[None] if sideways else line[:, None] for line in numbers], len(tiles))
    secret = EMPTY if planted is None else planted
    masks = np.stack([secret if tile is None else tile for tile in tiles])
    known = np.array([tile is not None for tile in tiles])
    targets = np.flatnonzero(~known)
    maps = [(predictions or {}).get(int(tile), EMPTY) for tile in targets]
    probabilities = np.array(maps, np.uint8).reshape(-1, SIZE, SIZE) * np.uint8(200)
    return view_of(mosaics, pairs_of(mosaics, probability), masks, known, targets, probabilities)
