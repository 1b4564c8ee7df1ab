"""A synthetic survey on disk, in the layout of the TGS competition's download.

Lines (vertical sections, see `geology` and `imaging`) are cut on a grid into tiles, each stretched to
0…255, and dealt at random into labelled and unlabelled ones. Unlike a real survey's, the unlabelled
tiles' masks and all tiles' true neighbours are known: they lie in truth.csv, which readers of the layout
ignore.
"""

import csv
import hashlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from semisalt.data.geology import Cube, draw_cube, line_through
from semisalt.data.imaging import Acquisition, draw_acquisition, image
from semisalt.data.rle import encode
from semisalt.errors import UserError

SECTION_SIZE = (505, 808)  # pixels, about: whole tiles of the chosen size
LINES_PER_CUBE = 5
BLANK_SHARE = 0.02
EMPTY_SHARE = 0.39  # of all tiles, the blank ones among them
ENOUGH = 3
UNSTRETCHED_SHARE = 0.06
SMALLEST_TILE, LARGEST_TILE = 16, 512

TRUTH_FIELDS = ("id", "labelled", "section", "row", "column", "left", "right", "up", "down", "rle_mask")


@dataclass(frozen=True, eq=False)
class Cell:
    """A tile cut from a line."""

    section: int
    row: int
    column: int
    pixels: NDArray[np.uint8]  # [h, w]
    mask: NDArray[np.uint8]  # [h, w], 0 or 1

    @property
    def place(self) -> tuple[int, int, int]:
        """Grid position: (section, row, column)."""
        return self.section, self.row, self.column


