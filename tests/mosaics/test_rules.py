"""Each rule fires where it must and nowhere else, on columns of tiles made by hand."""

import numpy as np
import pytest

from semisalt.mosaics.rules import (
    LEAST,
    RULES,
    Proposal,
    choose,
    continue_above,
    continue_below,
    correct,
    empty_below,
)
from tests.mosaics.worlds import EMPTY, FULL, FULL_BOTTOM, HALF, OTHER, SIZE, SLOPE, STRIPE, columns_view

PROVEN = [[STRIPE, STRIPE]] * 3  # three known pairs on which the vertical rules were right
PROVEN_EMPTY = [[FULL_BOTTOM, EMPTY]] * 3


def touched(proposals):
    return [proposal.tile for proposal in proposals]


@pytest.mark.parametrize("source", [STRIPE, OTHER, HALF])
def test_vertical_salt_goes_on_below(source):
    (proposal,) = continue_below(columns_view([*PROVEN, [source, None]]))
    assert proposal.tile == 7
    np.testing.assert_array_equal(proposal.mask, np.tile(source[-1], (SIZE, 1)))
    assert proposal.confidence == pytest.approx((3 + 1) / (3 + 2) * 0.99)
    assert "t006" in proposal.reason


@pytest.mark.parametrize(
    "column",
    [
        [EMPTY, None],
        [FULL, None],
        [FULL_BOTTOM, None],
        [SLOPE, None],
        [None, STRIPE],  # above, not below
        [STRIPE, STRIPE],  # its label is known
        [STRIPE],
        [None, None],
    ],
    ids=["empty", "full", "full bottom", "slope", "above", "known", "lone", "no label"],
)
def test_nothing_else_goes_on_below(column):
    assert not continue_below(columns_view([*PROVEN, column]))


def test_a_stripe_of_which_one_row_of_the_lower_half_differs_does_not_go_on():
    broken = HALF.copy()
    broken[SIZE // 2, 3] = 0
    assert not continue_below(columns_view([*PROVEN, [broken, None]]))
    broken = HALF.copy()
    broken[SIZE // 2 - 1, 3] = 1
    assert continue_below(columns_view([*PROVEN, [broken, None]]))


@pytest.mark.parametrize(
    "rehearsal", [[], PROVEN[:2], [[STRIPE, EMPTY]] * 3, [*PROVEN, [STRIPE, EMPTY], [STRIPE, EMPTY]]]
)
def test_a_rule_that_has_not_proven_itself_is_silent(rehearsal):
    assert not continue_below(columns_view([*rehearsal, [STRIPE, None]]))


def test_an_unsure_joint_silences_the_rules():
    columns = [*PROVEN, *PROVEN_EMPTY, [STRIPE, None], [FULL_BOTTOM, None], [None, STRIPE]]
    prediction = {16: STRIPE}
    assert len(correct(columns_view(columns, prediction))[1]) == 3
    assert not correct(columns_view(columns, prediction, probability=0.8))[1]


def test_salt_goes_on_further_down_while_sure_and_to_the_first_known_tile():
    many = [[STRIPE, STRIPE]] * 20
    view = columns_view([*many, [STRIPE, None, None, EMPTY, None]])
    proposals = continue_below(view)
    assert touched(proposals) == [41, 42]
    once = 21 / 22 * 0.99
    assert [p.confidence for p in proposals] == pytest.approx([once, once**2])
    assert touched(continue_below(columns_view([*PROVEN, [STRIPE, None, None]]))) == [7]
    assert 0.8 * 0.99 > LEAST > (0.8 * 0.99) ** 2


def test_empty_below_a_full_bottom_row():
    view = columns_view([*PROVEN_EMPTY, [FULL_BOTTOM, None], [FULL, None]], {7: STRIPE, 9: FULL})
    proposals = empty_below(view)
    assert touched(proposals) == [7, 9]
    assert not any(proposal.mask.any() for proposal in proposals)
    gap = FULL_BOTTOM.copy()
    gap[-1, 5] = 0
    for column in ([gap, None], [None, FULL_BOTTOM], [FULL_BOTTOM, EMPTY], [EMPTY, None]):
        assert not empty_below(columns_view([*PROVEN_EMPTY, column]))
    assert not empty_below(columns_view([[FULL_BOTTOM, FULL]] * 3 + [[FULL_BOTTOM, None]]))


def test_vertical_salt_begins_above_only_where_the_network_half_agrees():
    columns = [*PROVEN, [None, STRIPE]]
    nearly = STRIPE.copy()
    nearly[: SIZE // 4] = 0
    (proposal,) = continue_above(columns_view(columns, {6: nearly}))
    np.testing.assert_array_equal(proposal.mask, STRIPE)
    for prediction in (EMPTY, OTHER, FULL):
        assert not continue_above(columns_view(columns, {6: prediction}))
    for source in (EMPTY, FULL, HALF, SLOPE):
        assert not continue_above(columns_view([*PROVEN, [None, source]], {6: nearly}))
    assert not continue_above(columns_view([[EMPTY, STRIPE]] * 3 + [[None, STRIPE]], {6: nearly}))


@pytest.mark.parametrize("planted", [STRIPE, FULL, FULL_BOTTOM, SLOPE])
def test_no_label_of_an_unknown_tile_is_used(planted):
    """The middle tiles' secret labels would make rules fire above and below them, and change what rules trust."""
    columns = [[None, None, None], *PROVEN, *PROVEN_EMPTY, [STRIPE, None, None], [FULL_BOTTOM, None, None]]
    plain, secret = (correct(columns_view(columns, planted=mask)) for mask in (EMPTY, planted))
    np.testing.assert_array_equal(plain[0], secret[0])
    assert touched(plain[1]) == touched(secret[1]) == [16, 19]


def test_one_proposal_a_tile():
    def proposal(tile, confidence, rule="continue below"):
        return Proposal(tile, EMPTY, confidence, rule, "")

    low, high, border = proposal(3, 0.8), proposal(3, 0.9, "empty below full"), proposal(3, 0.99, "border agreement")
    other = proposal(1, 0.99, "border agreement")
    assert choose([low, border, high, other]) == [other, high]
    assert choose([border, low]) == [low]
    assert choose([]) == []


def test_masks_are_corrected_in_the_order_of_the_targets():
    columns = [[None], *PROVEN, [STRIPE, None], [None]]
    view = columns_view(columns, {0: SLOPE, 8: OTHER, 9: FULL})
    masks, followed = correct(view)
    np.testing.assert_array_equal(masks, [SLOPE, STRIPE, FULL])
    assert touched(followed) == [8]
    assert set(RULES) == {"continue below", "continue above", "empty below full", "border agreement"}
