"""What borders say, against counts by hand."""

import numpy as np
import pytest

from semisalt.mosaics.agreement import REACH, agreeing, border_trust, evidence
from semisalt.mosaics.rules import agree_with_borders
from tests.mosaics.worlds import EMPTY, FULL, HALF, OTHER, SIZE, STRIPE, columns_view

TOP = np.zeros((40, 40), np.uint8)
TOP[:26, 5:20] = 1  # the middle row (20) is inside, so are the five below it


def by_hand(masks, distance, label):
    """log P(label | salt) − log P(label | none) for a neighbour above, pixel by pixel."""
    counts = np.ones((2, 2))
    for mask in masks:
        middle = mask[len(mask) // 2]
        if middle.all() or not middle.any():
            continue
        for border, pixel in zip(middle, mask[len(mask) // 2 + distance], strict=True):
            counts[border, pixel] += 1
    given = counts[label] / counts.sum(axis=0)
    return (1 - (distance - 1) / REACH) * np.log(given[1] / given[0])


def test_evidence_by_hand():
    generator = np.random.default_rng(0)
    masks = np.stack(
        [
            TOP,
            np.roll(TOP, 7, axis=1),
            np.ones_like(TOP),
            np.zeros_like(TOP),
            generator.integers(0, 2, TOP.shape, np.uint8),
        ]
    )
    found = evidence(masks)
    for distance in (1, 5, 6, 16):
        for label in (0, 1):
            assert found["above"][distance - 1, label] == pytest.approx(by_hand(masks, distance, label))
    upside_down = evidence(masks[:, ::-1])["below"]
    np.testing.assert_allclose(upside_down, found["above"])
    np.testing.assert_allclose(evidence(masks.transpose(0, 2, 1))["left"], found["above"])
    np.testing.assert_allclose(evidence(masks.transpose(0, 2, 1)[:, :, ::-1])["right"], found["above"])
    assert found["above"][0, 1] > 0 > found["above"][0, 0]


INWARDS = {  # a tile turned so that the joint is its first row
    "above": lambda tile: tile,
    "below": lambda tile: tile[::-1],
    "left": lambda tile: tile.T,
    "right": lambda tile: tile.T[::-1],
}


@pytest.mark.parametrize("side", INWARDS)
def test_only_pixels_near_the_joint_move_and_towards_the_border(side):
    found = evidence(np.stack([TOP, TOP[:, ::-1]]))["above"]
    p = np.full((40, 40), 120, np.uint8)
    label = np.zeros((40, 40), np.uint8)
    INWARDS[side](label)[-1, 10:] = 1  # the neighbour's row at the joint
    seen = INWARDS[side](agreeing(p, {side: label}, {side: found}))
    assert (seen[REACH:] == 120).all()
    assert (seen[0, 10:] > 160).all()
    assert (seen[0, :10] < 80).all()
    for value in (0, 1):
        np.testing.assert_array_equal(agreeing(p, {side: np.full((40, 40), value, np.uint8)}, {side: found}), p)


def test_certain_probabilities_stay_in_range():
    found = {"above": np.full((REACH, 2), 300.0)}
    ends = np.array([[0, 255], [255, 0]], np.uint8)
    np.testing.assert_array_equal(agreeing(ends, {"above": np.eye(2, dtype=np.uint8)}, found), np.full((2, 2), 255))


def test_trust_is_the_share_of_agreeing_border_pixels():
    one_off = STRIPE.copy()
    one_off[0, 11] = 1
    view = columns_view(
        [[STRIPE, STRIPE], [STRIPE, one_off], [FULL, EMPTY], [EMPTY, EMPTY], [EMPTY, STRIPE], [STRIPE, None]]
    )
    # Two pairs tell what is above: all pixels agree, and all but one. Borders of one label alone do not count.
    assert border_trust(view, "above") == pytest.approx((1 + (SIZE - 1) / SIZE + 1) / 4)
    # And three tell what is below: the stripe's border has no salt above it.
    assert border_trust(view, "below") == pytest.approx((1 + (SIZE - 1) / SIZE + (SIZE - 4) / SIZE + 1) / 5)
    assert border_trust(view, "left") == 0.5


@pytest.mark.parametrize("sideways", [False, True])
def test_a_prediction_leans_on_its_neighbours_border(sideways):
    tile = HALF.T if sideways else HALF  # salt that stops half-way, its open end at the joint
    stub = np.zeros_like(tile)
    line = STRIPE.T if sideways else STRIPE
    rehearsal = [[line, line]] * 12
    view = columns_view([*rehearsal, [line, None]], {25: stub}, sideways=sideways)
    view.probabilities[25] = 110
    (proposal,) = agree_with_borders(view)
    near = proposal.mask if not sideways else proposal.mask.T
    np.testing.assert_array_equal(near[0], STRIPE[0])
    assert proposal.tile == 25
    # Borders that do not agree where both labels are known say nothing.
    other = OTHER.T if sideways else OTHER
    view = columns_view([*[[line, other]] * 12, [line, None]], sideways=sideways)
    view.probabilities[25] = 110
    assert not agree_with_borders(view)


def test_a_prediction_that_agrees_is_not_touched():
    view = columns_view([*[[STRIPE, STRIPE]] * 12, [STRIPE, None]], {25: STRIPE})
    assert not agree_with_borders(view)
