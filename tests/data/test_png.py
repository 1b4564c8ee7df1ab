import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from semisalt.data.png import PngError, decode_image, decode_mask

GREY = np.arange(256, dtype=np.uint8).reshape(8, 32)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def hand_made(height: int, width: int, pixels: bytes, depth: int = 8, colour: int = 0) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")


def test_grey_and_equal_channels_keep_every_value(png: Callable[..., bytes]) -> None:
    alpha = np.full_like(GREY, 17)
    for channels in (GREY, np.stack([GREY] * 3, axis=-1), np.stack([GREY] * 3 + [alpha], axis=-1)):
        np.testing.assert_array_equal(decode_image(png(channels)), GREY)


def test_colour_becomes_luminance(png: Callable[..., bytes]) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)  # blue, green, red
    expected = 0.114 * colour[..., 0] + 0.587 * colour[..., 1] + 0.299 * colour[..., 2]
    assert np.abs(decode_image(png(colour)) - expected).max() <= 0.51


def test_grey_with_alpha_and_one_bit() -> None:
    rows = b"".join(b"\0" + bytes([value, 200]) * 3 for value in (5, 250))
    assert decode_image(hand_made(2, 3, rows, colour=4)).tolist() == [[5] * 3, [250] * 3]
    assert decode_mask(hand_made(2, 8, b"\0\xf0\0\x01", depth=1)).tolist() == [[1] * 4 + [0] * 4, [0] * 7 + [1]]


def test_masks_of_either_kind_become_0_and_1(png: Callable[..., bytes]) -> None:
    mask = np.random.default_rng(0).integers(0, 2, (5, 7), dtype=np.uint8)
    wide = mask.astype(np.uint16)
    kinds = [mask, mask * np.uint8(255), wide, wide * np.uint16(65535), np.stack([mask * np.uint8(255)] * 3, -1)]
    for kind in kinds:
        decoded = decode_mask(png(kind))
        np.testing.assert_array_equal(decoded, mask)
        assert decoded.dtype == np.uint8
    for full in (np.full((5, 7), 255, np.uint8), np.full((5, 7), 65535, np.uint16), np.ones((5, 7), np.uint8)):
        assert decode_mask(png(full)).all()
    assert not decode_mask(png(np.zeros((5, 7), np.uint16))).any()


@pytest.mark.parametrize(
    "values", [[0, 128], [0, 1, 255], [0, 254, 255], [128, 128], [1, 255], [0, 2]], ids=lambda values: str(values)
)
def test_masks_of_other_values_are_refused(png: Callable[..., bytes], values: list[int]) -> None:
    with pytest.raises(PngError, match="two-valued"):
        decode_mask(png(np.resize(np.array(values, np.uint8), (4, 4))))


def test_a_16_bit_mask_of_0_and_255_is_not_two_valued(png: Callable[..., bytes]) -> None:
    with pytest.raises(PngError, match="two-valued"):
        decode_mask(png(np.resize(np.array([0, 255], np.uint16), (4, 4))))


def test_a_coloured_mask_is_refused(png: Callable[..., bytes]) -> None:
    mask = np.zeros((4, 4, 3), np.uint8)
    mask[..., 2] = 255
    with pytest.raises(PngError, match="coloured"):
        decode_mask(png(mask))


def test_every_truncation_and_every_damaged_byte_is_noticed(png: Callable[..., bytes]) -> None:
    data = png(np.random.default_rng(0).integers(0, 256, (9, 9), dtype=np.uint8))
    for length in range(len(data)):
        with pytest.raises(PngError):
            decode_image(data[:length])
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x10
        with pytest.raises(PngError):
            decode_image(bytes(damaged))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file"),
        (b"GIF89a", "not a PNG"),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"IEND", b""), "no header"),
        (hand_made(3, 3, b"\0\1\1\1"), "unreadable"),  # rows are missing, though every checksum is right
        (hand_made(1, 513, b"\0" * 514), "1×513 pixels; at most 512"),
        (hand_made(1 << 30, 1 << 30, b""), "at most 512"),
    ],
)
def test_faults_are_named(data: bytes, message: str) -> None:
    with pytest.raises(PngError, match=message):
        decode_image(data)


def test_a_16_bit_image_is_refused(png: Callable[..., bytes]) -> None:
    with pytest.raises(PngError, match="16-bit image"):
        decode_image(png(np.zeros((4, 4), np.uint16)))


def test_the_greatest_size(png: Callable[..., bytes]) -> None:
    assert decode_image(png(np.zeros((512, 512), np.uint8))).shape == (512, 512)
