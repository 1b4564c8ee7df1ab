"""Run lengths of a mask, as the competition writes them: 1-based, down the columns, then right."""

import numpy as np
from numpy.typing import NDArray


class RleError(ValueError):
    """Run lengths that describe no mask of the given shape."""


def encode(mask: NDArray[np.uint8]) -> str:
    """Run lengths 'start length start length …' of a mask.

    Args:
        mask: [H, W]; every value but 0 is salt. Pixel (row, column) has the number column · H + row + 1.

    Returns:
        The runs in ascending order, as long as possible each; '' for an empty mask.

    Raises:
        ValueError: the mask is not two-dimensional.

    Source: the TGS Salt Identification Challenge's evaluation page.
    """
    if mask.ndim != 2:
        raise ValueError(f"a mask has two dimensions, not {mask.ndim}")
    pixels = np.zeros(mask.size + 2, dtype=np.int8)
    pixels[1:-1] = (mask != 0).ravel(order="F")
    changes = np.flatnonzero(np.diff(pixels)) + 1
    starts, ends = changes[::2], changes[1::2]
    return " ".join(map(str, np.stack([starts, ends - starts], axis=1).ravel().tolist()))


def decode(rle: str, shape: tuple[int, int]) -> NDArray[np.uint8]:
    """The mask that run lengths describe: the inverse of `encode`.

    Args:
        rle: 'start length start length …', ascending; blank means an empty mask.
        shape: (H, W) of the mask.

    Returns:
        [H, W], 0 or 1.

    Raises:
        RleError: an odd number of values, a value that is not a positive integer, runs that overlap or do not
            ascend, or a run that leaves the mask. The competition refuses unsorted runs too.
    """
    tokens = rle.split()
    if len(tokens) % 2:
        raise RleError(f"an odd number of values ({len(tokens)}); they come in pairs of start and length")
    wrong = next((token for token in tokens if not _is_positive_integer(token)), None)
    if wrong is not None:
        raise RleError(f"'{wrong[:20]}' is not a positive integer")
    height, width = shape
    flat = np.zeros(height * width, dtype=np.uint8)
    previous = 0
    for start, length in zip(map(int, tokens[::2]), map(int, tokens[1::2]), strict=True):
        if start <= previous:
            raise RleError(f"the run at {start} overlaps the one before it, or the runs do not ascend")
        previous = start + length - 1
        if previous > flat.size:
            raise RleError(f"the run {start} {length} is out of range: the mask has {flat.size} pixels")
        flat[start - 1 : previous] = 1
    return np.ascontiguousarray(flat.reshape(width, height).T)


def _is_positive_integer(token: str) -> bool:
    # A limit on the digits keeps int() away from absurdly long numbers, which it refuses.
    digits = token.lstrip("0")
    if not (token.isascii() and token.isdigit() and digits):
        return False
    return len(digits) <= 18
