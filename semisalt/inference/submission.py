"""The competition's submission file: one row `id,rle_mask` a tile, checked before a byte is written."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from semisalt.data import rle
from semisalt.errors import UserError
from semisalt.files import write_text
from semisalt.metrics import Masks

HEADER = ("id", "rle_mask")
SHOWN = 5


def write(path: Path, ids: Sequence[str], masks: Masks, expected_ids: Sequence[str] | None = None) -> None:
    """Write the masks `[N, H, W]` of the tiles `ids` as run lengths to `path`, atomically.

    Rows stand in the order of `expected_ids`, the sample submission's; without it in the order of `ids`. An empty
    mask has an empty second field. Every row is decoded and compared with its mask before the file is written.

    Raises UserError, and leaves a file that was there before as it was, for duplicate ids, ids that differ from
    `expected_ids`, or a path that cannot be written; ValueError for another number of masks than ids.
    """
    if masks.ndim != 3 or len(masks) != len(ids):
        raise ValueError(f"need a mask [H, W] for each of {len(ids)} ids; got {masks.shape}")
    order = tuple(ids if expected_ids is None else expected_ids)
    _check_ids(ids, order)
    row_of = {tile: row for row, tile in enumerate(ids)}
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(HEADER)
    table.writerows((tile, _checked_rle(tile, masks[row_of[tile]])) for tile in order)
    try:
        write_text(path, text.getvalue())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose a path that can be written") from error


def _check_ids(ids: Sequence[str], expected: Sequence[str]) -> None:
    problems = [
        f"{len(found)} {what}: {_some(found)}"
        for what, found in (
            ("predicted more than once", _repeated(ids)),
            ("listed more than once in the sample submission", _repeated(expected)),
            ("not predicted", _missing(expected, ids)),
            ("not in the sample submission", _missing(ids, expected)),
        )
        if found
    ]
    if problems:
        raise UserError(
            f"no submission written, the tiles do not match: {'; '.join(problems)}. Predict exactly the tiles of "
            "sample_submission.csv, each once: use the images and the sample submission of one download."
        )


def _checked_rle(tile: str, mask: Masks) -> str:
    salt = (mask != 0).astype(np.uint8)
    encoded = rle.encode(salt)
    if not np.array_equal(rle.decode(encoded, (salt.shape[0], salt.shape[1])), salt):
        raise RuntimeError(f"the run lengths of tile {tile} do not decode to its mask; nothing was written")
    return encoded


def _repeated(ids: Iterable[str]) -> list[str]:
    return [tile for tile, count in Counter(ids).items() if count > 1]


def _missing(wanted: Iterable[str], available: Iterable[str]) -> list[str]:
    there = set(available)
    return [tile for tile in dict.fromkeys(wanted) if tile not in there]


def _some(ids: Sequence[str]) -> str:
    return ", ".join(ids[:SHOWN]) + (" …" if len(ids) > SHOWN else "")
