"""The masks of labelled tiles, from PNG files, from run lengths, or from both, which must then agree."""

from collections.abc import Mapping, Sequence, Set

import numpy as np
from numpy.typing import NDArray

from semisalt.data.archive import Entry
from semisalt.data.layout import Layout
from semisalt.data.pixels import read_pixels
from semisalt.data.png import decode_mask
from semisalt.data.rle import RleError, decode
from semisalt.data.tables import Row, read_table


def read_masks(layout: Layout, ids: Sequence[str], shape: tuple[int, int]) -> tuple[NDArray[np.uint8], list[str]]:
    """[N, H, W] masks (0 or 1) of these labelled tiles, and the problems found.

    The problems: those of `decode_mask` and `decode`, tiles missing in train.csv, rows of train.csv without
    an image, and tiles whose PNG and run lengths differ.
    """
    masks = np.zeros((len(ids), *shape), dtype=np.uint8)
    paired = [tile for tile in ids if tile in layout.masks]
    read, unreadable = read_pixels([layout.masks[tile] for tile in paired], decode_mask, shape)
    masks[[tile in layout.masks for tile in ids]] = read
    problems = list(unreadable.values())
    if (table := layout.tables.get("train.csv")) is not None:
        rows, faults = read_table(table, "rle_mask")
        problems += faults
        if rows:
            problems += _row_problems(table, rows, ids)
            problems += _take_rows(masks, rows, ids, layout.masks, {paired[at] for at in unreadable})
    return masks, problems


def _row_problems(table: Entry, rows: Mapping[str, Row], ids: Sequence[str]) -> list[str]:
    missing = [f"{table.label}: no row for the labelled tile {tile}" for tile in ids if tile not in rows]
    known = set(ids)
    return missing + [f"{row.where}: {tile} has no labelled image" for tile, row in rows.items() if tile not in known]


def _take_rows(
    masks: NDArray[np.uint8],
    rows: Mapping[str, Row],
    ids: Sequence[str],
    files: Mapping[str, Entry],
    unreadable: Set[str],
) -> list[str]:
    """Write the masks that only train.csv has; compare those that a readable file has too."""
    problems = []
    height, width = masks.shape[1:]
    for position, tile in enumerate(ids):
        row = rows.get(tile)
        if row is None:
            continue
        try:
            mask = decode(row.value, (height, width))
        except RleError as error:
            problems.append(f"{row.where}: run lengths of {tile}: {error}")
            continue
        if tile not in files:
            masks[position] = mask
        elif tile not in unreadable and (differing := np.count_nonzero(mask != masks[position])):
            label = files[tile].label
            problems.append(f"{row.where}: run lengths of {tile} differ from {label} in {differing} pixels")
    return problems
