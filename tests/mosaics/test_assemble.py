import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semisalt.mosaics.assemble import assemble
from semisalt.mosaics.grid import Pairs, no_pairs

Row = tuple[int, int, bool, float]


def pairs_of(rows: list[Row]) -> Pairs:
    """Pairs from (first, second, below, probability)."""
    columns = list(zip(*rows, strict=True)) if rows else [[], [], [], []]
    return Pairs(
        np.array(columns[0], np.int64),
        np.array(columns[1], np.int64),
        np.array(columns[2], np.bool_),
        np.zeros(len(rows), np.float32),
        np.array(columns[3], np.float32),
    )


def names(count: int) -> tuple[str, ...]:
    return tuple(f"t{tile:03}" for tile in range(count))


def all_pairs(grid: np.ndarray, probability: float = 0.9) -> list[Row]:
    """The pairs of everything that adjoins on a grid of tiles."""
    rows = [(int(a), int(b), False, probability) for a, b in zip(grid[:, :-1].flat, grid[:, 1:].flat, strict=True)]
    return rows + [(int(a), int(b), True, probability) for a, b in zip(grid[:-1].flat, grid[1:].flat, strict=True)]


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_a_grid_cut_into_tiles_is_put_together_exactly(rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    grid = rng.permutation(rows * columns).reshape(rows, columns)
    given_pairs = all_pairs(grid)
    mosaics, refused = assemble(names(grid.size), pairs_of([given_pairs[i] for i in rng.permutation(len(given_pairs))]))
    assert len(refused) == 0
    if grid.size > 1:
        np.testing.assert_array_equal(mosaics.tiles(0), grid)
    else:
        assert mosaics.count == 0


ANY_PAIRS = st.lists(
    st.tuples(st.integers(0, 11), st.integers(0, 11), st.booleans(), st.sampled_from([0.5, 0.7, 0.9])), max_size=40
)


@given(ANY_PAIRS, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_any_pairs_give_a_consistent_placement_that_their_order_does_not_change(rows: list[Row], random) -> None:
    rows = list(dict.fromkeys(rows))
    pairs = pairs_of(rows)
    mosaics, refused = assemble(names(12), pairs)
    thrown_out = set(zip(refused.first.tolist(), refused.second.tolist(), refused.below.tolist(), strict=True))
    for first, second, below, _ in rows:
        if (first, second, below) in thrown_out:
            continue
        assert mosaics.mosaic[first] == mosaics.mosaic[second] >= 0
        assert mosaics.row[second] - mosaics.row[first] == int(below)
        assert mosaics.column[second] - mosaics.column[first] == int(not below)
    inside = mosaics.mosaic >= 0
    places = list(zip(mosaics.mosaic[inside], mosaics.row[inside], mosaics.column[inside], strict=True))
    assert len(set(places)) == len(places)
    sizes = mosaics.sizes()
    assert (np.diff(sizes) <= 0).all()
    assert (sizes >= 2).all()
    for number in range(mosaics.count):
        assert mosaics.row[mosaics.mosaic == number].min() == 0
        assert mosaics.column[mosaics.mosaic == number].min() == 0
    shuffled = list(rows)
    random.shuffle(shuffled)
    again, _ = assemble(names(12), pairs_of(shuffled))
    for name in ("mosaic", "row", "column"):
        np.testing.assert_array_equal(getattr(again, name), getattr(mosaics, name))


def test_a_loop_that_does_not_close_loses_its_weakest_pair() -> None:
    # A square 0 1 / 2 3 whose lower pair names tile 4 instead, and a pair that puts 3 to the left of 0.
    rows = [(0, 1, False, 0.9), (0, 2, True, 0.9), (1, 3, True, 0.9), (2, 4, False, 0.5), (3, 0, False, 0.6)]
    mosaics, refused = assemble(names(5), pairs_of(rows))
    assert mosaics.tiles(0).tolist() == [[0, 1], [2, 3]]
    assert mosaics.mosaic[4] == -1
    assert sorted(zip(refused.first.tolist(), refused.second.tolist(), strict=True)) == [(2, 4), (3, 0)]


def test_two_tiles_for_one_place_are_decided_by_probability() -> None:
    for likelier, expected in ((1, [[0, 1]]), (2, [[0, 2]])):
        rows = [(0, 1, False, 0.9 if likelier == 1 else 0.8), (0, 2, False, 0.9 if likelier == 2 else 0.8)]
        mosaics, refused = assemble(names(3), pairs_of(rows))
        assert mosaics.tiles(0).tolist() == expected
        assert len(refused) == 1


def test_a_tile_that_is_its_own_neighbour_is_refused() -> None:
    mosaics, refused = assemble(names(2), pairs_of([(0, 0, False, 0.9)]))
    assert mosaics.count == 0
    assert len(refused) == 1


def test_pieces_that_would_overlap_are_not_joined() -> None:
    # Two strips of three; the pair of their ends would lay the second back over the first by a detour.
    rows = [(0, 1, False, 0.9), (1, 2, False, 0.9), (3, 4, False, 0.9), (4, 5, True, 0.9), (5, 6, False, 0.9)]
    overlapping = [*rows, (0, 4, True, 0.7), (5, 1, True, 0.6)]
    mosaics, refused = assemble(names(7), pairs_of(overlapping))
    assert refused.first.tolist() == [5]
    assert mosaics.tiles(0).tolist() == [[-1, 0, 1, 2], [3, 4, -1, -1], [-1, 5, 6, -1]]


def test_joints_that_speak_against_it_keep_pieces_apart() -> None:
    square = np.arange(4).reshape(2, 2)
    rows = [(0, 1, False, 0.99), (2, 3, False, 0.99), (0, 2, True, 0.9)]

    def against(first: np.ndarray, second: np.ndarray, below: np.ndarray) -> np.ndarray:
        return np.where(below & (first == 1) & (second == 3), -50, 4).astype(np.float32)

    def neutral(first: np.ndarray, second: np.ndarray, below: np.ndarray) -> np.ndarray:
        return np.where(below & (first == 1) & (second == 3), -1, 4).astype(np.float32)

    kept, refused = assemble(names(4), pairs_of(rows), neutral)
    np.testing.assert_array_equal(kept.tiles(0), square)
    assert len(refused) == 0
    apart, refused = assemble(names(4), pairs_of(rows), against)
    assert apart.sizes().tolist() == [2, 2]
    assert (refused.first.tolist(), refused.second.tolist()) == ([0], [2])


def test_mosaics_are_numbered_by_size_then_by_smallest_id() -> None:
    ids = ("d", "c", "b", "a", "z", "y", "x")
    mosaics, _ = assemble(ids, pairs_of([(0, 1, False, 0.9), (2, 3, True, 0.99), (4, 5, True, 0.9), (5, 6, True, 0.9)]))
    assert mosaics.mosaic.tolist() == [2, 2, 1, 1, 0, 0, 0]


def test_no_pairs_and_no_tiles() -> None:
    assert assemble(names(3), no_pairs())[0].mosaic.tolist() == [-1, -1, -1]
    assert len(assemble((), no_pairs())[0]) == 0
    assert assemble(("a",), no_pairs())[0].count == 0


def test_unknown_tiles_and_equal_ids_are_errors() -> None:
    with pytest.raises(ValueError, match="beyond"):
        assemble(names(2), pairs_of([(0, 2, False, 0.9)]))
    with pytest.raises(ValueError, match="different"):
        assemble(("a", "a"), no_pairs())
