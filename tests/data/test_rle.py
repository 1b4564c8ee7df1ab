import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from semisalt.data.rle import RleError, decode, encode

MASKS = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=12), elements=st.integers(0, 1))


def salt_numbers(rle: str) -> list[int]:
    """The pixel numbers that the pairs list, one by one."""
    values = [int(value) for value in rle.split()]
    return [values[at] + step for at in range(0, len(values), 2) for step in range(values[at + 1])]


@given(MASKS)
@settings(deadline=None)
def test_runs_list_the_salt_pixels_column_by_column(mask: NDArray[np.uint8]) -> None:
    height, width = mask.shape
    expected = [c * height + r + 1 for c in range(width) for r in range(height) if mask[r, c]]
    rle = encode(mask)
    assert salt_numbers(rle) == expected
    starts = [int(value) for value in rle.split()][::2]
    ends = [int(s) + int(n) for s, n in zip(rle.split()[::2], rle.split()[1::2], strict=True)]
    assert all(end < start for end, start in zip(ends, starts[1:], strict=False)), "runs are as long as possible"


@given(MASKS)
@settings(deadline=None)
def test_decode_sets_exactly_the_listed_pixels(mask: NDArray[np.uint8]) -> None:
    height, width = mask.shape
    numbers = [c * height + r + 1 for c in range(width) for r in range(height) if mask[r, c]]
    one_by_one = " ".join(f"{number} 1" for number in numbers)  # runs that touch are runs all the same
    np.testing.assert_array_equal(decode(one_by_one, (height, width)), mask)


def test_known_masks() -> None:
    mask = np.zeros((3, 2), dtype=np.uint8)
    assert encode(mask) == ""
    assert decode("  ", (3, 2)).sum() == 0
    mask[2, 0] = mask[0, 1] = 1  # the last of the first column, the first of the second: one run
    assert encode(mask) == "3 2"
    assert encode(mask * np.uint8(255)) == "3 2"
    assert encode(np.ones((101, 101), dtype=np.uint8)) == "1 10201"


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ("1", "odd number"),
        ("1 2 4", "odd number"),
        ("1 2 2 1", "overlaps"),
        ("3 1 1 1", "ascend"),
        ("0 1", "'0' is not a positive"),
        ("1 0", "'0' is not a positive"),
        ("-1 2", "'-1' is not a positive"),
        ("1.0 2", "'1.0' is not a positive"),
        ("1 x", "'x' is not a positive"),
        ("1_0 1", "'1_0' is not a positive"),
        ("², 1", "not a positive"),
        ("5 3", "out of range"),
        ("7 1", "out of range"),
        ("1 " + "9" * 5000, "not a positive"),
    ],
)
def test_faults_are_named(rle: str, message: str) -> None:
    with pytest.raises(RleError, match=message):
        decode(rle, (3, 2))


def test_the_last_pixel_is_in_range() -> None:
    assert decode("6 1", (3, 2)).tolist() == [[0, 0], [0, 0], [0, 1]]


def test_a_mask_has_two_dimensions() -> None:
    with pytest.raises(ValueError, match="two dimensions"):
        encode(np.zeros((1, 3, 3), dtype=np.uint8))
