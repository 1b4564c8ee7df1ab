"""Files that are whole or absent: written to a temporary name, then renamed."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; renamed to `path` when the block ends well, removed otherwise.

    The data reaches the disk before the rename, so that a crash leaves the old file or the new one, never half of one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: writers such as np.save choose or append by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def held(lock: Path) -> Iterator[None]:
    """Hold a lock file alone; another holder is waited for, and a killed one lets go."""
    with lock.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files in `folder` that a killed process left. Only while nobody else writes there."""
    for leftover in folder.glob(".*.tmp*"):
        if leftover.is_file():
            leftover.unlink()


def write_bytes(path: Path, payload: bytes) -> None:
    """Write `payload` atomically."""
    with atomic(path) as temporary:
        temporary.write_bytes(payload)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically. Raises ValueError for NaN and infinity, which JSON does not know."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_array(path: Path, array: NDArray[Any]) -> None:
    """Write a .npy atomically."""
    with atomic(path) as temporary:
        np.save(temporary, array, allow_pickle=False)
