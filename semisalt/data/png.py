"""One PNG file's bytes to an array, with every fault named."""

import zlib
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

MAX_SIDE = 512
SIGNATURE = b"\x89PNG\r\n\x1a\n"


class PngError(ValueError):
    """A file that is no whole PNG, or none that we take."""


def decode_image(data: bytes) -> NDArray[np.uint8]:
    """[H, W] grey values of an 8-bit PNG.

    Colour becomes luminance (0.299 R + 0.587 G + 0.114 B; equal channels keep their value), transparency is
    ignored.

    Raises:
        PngError: unreadable, truncated or damaged, not 8-bit, or larger than 512 pixels a side.
    """
    image = _decode(data)
    if image.dtype != np.uint8:
        raise PngError("a 16-bit image; images must be 8-bit")
    if image.ndim == 3:
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), dtype=np.uint8)
    return image


def decode_mask(data: bytes) -> NDArray[np.uint8]:
    """[H, W] of 0 or 1 from an 8- or 16-bit PNG whose values are 0 and the type's greatest, or 0 and 1.

    Raises:
        PngError: as for `decode_image`, or the mask has other values, or its colour channels differ.
    """
    mask = _decode(data)
    if mask.ndim == 3:
        channels = mask[..., :3]
        mask = channels[..., 0]
        if (channels != mask[..., None]).any():
            raise PngError("a coloured mask; its channels must be equal")
    salt = mask != 0
    value = int(mask.max())
    if value not in (0, 1, np.iinfo(mask.dtype).max) or (mask[salt] != value).any():
        values = np.unique(mask)
        shown = ", ".join(map(str, values[:5])) + (" …" if len(values) > 5 else "")
        raise PngError(f"a mask that is not two-valued (0 and 1, 255 or 65535); it has {shown}")
    return np.asarray(salt, dtype=np.uint8)


def _decode(data: bytes) -> NDArray[Any]:
    _check(data)
    image = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise PngError("an unreadable PNG")
    return image


def _check(data: bytes) -> None:
    """Refuse what is not a whole PNG: some versions of OpenCV return the readable part of a damaged file."""
    if not data:
        raise PngError("an empty file")
    if not data.startswith(SIGNATURE):
        raise PngError("not a PNG")
    for index, (kind, body) in enumerate(_chunks(data)):
        if index == 0:
            width, height = int.from_bytes(body[:4], "big"), int.from_bytes(body[4:8], "big")
            if kind != b"IHDR" or not width or not height:
                raise PngError("a damaged PNG (no header)")
            # Before anything is decoded: a few bytes may claim gigabytes of pixels.
            if max(width, height) > MAX_SIDE:
                raise PngError(f"{height}×{width} pixels; at most {MAX_SIDE} a side")


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """(type, body) of each chunk up to IEND; raises PngError at the first one that is cut off or damaged."""
    position, kind = len(SIGNATURE), b""
    while kind != b"IEND":
        length = int.from_bytes(data[position : position + 4], "big")
        end = position + 8 + length
        if end + 4 > len(data):
            raise PngError("a truncated PNG")
        kind = data[position + 4 : position + 8]
        if zlib.crc32(data[position + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise PngError("a damaged PNG (wrong checksum)")
        yield kind, data[position + 8 : end]
        position = end + 4
