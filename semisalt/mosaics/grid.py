"""What matching and assembly yield: pairs of neighbours, and the place of each tile in a mosaic; their files."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from semisalt.errors import UserError
from semisalt.run import read_csv, write_csv

Direction = Literal["right", "below"]
Side = Literal["above", "below", "left", "right"]

STEPS: dict[Side, tuple[int, int]] = {"above": (-1, 0), "below": (1, 0), "left": (0, -1), "right": (0, 1)}
"""Rows and columns from a tile to the one on that side of it."""

MOSAICS_FILE, NEIGHBOURS_FILE = "mosaics.csv", "neighbours.csv"
MOSAIC_FIELDS = ("mosaic", "row", "column", "id")
NEIGHBOUR_FIELDS = ("id", "neighbour", "side", "distance", "probability")


@dataclass(frozen=True, eq=False)
class Pairs:
    """Neighbours: `second` lies right of, or below, `first`.

    Attributes:
        first, second: [P], positions of the tiles.
        below: [P], true where the second lies below the first, false where it lies right of it.
        distance: [P], rms error of what either border predicts of the other, in units of what is usual inside of
            such tiles; NaN where a border has no signal to speak of.
        probability: [P], that the two are neighbours, calibrated on synthetic surveys.

    Raises:
        ValueError: the arrays differ in length.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    below: NDArray[np.bool_]
    distance: NDArray[np.float32]
    probability: NDArray[np.float32]

    def __post_init__(self) -> None:
        if len({getattr(self, field.name).shape for field in fields(self)}) != 1 or self.first.ndim != 1:
            raise ValueError("pairs need five arrays of one length")

    def __len__(self) -> int:
        return len(self.first)

    def only(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> "Pairs":
        """The pairs where a [P] boolean array is true, or those at these positions, in this order."""
        return Pairs(*(getattr(self, field.name)[which] for field in fields(self)))


def no_pairs() -> Pairs:
    """Pairs of length 0."""
    return join_pairs([])


def join_pairs(parts: list[Pairs]) -> Pairs:
    """The pairs of all parts, in order."""
    kinds: dict[str, Any] = {"below": np.bool_, "distance": np.float32, "probability": np.float32}
    columns = ([getattr(part, field.name) for part in parts] for field in fields(Pairs))
    names = (field.name for field in fields(Pairs))
    return Pairs(
        *(
            np.concatenate([np.empty(0, kinds.get(name, np.int64)), *column])
            for name, column in zip(names, columns, strict=True)
        )
    )


@dataclass(frozen=True, eq=False)
class Mosaics:
    """Where each of N tiles lies.

    Attributes:
        ids: the tiles' names, in the order of every array here.
        mosaic: [N], numbered from 0 by falling number of tiles (among equals by the smallest id); −1 for a tile
            without any confirmed neighbour.
        row, column: [N], from 0 in each mosaic, rows downwards; −1 for a tile without a mosaic.

    Raises:
        ValueError: the arrays differ in length, or two tiles lie in one place.
    """

    ids: tuple[str, ...]
    mosaic: NDArray[np.int64]
    row: NDArray[np.int64]
    column: NDArray[np.int64]

    def __post_init__(self) -> None:
        if {self.mosaic.shape, self.row.shape, self.column.shape} != {(len(self.ids),)}:
            raise ValueError(f"{len(self.ids)} ids, but places for another number of tiles")
        places = self._places()[self.mosaic >= 0]
        if len(np.unique(places, axis=0)) != len(places):
            raise ValueError("two tiles lie in one place")

    def __len__(self) -> int:
        """Number of tiles, with and without a mosaic."""
        return len(self.ids)

    @property
    def count(self) -> int:
        """Number of mosaics."""
        return int(self.mosaic.max(initial=-1)) + 1

    def sizes(self) -> NDArray[np.int64]:
        """[count], falling: the number of tiles in each mosaic."""
        return np.bincount(self.mosaic[self.mosaic >= 0], minlength=self.count).astype(np.int64)

    def tiles(self, mosaic: int) -> NDArray[np.int64]:
        """[h, w]: a mosaic's tiles by row and column, −1 where none lies."""
        members = np.flatnonzero(self.mosaic == mosaic)
        shape = (int(self.row[members].max(initial=-1)) + 1, int(self.column[members].max(initial=-1)) + 1)
        grid = np.full(shape, -1, np.int64)
        grid[self.row[members], self.column[members]] = members
        return grid

    def neighbours(self) -> dict[Side, NDArray[np.int64]]:
        """For each side, [N]: the tile on the adjacent place of the same mosaic, or −1."""
        at = {tuple(place): tile for tile, place in enumerate(self._places().tolist()) if place[0] >= 0}
        found: dict[Side, NDArray[np.int64]] = {}
        for side, (down, across) in STEPS.items():
            beside = (self._places() + np.array([0, down, across])).tolist()
            found[side] = np.array([at.get(tuple(place), -1) if place[0] >= 0 else -1 for place in beside], np.int64)
        return found

    def joint(self, side: Side, pairs: Pairs) -> NDArray[np.float32]:
        """[N]: the probability of the pair of a tile with its neighbour on that side.

        NaN where there is no neighbour, or no pair of it.
        """
        forward = side in ("right", "below")
        chosen = pairs.only(pairs.below == (side in ("above", "below")))
        tile, other = (chosen.first, chosen.second) if forward else (chosen.second, chosen.first)
        probability = np.full(len(self), np.nan, np.float32)
        confirmed = self.neighbours()[side][tile] == other
        probability[tile[confirmed]] = chosen.probability[confirmed]
        return probability

    def _places(self) -> NDArray[np.int64]:
        return np.stack([self.mosaic, self.row, self.column], axis=1)


def write_mosaics(folder: Path, mosaics: Mosaics, pairs: Pairs) -> None:
    """Write mosaics.csv (every tile in its order, −1 for one without a mosaic) and neighbours.csv, each atomically.

    neighbours.csv has a row a pair: the tile, its neighbour, the side (right or below) on which the neighbour lies.
    """
    places = zip(mosaics.mosaic.tolist(), mosaics.row.tolist(), mosaics.column.tolist(), mosaics.ids, strict=True)
    write_csv(folder / MOSAICS_FILE, MOSAIC_FIELDS, list(places))
    rows = [
        (mosaics.ids[first], mosaics.ids[second], "below" if below else "right", str(distance), str(probability))
        for first, second, below, distance, probability in zip(
            pairs.first, pairs.second, pairs.below, pairs.distance, pairs.probability, strict=True
        )
    ]
    write_csv(folder / NEIGHBOURS_FILE, NEIGHBOUR_FIELDS, rows)


def read_mosaics(folder: Path) -> tuple[Mosaics, Pairs]:
    """What `write_mosaics` wrote.

    Raises:
        UserError: a file is missing, or a row of it cannot be read (it is named).
    """
    placed = _read(folder / MOSAICS_FILE, lambda row: (*(int(row[name]) for name in MOSAIC_FIELDS[:3]), row["id"]))
    ids = tuple(row[3] for row in placed)
    position = {name: tile for tile, name in enumerate(ids)}
    places = np.array([row[:3] for row in placed], np.int64).reshape(-1, 3)
    below = {"right": False, "below": True}
    found = _read(
        folder / NEIGHBOURS_FILE,
        lambda row: (
            position[row["id"]],
            position[row["neighbour"]],
            below[row["side"]],
            float(row["distance"]),
            float(row["probability"]),
        ),
    )
    kinds = (np.int64, np.int64, np.bool_, np.float32, np.float32)
    columns: list[Any] = [np.array([row[at] for row in found], kind) for at, kind in enumerate(kinds)]
    try:
        mosaics = Mosaics(ids, *places.T.copy())
    except ValueError as error:
        raise UserError(f"{folder / MOSAICS_FILE}: {error}; build the mosaics again") from None
    return mosaics, Pairs(*columns)


def _read(path: Path, parse: Callable[[dict[str, str]], tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Each row of a table, parsed."""
    if not path.is_file():
        raise UserError(f"{path}: does not exist; `semisalt mosaic build` makes it")
    parsed = []
    for number, row in enumerate(read_csv(path), start=2):
        try:
            parsed.append(parse(row))
        except (KeyError, ValueError, TypeError):
            raise UserError(f"{path}, line {number}: not a row that `semisalt mosaic build` writes") from None
    return parsed