def grid_of(shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of tiles in a section."""
    return max(2, round(SECTION_SIZE[0] / shape[0])), max(2, round(SECTION_SIZE[1] / shape[1]))


def stretch(tile: NDArray[np.float32], low: float, high: float) -> NDArray[np.uint8]:
    """Linear map of low…high to 0…255."""
    return np.asarray(np.clip(np.rint((tile - low) * (255.0 / (high - low))), 0, 255), np.uint8)


def cut(
    section: int,
    amplitude: NDArray[np.float32],
    salt: NDArray[np.bool_],
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> Iterator[Cell]:
    """Tiles of a section, row by row; those without any signal (all water) are left out."""
    height, width = shape
    low, high = float(amplitude.min()), float(amplitude.max())
    for row in range(amplitude.shape[0] // height):
        for column in range(amplitude.shape[1] // width):
            window = np.s_[row * height : (row + 1) * height, column * width : (column + 1) * width]
            tile = amplitude[window]
            whole_range = rng.random() < UNSTRETCHED_SHARE
            if tile.min() == tile.max():
                continue
            limits = (low, high) if whole_range else (float(tile.min()), float(tile.max()))
            yield Cell(section, row, column, stretch(tile, *limits), salt[window].astype(np.uint8))


def draw_model(seed: int, cube: int, size: tuple[int, int]) -> tuple[Cube, Acquisition]:
    """Earth and acquisition number `cube` of a seed, for sections of `size`."""
    rng = np.random.default_rng([seed, 1, cube])
    return draw_cube(rng, size), draw_acquisition(rng)


def cells(seed: int, shape: tuple[int, int]) -> Iterator[list[Cell]]:
    """The tiles of section 0, 1, 2, … without end."""
    rows, columns = grid_of(shape)
    size = (rows * shape[0], columns * shape[1])
    section = 0
    while True:
        cube, line = divmod(section, LINES_PER_CUBE)
        if line == 0:
            earth, plan = draw_model(seed, cube, size)
        rng = np.random.default_rng([seed, 2, section])
        plane = line_through(earth, line)
        amplitude = image(plane, plan, line, rng)
        yield list(cut(section, amplitude, plane.salt, shape, rng))
        section += 1


def gather(tiles: int, seed: int, shape: tuple[int, int], rng: np.random.Generator) -> list[Cell]:
    """`tiles` tiles (none blank) in random order, with the real survey's share of empty masks.

    Sections are added until they hold enough empty and enough partly salted tiles; fully salted ones are left
    out (the real survey has none). Large tiles rarely miss all salt: after `ENOUGH` times the tiles wanted, the
    share is whatever can be had.
    """
    empty_wanted = round(tiles * (EMPTY_SHARE - BLANK_SHARE) / (1 - BLANK_SHARE))
    salted: list[Cell] = []
    empty: list[Cell] = []
    for section in cells(seed, shape):
        for cell in section:
            if not cell.mask.any():
                empty.append(cell)
            elif not cell.mask.all():
                salted.append(cell)
        available = len(empty) + len(salted)
        if len(empty) >= empty_wanted and len(salted) >= tiles - empty_wanted:
            break
        if available >= ENOUGH * tiles:
            empty_wanted = int(np.clip(empty_wanted, tiles - len(salted), len(empty)))
            break
    pools = ((empty, empty_wanted), (salted, tiles - empty_wanted))
    chosen = [pool[i] for pool, count in pools for i in rng.permutation(len(pool))[:count]]
    return [chosen[i] for i in rng.permutation(len(chosen))]


def make_ids(seed: int, count: int) -> list[str]:
    """Distinct ids of ten hexadecimal characters."""
    ids: dict[str, None] = {}
    number = 0
    while len(ids) < count:
        ids[hashlib.sha256(f"{seed}:{number}".encode()).hexdigest()[:10]] = None
        number += 1
    return list(ids)


def labelled_count(labelled: float | int, tiles: int) -> int:
    """Number of labelled tiles: an int is a count, a float a share. Raises UserError when out of range."""
    count = labelled if isinstance(labelled, int) else round(labelled * tiles)
    if not 0 <= count <= tiles or (isinstance(labelled, float) and not 0 <= labelled <= 1):
        raise UserError(f"labelled={labelled}: a share must lie in 0.0 … 1.0, a count in 0 … {tiles}")
    return count


def depth_of(cell: Cell, rows: int, seed: int) -> int:
    """Depth of a tile: each cube has a level of its own, lines and rows change it a little."""
    cube, line = divmod(cell.section, LINES_PER_CUBE)
    level = np.random.default_rng([seed, 3, cube]).uniform(180, 760)
    return int(np.clip(level + 12 * line + 240 * (cell.row / (rows - 1) - 0.5), 50, 960))


@dataclass(frozen=True, eq=False)
class Entry:
    """A tile as it is written."""

    id: str
    labelled: bool
    cell: Cell | None  # None: blank
    depth: int
    mask: NDArray[np.uint8]


def deal(tiles: int, labelled: int, seed: int, shape: tuple[int, int]) -> list[Entry]:
    """All tiles of a survey in random order, each with id, depth and the set that it falls into."""
    rng = np.random.default_rng([seed, 0])
    blank = round(tiles * BLANK_SHARE)
    chosen: list[Cell | None] = [*gather(tiles - blank, seed, shape, rng), *([None] * blank)]
    order = rng.permutation(tiles)
    rows = grid_of(shape)[0]
    nothing = np.zeros(shape, np.uint8)
    entries = []
    for place, (name, index) in enumerate(zip(make_ids(seed, tiles), order, strict=True)):
        cell = chosen[index]
        depth = int(rng.integers(50, 960)) if cell is None else depth_of(cell, rows, seed)
        entries.append(Entry(name, place < labelled, cell, depth, nothing if cell is None else cell.mask))
    return entries


def neighbours(entries: Sequence[Entry]) -> list[tuple[str, str, str, str]]:
    """Ids of the tiles to the left and right, above and below; '' where the survey has none."""
    at = {entry.cell.place: entry.id for entry in entries if entry.cell is not None}
    found = []
    for entry in entries:
        if entry.cell is None:
            found.append(("", "", "", ""))
            continue
        s, r, c = entry.cell.place
        left, right = at.get((s, r, c - 1), ""), at.get((s, r, c + 1), "")
        found.append((left, right, at.get((s, r - 1, c), ""), at.get((s, r + 1, c), "")))
    return found


def write_png(path: Path, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> None:
    """Write a PNG file; raises UserError where the disk refuses."""
    done, encoded = cv2.imencode(".png", pixels)
    if not done:
        raise UserError(f"{path}: could not be encoded")
    path.write_bytes(encoded.tobytes())


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_files(folder: Path, entries: Sequence[Entry], shape: tuple[int, int]) -> None:
    """Everything of a survey into an existing empty folder."""
    for name in ("train/images", "train/masks", "test/images"):
        (folder / name).mkdir(parents=True)
    blank = np.zeros(shape, np.uint8)
    for entry in entries:
        pixels = blank if entry.cell is None else entry.cell.pixels
        rgb = np.repeat(pixels[..., None], 3, axis=2)
        write_png(folder / ("train" if entry.labelled else "test") / "images" / f"{entry.id}.png", rgb)
        if entry.labelled:
            write_png(folder / "train" / "masks" / f"{entry.id}.png", entry.mask.astype(np.uint16) * 65535)
    runs = [encode(entry.mask) for entry in entries]
    labelled = [(entry.id, rle) for entry, rle in zip(entries, runs, strict=True) if entry.labelled]
    write_table(folder / "train.csv", ("id", "rle_mask"), labelled)
    write_table(folder / "depths.csv", ("id", "z"), ((entry.id, entry.depth) for entry in entries))
    unlabelled = sorted(entry.id for entry in entries if not entry.labelled)
    write_table(folder / "sample_submission.csv", ("id", "rle_mask"), ((name, "1 1") for name in unlabelled))
    truth = []
    for entry, around, rle in zip(entries, neighbours(entries), runs, strict=True):
        place = ("", "", "") if entry.cell is None else entry.cell.place
        truth.append((entry.id, int(entry.labelled), *place, *around, rle))
    write_table(folder / "truth.csv", TRUTH_FIELDS, truth)


def write_survey(
    out: Path,
    *,
    tiles: int = 1000,
    labelled: float | int = 0.2,
    seed: int = 0,
    shape: tuple[int, int] = (101, 101),
) -> None:
    """Write a synthetic survey to the folder `out`, in the layout of the TGS competition.

    train/images, train/masks (16-bit, 0 or 65535), test/images, train.csv (id, rle_mask), depths.csv (id, z),
    sample_submission.csv, and truth.csv: labelled (0 or 1), grid position, neighbours' ids and run lengths of
    every tile; blank tiles have no position there. The same arguments give the same bytes.

    Args:
        out: a new or empty folder; it appears only when it is complete.
        tiles: how many tiles in all; 2 % of them are blank (all zero), 39 % have no salt.
        labelled: share (float) or count (int) of the labelled tiles.
        seed: of everything random.
        shape: height and width of a tile in pixels.

    Raises:
        UserError: `out` holds something already, or an argument is out of range.
    """
    if tiles < 1 or seed < 0:
        raise UserError(f"tiles={tiles}, seed={seed}: at least one tile and a seed of 0 or more")
    if not all(SMALLEST_TILE <= n <= LARGEST_TILE for n in shape):
        raise UserError(f"tiles of {shape[0]}x{shape[1]} pixels: they measure {SMALLEST_TILE} to {LARGEST_TILE} a side")
    count = labelled_count(labelled, tiles)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: exists and is not an empty folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        write_files(temporary, deal(tiles, count, seed, shape), shape)
        temporary.chmod(0o755)
        temporary.replace(out)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
