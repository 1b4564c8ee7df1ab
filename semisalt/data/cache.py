"""A decoded survey on disk, so that the second start takes a second.

One file a source: an uncompressed .npz, whose members carry checksums. It is used only if the source's files
still have the names, sizes and times of modification that it was made from.
"""

import os
import tempfile
import warnings
import zipfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semisalt.data.archive import source_files
from semisalt.data.tiles import Survey, TileSet

FORMAT = "semisalt survey cache 2"  # goes up whenever the same files would be read into something else


def user_folder() -> Path:
    """$XDG_CACHE_HOME/semisalt, or ~/.cache/semisalt."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "semisalt"


def stamp(source: Path) -> str:
    """SHA-256 (hex) over the names, sizes and times of modification of the survey's files."""
    digest = sha256(FORMAT.encode())
    root = source.resolve()  # the same files have the same stamp, however their place is written
    above = len(os.fspath(root))
    for file in map(os.fspath, source_files(root)):
        status = os.stat(file)  # noqa: PTH116 - Path.stat would double the time for tens of thousands of files
        digest.update(os.fsencode(file[above:]) + f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def cache_file(folder: Path, source: Path) -> Path:
    """Where the survey at `source` is kept; a changed survey takes the old one's place."""
    return folder / f"survey-{sha256(os.fsencode(source.resolve())).hexdigest()[:16]}.npz"


def load(folder: Path, source: Path, stamp: str) -> Survey | None:
    """The survey kept for `source`; None if there is none, or only one of files that have changed since.

    A damaged file is not trusted: it is named in a warning, and None is returned.
    """
    file = cache_file(folder, source)
    if not file.exists():
        return None
    try:
        with np.load(file, allow_pickle=False) as arrays:
            if str(arrays["stamp"]) != stamp:
                return None
            return _survey(arrays, source)
    except (OSError, EOFError, KeyError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
        warnings.warn(f"{file}: a damaged cache file ({error}); reading the data anew", stacklevel=2)
        return None


def save(folder: Path, survey: Survey, stamp: str) -> None:
    """Keep the survey. A reader sees the old file or the new one, never a part of it.

    A folder that cannot be written to costs time at the next start, nothing else, so it is a warning.
    """
    file = cache_file(folder, survey.source)
    temporary = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=file.stem, suffix=".tmp", dir=folder)
        temporary = Path(name)
        with os.fdopen(handle, "wb") as stream:
            np.savez(stream, allow_pickle=False, **_arrays(survey), stamp=np.array(stamp))
        temporary.replace(file)
    except OSError as error:
        warnings.warn(f"{folder}: the decoded data cannot be kept there ({error})", stacklevel=2)
    finally:
        if temporary is not None:
            with suppress(OSError):  # gone already if it was renamed
                temporary.unlink(missing_ok=True)


def _arrays(survey: Survey) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {"fingerprint": np.array(survey.fingerprint)}
    for name, part in (("labelled", survey.labelled), ("unlabelled", survey.unlabelled)):
        arrays[f"{name}_ids"] = np.array(part.ids, dtype=np.str_)
        arrays[f"{name}_images"] = part.images
        if part.masks is not None:
            arrays[f"{name}_masks"] = part.masks
        if part.depths is not None:
            arrays[f"{name}_depths"] = part.depths
    if survey.submission_ids is not None:
        arrays["submission_ids"] = np.array(survey.submission_ids, dtype=np.str_)
    return arrays


def _survey(arrays: Any, source: Path) -> Survey:
    def optional(name: str) -> Any:
        return arrays.get(name)

    def part(name: str) -> TileSet:
        return TileSet(
            ids=tuple(arrays[f"{name}_ids"].tolist()),
            images=arrays[f"{name}_images"],
            masks=optional(f"{name}_masks"),
            depths=optional(f"{name}_depths"),
        )

    order = optional("submission_ids")
    submission_ids = None if order is None else tuple(order.tolist())
    return Survey(part("labelled"), part("unlabelled"), str(arrays["fingerprint"]), source, submission_ids)
