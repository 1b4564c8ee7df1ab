import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from semisalt.mosaics.groups import crossing_pairs, group_numbers
from tests.mosaics.worlds import mosaics_of

MOSAICS = mosaics_of([np.array([[0, 1], [2, -1]]), np.array([[5, 4]])], 8)  # 3, 6 and 7 lie in none


def test_tiles_of_one_mosaic_share_a_number_and_others_have_their_own():
    numbers = group_numbers(MOSAICS, ["t004", "t003", "t000", "t006", "t002", "t005"])
    assert sorted(set(numbers.tolist())) == [0, 1, 2, 3]
    by_id = dict(zip(["4", "3", "0", "6", "2", "5"], numbers.tolist(), strict=True))
    assert by_id["0"] == by_id["2"]
    assert by_id["4"] == by_id["5"]
    assert len({by_id["0"], by_id["4"], by_id["3"], by_id["6"]}) == 4
    assert group_numbers(MOSAICS, []).tolist() == []


def test_pairs_across_folds_by_hand():
    ids = [f"t{tile:03}" for tile in (0, 1, 2, 3, 5, 4)]
    # 0 right of it 1, 0 below it 2, 5 right of it 4.
    assert crossing_pairs(MOSAICS, ids, np.array([0, 1, 0, 0, 2, 2])) == (1, 3)
    assert crossing_pairs(MOSAICS, ids, np.array([0, 1, 2, 0, 2, 1])) == (3, 3)
    # A neighbour that is not asked for makes no pair.
    assert crossing_pairs(MOSAICS, ids[:1] + ids[3:5], np.array([0, 1, 2])) == (0, 0)


def test_unknown_ids_are_named():
    with pytest.raises(ValueError, match="t099"):
        group_numbers(MOSAICS, ["t000", "t099"])


@given(st.lists(st.integers(0, 4), min_size=8, max_size=8))
def test_folds_by_group_leave_no_pair_across(fold_of_group):
    numbers = group_numbers(MOSAICS, MOSAICS.ids)
    across, pairs = crossing_pairs(MOSAICS, MOSAICS.ids, np.array(fold_of_group)[numbers])
    assert (across, pairs) == (0, 3)
