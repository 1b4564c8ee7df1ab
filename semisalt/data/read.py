"""Reading a survey, or loose images, from disk into memory."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Literal

from semisalt.data import cache as caching
from semisalt.data.archive import Entry, open_entries
from semisalt.data.layout import EXPECTED, Layout, arrange, folder_problems
from semisalt.data.masks import read_masks
from semisalt.data.pixels import read_pixels
from semisalt.data.png import decode_image
from semisalt.data.tables import read_depths, read_submission_ids
from semisalt.data.tiles import Survey, TileSet, fingerprint
from semisalt.errors import DataError


def load_survey(path: Path, cache: Path | Literal["user"] | None = "user") -> Survey:
    """The labelled and unlabelled tiles at `path`, in any layout that `semisalt.data.layout` describes.

    Args:
        path: a folder or a zip archive.
        cache: the folder that keeps the decoded survey, so that the next call takes a second; 'user' is
            $XDG_CACHE_HOME/semisalt or ~/.cache/semisalt; None keeps nothing.

    Raises:
        DataError: everything that is wrong with the data, each file or row named.
    """
    if not path.exists():
        raise DataError([f"{path}: does not exist"])
    # What is passed over does not make another survey, so that a kept one would hide it.
    if cache is None or (path.is_dir() and folder_problems(path)):
        return read_survey(path)
    folder = caching.user_folder() if cache == "user" else cache
    stamp = caching.stamp(path)
    survey = caching.load(folder, path, stamp)
    if survey is None:
        survey = read_survey(path)
        caching.save(folder, survey, stamp)
    return survey


def read_survey(path: Path) -> Survey:
    """`load_survey` without a cache."""
    problems = folder_problems(path) if path.is_dir() else []
    with open_entries(path) as entries:
        layout, faults = arrange(entries)
        problems += faults
        if not layout.images and not layout.unlabelled:
            raise DataError([*problems, f"{path}: no tiles found; {EXPECTED}{_hint(path)}"])
        survey, faults = _read(layout, path)
        problems += faults
    if problems:
        raise DataError(problems)
    return survey


def load_images(files: Sequence[Path]) -> TileSet:
    """Loose PNG images of one size, in the order given; a tile's id is its file's name without '.png'.

    Raises:
        DataError: files that do not exist, are unreadable, differ in size, or share a name; or no files at
        all.
    """
    if not files:
        raise DataError(["no image files given"])
    entries = [Entry(PurePosixPath(file.name), str(file), file.read_bytes) for file in files]
    images, unreadable = read_pixels(entries, decode_image)
    problems = list(unreadable.values())
    ids = [file.stem for file in files]
    problems += [f"{file}: another file has the same name" for at, file in enumerate(files) if file.stem in ids[:at]]
    if problems:
        raise DataError(problems)
    return TileSet(tuple(ids), images, None, None)


def _hint(path: Path) -> str:
    archives = sorted(file.name for file in path.glob("*.zip")) if path.is_dir() else []
    return f". Give the path of an archive itself to read it: {', '.join(archives)}" if archives else ""


def _read(layout: Layout, source: Path) -> tuple[Survey, list[str]]:
    """The survey, in ascending order of the ids, and every problem found on the way."""
    labelled, unlabelled = sorted(layout.images), sorted(layout.unlabelled)
    count = len(labelled)
    files = [layout.images[tile] for tile in labelled] + [layout.unlabelled[tile] for tile in unlabelled]
    images, unreadable = read_pixels(files, decode_image)
    problems = list(unreadable.values())
    if not images.size:  # not one image is readable: there is no size that the rest could be held against
        raise DataError(problems)
    masks, faults = read_masks(layout, labelled, (images.shape[1], images.shape[2]))
    problems += faults
    depths = None
    if (table := layout.tables.get("depths.csv")) is not None:
        depths, faults = read_depths(table, labelled + unlabelled)
        problems += faults
    submission_ids = None
    if (table := layout.tables.get("sample_submission.csv")) is not None:
        submission_ids, faults = read_submission_ids(table, unlabelled)
        problems += faults
    split = (None, None) if depths is None else (depths[:count], depths[count:])
    with_labels = TileSet(tuple(labelled), images[:count], masks, split[0])
    without = TileSet(tuple(unlabelled), images[count:], None, split[1])
    return Survey(with_labels, without, fingerprint(with_labels, without), source, submission_ids), problems
