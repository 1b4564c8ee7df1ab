import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from semisalt.mosaics.candidates import NO_RIVAL, UNSUPPORTED, Candidates, joined, square_support, with_margins

PAIRS = st.dictionaries(st.tuples(st.integers(0, 6), st.integers(0, 6)), st.floats(-7, 9, width=32), max_size=25)
Found = dict[tuple[int, int], float]


def made(found: Found) -> Candidates:
    first, second = (np.array([pair[at] for pair in found], np.int64) for at in (0, 1))
    return with_margins(first, second, np.array(list(found.values()), np.float32), np.ones(len(found), np.float32))


@given(PAIRS)
@settings(max_examples=100, deadline=None)
def test_margins_are_those_over_the_best_pair_that_shares_a_tile(found: Found) -> None:
    margins = made(found).margin
    for (pair, value), margin in zip(found.items(), margins, strict=True):
        rivals = [v for p, v in found.items() if p != pair and (p[0] == pair[0] or p[1] == pair[1])]
        expected = value - max(rivals) if rivals else NO_RIVAL
        assert margin == pytest.approx(min(max(expected, -NO_RIVAL), NO_RIVAL), abs=1e-4)


@given(PAIRS, PAIRS)
@settings(max_examples=100, deadline=None)
def test_support_is_the_weakest_of_the_three_others_in_the_best_square_of_either_side(
    right: Found, below: Found
) -> None:
    parts = made(right), made(below)
    support = square_support(*parts, (parts[0].ratio, parts[1].ratio))
    expected = {("r", p): [UNSUPPORTED] * 2 for p in right} | {("b", p): [UNSUPPORTED] * 2 for p in below}
    for (a, b), (c, d) in itertools.product(right, right):  # a b above c d
        if (a, c) in below and (b, d) in below:
            # The square lies below its upper edge and right of its left one.
            edges = [("r", (a, b), 0), ("r", (c, d), 1), ("b", (a, c), 0), ("b", (b, d), 1)]
            odds = [(right if kind == "r" else below)[pair] for kind, pair, _ in edges]
            for place, (kind, pair, side) in enumerate(edges):
                weakest = min(odds[:place] + odds[place + 1 :])
                expected[kind, pair][side] = max(expected[kind, pair][side], weakest)
    for kind, found, values in (("r", right, support[0]), ("b", below, support[1])):
        for pair, value in zip(found, values, strict=True):
            assert value.tolist() == pytest.approx(sorted(expected[kind, pair], reverse=True), abs=1e-4)


@given(st.lists(st.integers(0, 5), max_size=12), st.lists(st.integers(0, 5), max_size=12))
@settings(max_examples=50, deadline=None)
def test_join_finds_every_equal_couple_once(left: list[int], right: list[int]) -> None:
    one, other = joined(np.array(left, np.int64), np.array(right, np.int64))
    found = sorted(zip(one.tolist(), other.tolist(), strict=True))
    assert found == [(i, j) for i, a in enumerate(left) for j, b in enumerate(right) if a == b]
