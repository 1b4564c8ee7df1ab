"""The survey's CSV files: run lengths (train.csv), depths (depths.csv), an order (sample_submission.csv)."""

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semisalt.data.archive import READ_ERRORS, Entry

LONGEST_FIELD = 1 << 22  # a chequered 512×512 mask's run lengths take 1.2 million characters


class Row(NamedTuple):
    """A table's value for one id, and the place that messages name."""

    where: str
    value: str


def read_table(entry: Entry, column: str | None) -> tuple[dict[str, Row], list[str]]:
    """id → row of a CSV file with the columns `id` and `column` (None: ids only), in the file's order.

    A byte-order mark and CRLF line ends are accepted. Returns the problems beside the rows: an empty or
    undecodable file, missing columns, short rows, empty and repeated ids.
    """
    csv.field_size_limit(LONGEST_FIELD)
    rows: dict[str, Row] = {}
    problems = []
    try:
        reader = csv.reader(io.StringIO(entry.read().decode("utf-8-sig"), newline=""), skipinitialspace=True)
        header = [name.strip() for name in next(reader, [])]
        missing = [name for name in ("id", column) if name is not None and name not in header]
        if missing:
            found = ", ".join(header) or "nothing"
            return rows, [f"{entry.label}: no column {' and '.join(missing)}; found {found}"]
        at_id, at_value = header.index("id"), header.index(column or "id")
        for cells in reader:
            where = f"{entry.label} line {reader.line_num}"
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) <= max(at_id, at_value):
                problems.append(f"{where}: {len(cells)} of {len(header)} values")
                continue
            tile = cells[at_id].strip()
            if not tile or tile in rows:
                problems.append(f"{where}: {'the id ' + tile + ' is repeated' if tile else 'no id'}")
                continue
            rows[tile] = Row(where, cells[at_value].strip())
    except READ_ERRORS as error:
        problems.append(f"{entry.label}: unreadable ({error})")
    except (UnicodeDecodeError, csv.Error) as error:
        problems.append(f"{entry.label}: not a CSV file in UTF-8 ({error})")
    if not rows and not problems:
        problems.append(f"{entry.label}: an empty table")
    return rows, problems


def read_depths(entry: Entry, ids: Sequence[str]) -> tuple[NDArray[np.float32], list[str]]:
    """[N] depths of these tiles from the columns `id` and `z`; rows of other tiles are left alone.

    The problems beside them: those of `read_table`, tiles without a depth, and depths that are no finite
    number.
    """
    rows, problems = read_table(entry, "z")
    depths = np.full(len(ids), np.nan, dtype=np.float32)
    if not rows:
        return depths, problems
    for position, tile in enumerate(ids):
        if tile not in rows:
            problems.append(f"{entry.label}: no depth for the tile {tile}")
            continue
        row = rows[tile]
        depths[position] = _number(row.value)
        if not np.isfinite(depths[position]):
            problems.append(f"{row.where}: the depth of {tile} is '{row.value}', not a number")
    return depths, problems


def read_submission_ids(entry: Entry, unlabelled: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """The ids of sample_submission.csv in its order, and where they differ from the unlabelled tiles."""
    rows, problems = read_table(entry, None)
    if rows:
        tiles = set(unlabelled)
        problems += [f"{row.where}: {tile} has no unlabelled image" for tile, row in rows.items() if tile not in tiles]
        problems += [f"{entry.label}: no row for the unlabelled tile {tile}" for tile in sorted(tiles - rows.keys())]
    return tuple(rows), problems


def _number(text: str) -> float:
    try:
        with np.errstate(over="ignore"):
            return float(np.float32(text))
    except ValueError:
        return float("nan")
