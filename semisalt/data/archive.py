"""The files of a survey, whether they lie in a folder or in an archive, and nothing outside of it.

Nothing is ever extracted: members are read straight into memory. An archive with a member that points outside
of its folder is refused all the same, because whoever made it meant harm or made a mistake.
"""

import io
import lzma
import os
import re
import stat
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from semisalt.errors import DataError

TABLES = ("train.csv", "depths.csv", "sample_submission.csv")
ARCHIVES = ("train.zip", "test.zip")
LEAVES = ("images", "masks", "unlabelled")
# What reading an entry may raise, from a missing permission to a damaged archive member.
READ_ERRORS = (OSError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error, lzma.LZMAError)


@dataclass(frozen=True)
class Entry:
    """One file of a survey: its path inside the survey, the name that messages give it, and how to read it.

    `train.zip` counts as a folder `train`, so `name` is the same for packed and unpacked surveys.
    """

    name: PurePosixPath
    label: str
    read: Callable[[], bytes]


def source_files(path: Path) -> list[Path]:
    """The files on disk that make up the survey at `path`, in a fixed order.

    A file stands for itself. In a folder only the places of the known layouts are looked at: the three tables
    and two archives beside each other, and images/, masks/ and unlabelled/ in it, in its train/ and in its
    test/.
    """
    if path.is_file():
        return [path]
    files = [path / name for name in (*TABLES, *ARCHIVES) if (path / name).is_file()]
    for folder in leaf_folders(path):
        with os.scandir(folder) as found:  # quicker than Path.iterdir for tens of thousands of files
            names = [item.name for item in found if item.is_file() and not is_litter(item.name)]
        files += [folder / name for name in sorted(names)]
    return files


def leaf_folders(path: Path) -> list[Path]:
    """The existing folders below `path` that hold images or masks."""
    folders = [path / part / leaf for part in (".", "train", "test") for leaf in LEAVES]
    return [folder for folder in folders if folder.is_dir()]


@contextmanager
def open_entries(path: Path) -> Iterator[list[Entry]]:
    """The entries of the survey at `path`, to be read while the context lasts; from any number of threads.

    Raises:
        DataError: an archive is damaged or encrypted, or one of its members points outside of its folder. All
        such
            members are named, and none has been read.
    """
    with ExitStack() as stack:
        if path.is_file():
            yield _archive_entries(path.open("rb"), PurePosixPath(), path.name, stack)
            return
        entries = []
        for file in source_files(path):
            name = PurePosixPath(file.relative_to(path).as_posix())
            if file.name in ARCHIVES and len(name.parts) == 1:
                entries += _archive_entries(file.open("rb"), PurePosixPath(file.stem), file.name, stack)
            else:
                entries.append(Entry(name, str(name), file.read_bytes))
        yield entries


def _archive_entries(file: BinaryIO, prefix: PurePosixPath, label: str, stack: ExitStack) -> list[Entry]:
    stack.callback(file.close)
    try:
        archive = stack.enter_context(zipfile.ZipFile(file))
    except READ_ERRORS as error:
        if label.lower().endswith((".sgy", ".segy")):
            raise DataError([f"{label}: SEG-Y is not read: cut the section into tiles, PNG of 8 bits"]) from error
        raise DataError([f"{label}: not a readable zip archive ({error})"]) from error
    members = [member for member in archive.infolist() if not member.is_dir()]
    if unsafe := [f"{label}: {fault}" for member in archive.infolist() if (fault := _fault(member))]:
        raise DataError(unsafe)
    lock = threading.Lock()
    entries: list[Entry] = []
    for member in members:
        name = PurePosixPath(member.filename)
        if any(is_litter(part) for part in name.parts):
            continue
        reader = _reader(archive, member, lock)
        if name.name in ARCHIVES and not prefix.parts:
            inner = io.BytesIO(_read_nested(reader, f"{label}:{name}"))
            entries += _archive_entries(inner, name.with_suffix(""), f"{label}:{name}", stack)
        else:
            entries.append(Entry(prefix / name, f"{label}:{name}", reader))
    return entries


def _reader(archive: zipfile.ZipFile, member: zipfile.ZipInfo, lock: threading.Lock) -> Callable[[], bytes]:
    def read() -> bytes:
        with lock:  # one file position serves all members
            return archive.read(member)

    return read


def _read_nested(read: Callable[[], bytes], label: str) -> bytes:
    try:
        return read()
    except READ_ERRORS as error:
        raise DataError([f"{label}: unreadable ({error})"]) from error


def _fault(member: zipfile.ZipInfo) -> str | None:
    """Why this member is refused, if it is."""
    raw = member.orig_filename
    path = raw.replace("\\", "/")
    shown = repr(raw[:80])
    if path.startswith("/") or re.match(r"[A-Za-z]:", path) or ".." in path.split("/") or "\0" in raw:
        return f"the member {shown} points outside of the archive; the archive is refused"
    if stat.S_ISLNK(member.external_attr >> 16):
        return f"the member {shown} is a symbolic link; the archive is refused"
    if member.flag_bits & 1:
        return f"the member {shown} is encrypted"
    return None


def is_litter(name: str) -> bool:
    """Hidden files, and what macOS and Windows leave in folders."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")
