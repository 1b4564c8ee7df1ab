"""The fourth tile of a square, given the three others."""

import numpy as np
import pytest
from numpy.typing import NDArray

from semisalt.mosaics import match
from semisalt.mosaics.candidates import Candidates, with_margins
from semisalt.mosaics.corners import Ends, with_corners
from semisalt.mosaics.evidence import Evidence
from tests.mosaics.surveys import layered

Tile = tuple[int, int]  # row, column


@pytest.fixture(scope="module")
def world() -> tuple[dict[Tile, int], tuple[Evidence, Evidence], tuple[Evidence, Evidence]]:
    """One section of 6 × 6 tiles: the tile in each place, and both kinds of evidence."""
    images, places = layered(1, (6, 6), (48, 48))
    usable = np.ones(len(images), np.bool_)
    right, below = (match.candidates(images, direction, usable) for direction in match.DIRECTIONS)
    at = {(row, column): tile for tile, (_, row, column) in enumerate(places.tolist())}
    return at, (right[0], below[0]), (right[2], below[2])


def ends(pairs: list[tuple[int, int]]) -> Ends:
    values: NDArray[np.int64] = np.array(pairs, np.int64).reshape(-1, 2)
    return values[:, 0], values[:, 1]


def nothing() -> Candidates:
    empty = np.empty(0, np.int64)
    return with_margins(empty, empty, np.empty(0, np.float32), np.empty(0, np.float32))


def couples(found: Candidates) -> set[tuple[int, int]]:
    return set(zip(found.first.tolist(), found.second.tolist(), strict=True))


@pytest.mark.parametrize("missing", [(2, 2), (2, 3), (3, 2), (3, 3)])
def test_a_tile_that_no_border_found_alone_is_found_by_two(world, missing: Tile) -> None:  # type: ignore[no-untyped-def]
    at, evidence, screen = world
    square = [(2, 2), (2, 3), (3, 2), (3, 3)]
    across = [(at[a], at[b]) for a, b in (square[:2], square[2:]) if missing not in (a, b)]
    down = [(at[a], at[b]) for a, b in (square[::2], square[1::2]) if missing not in (a, b)]
    found = with_corners((nothing(), nothing()), (ends(across), ends(down)), evidence, screen)
    wanted_across = {(at[a], at[b]) for a, b in (square[:2], square[2:]) if missing in (a, b)}
    wanted_down = {(at[a], at[b]) for a, b in (square[::2], square[1::2]) if missing in (a, b)}
    assert wanted_across <= couples(found[0])
    assert wanted_down <= couples(found[1])
    # Both joints speak for the same few tiles.
    assert len(found[0].first) == len(found[1].first) == 2
    best = int(found[0].ratio.argmax())
    assert (int(found[0].first[best]), int(found[0].second[best])) in wanted_across


def test_a_tile_known_from_one_side_is_a_candidate_from_the_other_whatever_that_joint_looks_like(world) -> None:  # type: ignore[no-untyped-def]
    at, evidence, screen = world
    stranger = at[5, 5]  # does not adjoin there at all
    across = [(at[0, 0], at[0, 1]), (at[1, 0], stranger)]
    down = [(at[0, 0], at[1, 0])]
    found = with_corners((nothing(), nothing()), (ends(across), ends(down)), evidence, screen)
    assert couples(found[0]) == set()
    assert couples(found[1]) == {(at[0, 1], stranger)}
    assert found[1].ratio[0] == pytest.approx(evidence[1].of(*ends([(at[0, 1], stranger)]))[0])
    assert found[1].ratio[0] < 0


def test_complete_squares_single_pairs_and_rows_add_nothing(world) -> None:  # type: ignore[no-untyped-def]
    at, evidence, screen = world
    whole = ([(at[0, 0], at[0, 1]), (at[1, 0], at[1, 1])], [(at[0, 0], at[1, 0]), (at[0, 1], at[1, 1])])
    row: tuple[list[Tile], list[Tile]] = ([(at[0, 0], at[0, 1]), (at[0, 1], at[0, 2])], [])
    for across, down in (whole, row, ([], [])):
        found = with_corners((nothing(), nothing()), (ends(across), ends(down)), evidence, screen)
        assert couples(found[0]) == couples(found[1]) == set()


def test_what_is_a_candidate_already_stays_one_and_stands_once(world) -> None:  # type: ignore[no-untyped-def]
    at, evidence, screen = world
    first, second = ends([(at[1, 0], at[1, 1]), (at[4, 0], at[4, 1])])
    ratio, information = evidence[0].of(first, second), evidence[0].information(first, second)
    before = with_margins(first, second, ratio, information)
    known = ends([(at[0, 0], at[0, 1])]), ends([(at[0, 0], at[1, 0])])
    found, _ = with_corners((before, nothing()), known, evidence, screen)
    assert couples(before) <= couples(found)
    np.testing.assert_array_equal(found.information, evidence[0].information(found.first, found.second))
    assert len(couples(found)) == len(found.first) == 3
