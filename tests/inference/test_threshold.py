"""The search against brute force: every operating point applied to every tile by scipy and exact fractions."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from scipy import ndimage

from semisalt.inference.threshold import (
    MIN_HOLES,
    MIN_SALTS,
    THRESHOLDS,
    Grid,
    Operating,
    apply,
    cross_fitted,
    search,
    tabulate,
)


def slow_points(probability, truth, threshold, min_salt, min_hole):
    mask = probability / 255 > threshold
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    for k in range(1, count + 1):
        if (labels == k).sum() < min_salt:
            mask[labels == k] = False
    if mask.any():
        labels, count = ndimage.label(~mask)
        for k in range(1, count + 1):
            if (labels == k).sum() < min_hole:
                mask[labels == k] = True
    union = int((mask | truth).sum())
    iou = Fraction(int((mask & truth).sum()), union) if union else Fraction(1)
    return sum(iou > Fraction(k, 20) for k in range(10, 20))


def survey(n=150, side=24, seed=0):
    """Blobs, and probabilities that know them through noise; more tiles than one chunk, some empty."""
    generator = np.random.default_rng(seed)
    field = ndimage.gaussian_filter(generator.standard_normal((n, side, side)), (0, 4, 4))
    field = field / field.std() + np.where(generator.random(n) < 0.3, -9, 0)[:, None, None]
    noise = ndimage.gaussian_filter(generator.standard_normal(field.shape), (0, 1, 1))
    probabilities = 255 / (1 + np.exp(-2 * field - 2.5 * noise / noise.std()))
    return probabilities.astype(np.uint8), field > 0


def grid(totals):
    """A grid of one tile with these points, `[T][S][H]`."""
    points = np.array(totals, np.uint8)
    t, s, h = points.shape
    return Grid(tuple(np.linspace(0.1, 0.9, t).round(2).tolist()), tuple(range(s)), tuple(range(h)), points[..., None])


def test_every_point_of_the_grid():
    # Catches holes carried over from one size to the next where they should not be, and counts of another tile.
    probabilities, truth = survey()
    axes = ((0.2, 0.5, 0.7), (0, 4, 12, 60), (0, 3, 15))
    table = tabulate(probabilities, truth, *axes)
    assert table.points.shape == (3, 4, 3, 150)
    for (t, threshold), (s, salt), (h, hole) in product(*map(enumerate, axes)):
        expected = [slow_points(p, y, threshold, salt, hole) for p, y in zip(probabilities, truth, strict=True)]
        assert table.points[t, s, h].tolist() == expected
    # The sizes must matter in this survey, or the test above proves nothing.
    assert len(np.unique(table.points.sum(axis=-1, dtype=int))) > 25


def test_a_hole_goes_with_the_island_around_it():
    # Catches holes that stay filled after the salt around them was dropped: a ring of 8 pixels and its hole.
    ring = np.zeros((1, 6, 6), np.uint8)
    ring[0, 1:4, 1:4] = 255
    ring[0, 2, 2] = 0
    table = tabulate(ring, np.zeros((1, 6, 6), bool), (0.5,), (0, 9), (0, 2))
    assert table.points[0, :, :, 0].tolist() == [[0, 0], [10, 10]]


def test_search_finds_the_best_and_its_curve():
    probabilities, truth = survey(60)
    axes = ((0.3, 0.4, 0.5, 0.6), (0, 20), (0, 10))
    found = search(probabilities, truth, *axes)
    means = {
        point: np.mean([slow_points(p, y, *point) for p, y in zip(probabilities, truth, strict=True)]) / 10
        for point in product(*axes)
    }
    assert found.score == pytest.approx(max(means.values()))
    best = found.best
    assert means[best.threshold, best.min_salt, best.min_hole] == pytest.approx(found.score)
    assert found.curve.thresholds.tolist() == list(axes[0])
    assert found.curve.scores == pytest.approx([means[t, best.min_salt, best.min_hole] for t in axes[0]])


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.4, 0.5, 0.6, 0.999, 1.0, 51 / 255])
def test_threshold_is_strict(threshold):
    # Catches ≥, and a rounded cut: .2, .4 and .6 are stored exactly, as 51, 102 and 153.
    stored = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    mask = apply(stored, Operating(threshold))
    assert mask.ravel().tolist() == [int(value / 255 > threshold) for value in range(256)]


def test_apply_drops_components():
    probabilities = np.zeros((1, 8, 8), np.uint8)
    probabilities[0, 2:7, 2:7] = 200
    probabilities[0, 4, 4] = 10
    probabilities[0, 0, 0] = 200
    expected = np.zeros((1, 8, 8), np.uint8)
    expected[0, 2:7, 2:7] = 1
    assert apply(probabilities, Operating(0.5, min_salt=2, min_hole=2)).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ([1, 5, 5, 5, 2], 2),  # the middle, neither the first nor the last winner
        ([1, 5, 5, 5, 5], 2),  # the lower of two middles
        ([5, 1, 5, 5, 5], 3),  # the longest row: an average of all winners would choose a loser
        ([5, 1, 5, 1, 1], 0),
        ([4, 4, 4, 4, 9], 4),
    ],
)
def test_ties_go_to_the_middle_of_the_plateau(scores, chosen):
    table = grid([[[value]] for value in scores])
    assert table.search().best.threshold == table.thresholds[chosen]


def test_ties_between_sizes_go_to_the_wider_plateau_then_to_the_smaller_sizes():
    narrow_then_wide = [[[7, 3]] * 1 + [[7, 7]], [[3, 3], [7, 3]], [[3, 3], [7, 3]]]
    best = grid(narrow_then_wide).search().best
    assert (best.threshold, best.min_salt, best.min_hole) == (0.5, 1, 0)
    flat = grid([[[7, 7], [7, 7]]] * 3).search().best
    assert (flat.threshold, flat.min_salt, flat.min_hole) == (0.5, 0, 0)


def test_cross_fitted_chooses_on_the_other_groups():
    # Group 0 does well at the first threshold only, group 1 at the second: each is scored where the other wins.
    # Catches the leak: choosing on all tiles would give group 0, the larger one, its own best.
    groups = np.array([0, 0, 0, 1, 1])
    points = np.array([[10, 10, 9, 2, 3], [1, 0, 4, 8, 9]], np.uint8).reshape(2, 1, 1, 5)
    table = Grid((0.4, 0.6), (0,), (0,), points)
    assert table.cross_fitted(groups).tolist() == [0.1, 0.0, 0.4, 0.2, 0.3]
    assert table.search().best.threshold == 0.4


def test_cross_fitted_by_hand_on_probabilities():
    probabilities, truth = survey(80)
    groups = np.arange(80) % 3
    axes = ((0.3, 0.5, 0.7), (0, 10), (0,))
    scores = cross_fitted(probabilities, truth, groups, *axes)
    for group in range(3):
        others = groups != group
        best = search(probabilities[others], truth[others], *axes).best
        expected = [
            slow_points(p, y, best.threshold, best.min_salt, best.min_hole) / 10
            for p, y in zip(probabilities[~others], truth[~others], strict=True)
        ]
        assert scores[~others].tolist() == expected


def test_the_same_choice_every_time():
    # Threads finish in any order.
    probabilities, truth = survey(300, side=12)
    first, second = (tabulate(probabilities, truth, THRESHOLDS[::6], MIN_SALTS, MIN_HOLES) for _ in range(2))
    np.testing.assert_array_equal(first.points, second.points)


@pytest.mark.parametrize(
    "axes", [((), (0,), (0,)), ((0.5, 0.4), (0,), (0,)), ((0.5,), (3, 3), (0,)), ((0.5,), (0,), (9, 0))]
)
def test_axes_must_rise(axes):
    probabilities, truth = survey(2)
    with pytest.raises(ValueError, match="must rise"):
        tabulate(probabilities, truth, *axes)


def test_refusals():
    probabilities, truth = survey(4)
    with pytest.raises(ValueError, match="uint8"):
        search(probabilities / 255, truth)
    with pytest.raises(ValueError, match="shape"):
        search(probabilities, truth[:2])
    with pytest.raises(ValueError, match="at least one tile"):
        search(probabilities[:0], truth[:0])
    with pytest.raises(ValueError, match="two groups"):
        cross_fitted(probabilities, truth, np.zeros(4, np.int64))
    for bad in ((1.5, 0, 0), (float("nan"), 0, 0), (0.5, -1, 0)):
        with pytest.raises(ValueError, match="0 … 1"):
            Operating(*bad)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ((0, 0), "nothing dropped"),
        ((40, 0), "islands under 40 px dropped"),
        ((0, 60), "holes under 60 px dropped"),
        ((10, 20), "islands under 10 px and holes under 20 px dropped"),
    ],
)
def test_a_point_in_words(sizes, said):
    assert Operating(0.456, *sizes).words == f"salt where p > 0.46, {said}"
