import numpy as np
import pytest
from numpy.typing import NDArray

from semisalt.errors import UserError
from semisalt.mosaics.grid import Mosaics, Pairs, join_pairs, no_pairs, read_mosaics, write_mosaics


def placed(grids: list[list[list[int]]], count: int) -> Mosaics:
    """Mosaics from grids of tile numbers, −1 for nothing."""
    places = np.full((3, count), -1, np.int64)
    for number, grid in enumerate(grids):
        for (row, column), tile in np.ndenumerate(np.array(grid)):
            if tile >= 0:
                places[:, tile] = number, row, column
    return Mosaics(tuple(f"t{tile}" for tile in range(count)), *places)


def pairs_of(*rows: tuple[int, int, bool, float, float]) -> Pairs:
    first, second, below, distance, probability = zip(*rows, strict=True)
    return Pairs(np.array(first), np.array(second), np.array(below), np.float32(distance), np.float32(probability))


def test_neighbours_are_the_adjacent_places_of_the_same_mosaic() -> None:
    mosaics = placed([[[0, 1, -1], [2, -1, 3]], [[4, 5]]], 7)
    around: dict[str, NDArray[np.int64]] = dict(mosaics.neighbours())
    assert around["right"].tolist() == [1, -1, -1, -1, 5, -1, -1]
    assert around["left"].tolist() == [-1, 0, -1, -1, -1, 4, -1]
    assert around["below"].tolist() == [2, -1, -1, -1, -1, -1, -1]
    assert around["above"].tolist() == [-1, -1, 0, -1, -1, -1, -1]


def test_sizes_and_the_grid_of_a_mosaic() -> None:
    mosaics = placed([[[0, 1, -1], [2, -1, 3]], [[4, 5]]], 7)
    assert mosaics.count == 2
    assert mosaics.sizes().tolist() == [4, 2]
    assert mosaics.tiles(0).tolist() == [[0, 1, -1], [2, -1, 3]]
    assert placed([], 3).count == 0
    assert placed([], 3).sizes().tolist() == []


def test_joint_is_the_pairs_probability_and_nan_where_there_is_none() -> None:
    mosaics = placed([[[0, 1], [2, 3]]], 4)
    pairs = pairs_of((0, 1, False, 0.5, 0.9), (0, 2, True, 0.5, 0.8), (2, 3, False, 0.5, 0.7))
    np.testing.assert_array_equal(mosaics.joint("right", pairs), np.float32([0.9, np.nan, 0.7, np.nan]))
    np.testing.assert_array_equal(mosaics.joint("left", pairs), np.float32([np.nan, 0.9, np.nan, 0.7]))
    np.testing.assert_array_equal(mosaics.joint("below", pairs), np.float32([0.8, np.nan, np.nan, np.nan]))
    np.testing.assert_array_equal(mosaics.joint("above", pairs), np.float32([np.nan, np.nan, 0.8, np.nan]))


def test_two_tiles_in_one_place_are_an_error() -> None:
    zero = np.zeros(2, np.int64)
    with pytest.raises(ValueError, match="one place"):
        Mosaics(("a", "b"), zero, zero, zero)
    outside = zero - 1
    assert Mosaics(("a", "b"), outside, outside, outside).count == 0


def test_files_read_back_equal(tmp_path) -> None:
    mosaics = placed([[[0, 1, -1], [2, -1, 3]], [[4, 5]]], 7)
    pairs = pairs_of((0, 1, False, 1 / 3, 0.99999994), (0, 2, True, 1e-7, 0.9))
    write_mosaics(tmp_path, mosaics, pairs)
    again, found = read_mosaics(tmp_path)
    assert again.ids == mosaics.ids
    for name in ("mosaic", "row", "column"):
        np.testing.assert_array_equal(getattr(again, name), getattr(mosaics, name))
    for name in ("first", "second", "below", "distance", "probability"):
        np.testing.assert_array_equal(getattr(found, name), getattr(pairs, name))
        assert getattr(found, name).dtype == getattr(no_pairs(), name).dtype
    write_mosaics(tmp_path, placed([], 0), no_pairs())
    assert len(read_mosaics(tmp_path)[0]) == 0


def test_broken_files_are_named_with_their_line(tmp_path) -> None:
    with pytest.raises(UserError, match=r"mosaics\.csv: does not exist"):
        read_mosaics(tmp_path)
    write_mosaics(tmp_path, placed([[[0, 1]]], 2), pairs_of((0, 1, False, 0.5, 0.9)))
    whole = (tmp_path / "neighbours.csv").read_text()
    (tmp_path / "neighbours.csv").write_text(whole.replace("right", "beside"))
    with pytest.raises(UserError, match=r"neighbours\.csv, line 2"):
        read_mosaics(tmp_path)
    (tmp_path / "mosaics.csv").write_text("mosaic,row,column,id\n0,0,0,a\n0,0,0,b\n")
    (tmp_path / "neighbours.csv").write_text(whole.splitlines()[0] + "\n")
    with pytest.raises(UserError, match="one place"):
        read_mosaics(tmp_path)


def test_pairs_of_unequal_lengths_are_an_error() -> None:
    with pytest.raises(ValueError, match="one length"):
        Pairs(np.array([1]), np.array([2, 3]), np.array([True]), np.float32([0]), np.float32([1]))


def test_joining_keeps_order_and_kinds() -> None:
    one, other = pairs_of((0, 1, False, 0.5, 0.9)), pairs_of((4, 2, True, 0.25, 0.8))
    both = join_pairs([one, no_pairs(), other])
    assert both.first.tolist() == [0, 4]
    assert both.below.tolist() == [False, True]
    assert both.first.dtype == np.int64
    assert len(join_pairs([])) == 0
