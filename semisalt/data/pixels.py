"""Many image files to one array, on all cores."""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from semisalt.data.archive import READ_ERRORS, Entry
from semisalt.data.png import PngError

Decode = Callable[[bytes], NDArray[np.uint8]]
Shape = tuple[int, int]
CHUNK = 128  # files a task: enough that handing out tasks costs nothing


def read_pixels(
    entries: Sequence[Entry], decode: Decode, shape: Shape | None = None
) -> tuple[NDArray[np.uint8], dict[int, str]]:
    """[N, H, W] of the decoded files, and a problem for each that is unreadable or of another size.

    Args:
        entries: the files; `decode` turns the bytes of each into [H, W] or raises PngError.
        shape: the size they should have; None: that of most of them.

    Returns:
        The pixels (zero where a file has a problem), and the problem of each position that has one.
    """
    pixels = np.zeros((len(entries), *(shape or _first_shape(entries, decode))), dtype=np.uint8)

    def read_chunk(start: int) -> list[Shape | str]:
        return [_read_into(pixels, at, entries[at], decode) for at in range(start, min(start + CHUNK, len(entries)))]

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = [result for chunk in pool.map(read_chunk, range(0, len(entries), CHUNK)) for result in chunk]
    shapes = Counter(result for result in results if not isinstance(result, str))
    expected = shape or (shapes.most_common(1)[0][0] if shapes else (0, 0))
    if expected != pixels.shape[1:]:  # the first file is the odd one out
        return read_pixels(entries, decode, expected)
    problems = {}
    for position, (entry, result) in enumerate(zip(entries, results, strict=True)):
        if isinstance(result, str):
            problems[position] = f"{entry.label}: {result}"
        elif result != expected:
            sizes = f"{_size(result)} pixels; {_size(expected)} expected (height × width)"
            problems[position] = f"{entry.label}: {sizes}"
    return pixels, problems


def _read_into(pixels: NDArray[np.uint8], position: int, entry: Entry, decode: Decode) -> Shape | str:
    """The file's size, or what is wrong with it. Writes its pixels where they belong if they fit."""
    try:
        image = decode(entry.read())
    except PngError as error:
        return str(error)
    except READ_ERRORS as error:
        return f"unreadable ({error})"
    height, width = image.shape
    if image.shape == pixels.shape[1:]:
        pixels[position] = image
    return height, width


def _first_shape(entries: Sequence[Entry], decode: Decode) -> Shape:
    """The size of the first readable file; (0, 0) if there is none."""
    for entry in entries:
        try:
            height, width = decode(entry.read()).shape
        except (PngError, *READ_ERRORS):
            continue
        return height, width
    return 0, 0


def _size(shape: Shape) -> str:
    return f"{shape[0]}×{shape[1]}"
