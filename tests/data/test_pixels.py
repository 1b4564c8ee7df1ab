from pathlib import PurePosixPath

import numpy as np
from numpy.typing import NDArray

from semisalt.data.archive import Entry
from semisalt.data.pixels import CHUNK, read_pixels
from semisalt.data.png import PngError


def decode(data: bytes) -> NDArray[np.uint8]:
    """A stand-in for a decoder: the bytes are height, width and value."""
    if not data:
        raise PngError("nothing there")
    return np.full((data[0], data[1]), data[2], dtype=np.uint8)


def entries(contents: list[bytes]) -> list[Entry]:
    return [Entry(PurePosixPath(f"{at}.png"), f"{at}.png", lambda data=data: data) for at, data in enumerate(contents)]


def test_every_file_lands_in_its_place_whatever_their_number() -> None:
    for count in (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7):
        values = [at * 7 % 251 for at in range(count)]
        pixels, problems = read_pixels(entries([bytes([2, 3, value]) for value in values]), decode, (2, 3))
        assert not problems
        assert pixels.shape == (count, 2, 3)
        assert pixels[:, 1, 2].tolist() == values


def test_faults_keep_their_positions() -> None:
    contents = [bytes([2, 3, 1])] * (2 * CHUNK)
    contents[0] = bytes([5, 3, 1])
    contents[CHUNK + 1] = b""

    def denied() -> bytes:
        raise PermissionError("denied")

    files = entries(contents)
    files[-1] = Entry(files[-1].name, "last.png", denied)
    pixels, problems = read_pixels(files, decode)
    assert problems == {
        0: "0.png: 5×3 pixels; 2×3 expected (height × width)",
        CHUNK + 1: f"{CHUNK + 1}.png: nothing there",
        2 * CHUNK - 1: "last.png: unreadable (denied)",
    }
    assert np.flatnonzero(pixels.max(axis=(1, 2)) == 0).tolist() == list(problems)


def test_a_wrong_size_against_the_one_asked_for() -> None:
    _, problems = read_pixels(entries([bytes([2, 3, 1])] * 2), decode, (3, 2))
    assert list(problems) == [0, 1]
