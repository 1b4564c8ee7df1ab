"""Metrics against a slow per-tile calculation in exact fractions."""

import json
from dataclasses import asdict
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from semisalt import metrics

LEVELS = [Fraction(k, 20) for k in range(10, 20)]


def slow_tile(prediction, truth):
    """(precision, IoU, Dice) of one tile, as fractions, pixel by pixel."""
    p = {i for i, value in enumerate(prediction.ravel().tolist()) if value}
    t = {i for i, value in enumerate(truth.ravel().tolist()) if value}
    if not p and not t:
        return Fraction(1), Fraction(1), Fraction(1)
    iou = Fraction(len(p & t), len(p | t))
    return Fraction(sum(iou > level for level in LEVELS), 10), iou, Fraction(2 * len(p & t), len(p) + len(t))


def masks(*tiles):
    return np.array(tiles, dtype=np.uint8).reshape(len(tiles), 1, -1)


@st.composite
def pairs(draw):
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)))
    dtype = draw(st.sampled_from([np.bool_, np.uint8]))
    truth = draw(hnp.arrays(dtype, shape, elements=st.integers(0, 1)))
    # Few changed pixels, so that high IoUs, where the levels lie, are common.
    changes = draw(hnp.arrays(np.bool_, shape, elements=st.booleans(), fill=st.just(False)))
    return np.where(changes, 1 - truth.astype(np.uint8), truth).astype(dtype), truth


@given(pairs())
@settings(max_examples=200, deadline=None)
def test_agrees_with_exact_fractions(pair):
    prediction, truth = pair
    slow = [slow_tile(p, t) for p, t in zip(prediction, truth, strict=True)]
    assert metrics.precision(prediction, truth).tolist() == [float(s[0]) for s in slow]
    assert metrics.iou(prediction, truth).tolist() == [float(s[1]) for s in slow]
    assert metrics.dice(prediction, truth).tolist() == [float(s[2]) for s in slow]


def test_every_pair_of_counts():
    # Catches ≥ for > and any floating level: np.arange(.5, 1, .05) puts its fifth level at .7000000000000002.
    union, intersection = np.meshgrid(np.arange(1, 201), np.arange(201), indexing="ij")
    valid = intersection <= union
    passed = metrics.levels_passed(intersection[valid], union[valid])
    expected = [
        sum(Fraction(i, u) > level for level in LEVELS)
        for i, u in zip(intersection[valid].tolist(), union[valid].tolist(), strict=True)
    ]
    assert passed.tolist() == expected


@pytest.mark.parametrize("twentieths", range(10, 20))
def test_an_iou_on_a_level_is_not_over_it(twentieths):
    truth = masks([1] * 20)
    prediction = masks([1] * twentieths + [0] * (20 - twentieths))
    assert metrics.precision(prediction, truth)[0] == (twentieths - 10) / 10


def test_large_tiles_do_not_overflow():
    # Catches counts kept in 8 or 16 bits: 262,144 pixels of salt, of which one is missed.
    truth = np.ones((1, 512, 512), np.uint8)
    prediction = truth.copy()
    prediction[0, 0, 0] = 0
    assert metrics.precision(prediction, truth)[0] == 1.0
    assert metrics.iou(prediction, truth)[0] == 262_143 / 262_144


def test_histogram_trap():
    # The histogram recipe gives .7 to an empty prediction on a tile with 80 % salt.
    truth = masks([1] * 8 + [0] * 2, [0] * 10, [0] * 10)
    prediction = masks([0] * 10, [0] * 9 + [1], [0] * 10)
    assert metrics.precision(prediction, truth).tolist() == [0.0, 0.0, 1.0]


def test_any_value_but_zero_is_salt():
    # Catches a bitwise product of raw values: 255 & 1 would pass, 2 & 1 would not.
    assert metrics.precision(masks([2, 255, 0]), masks([1, 1, 0])).tolist() == [1.0]


@pytest.mark.parametrize(
    ("prediction", "truth"),
    [
        (np.zeros((2, 3, 3), np.uint8), np.zeros((1, 3, 3), np.uint8)),
        (np.zeros((3, 3), np.uint8), np.zeros((3, 3), np.uint8)),
        (np.full((1, 3, 3), 0.4), np.zeros((1, 3, 3), np.uint8)),
    ],
    ids=["tiles differ", "no tile axis", "probabilities"],
)
def test_unfit_masks_are_refused(prediction, truth):
    with pytest.raises(ValueError, match="masks"):
        metrics.precision(prediction, truth)


def test_bootstrap_follows_the_binomial():
    # The mean of resampled zeros and ones is binomial: its quantiles are known without any drawing.
    values = np.array([1.0] * 30 + [0.0] * 70)
    interval = metrics.bootstrap(values, draws=20_000, level=0.9)
    expected = stats.binom(100, 0.3).ppf([0.05, 0.95]) / 100
    assert interval.value == pytest.approx(0.3)
    assert [interval.low, interval.high] == pytest.approx(expected, abs=0.0101)


def test_bootstrap_depends_on_the_seed_alone():
    values = np.random.default_rng(1).random(500)
    assert metrics.bootstrap(values, seed=3) == metrics.bootstrap(values, seed=3)
    assert metrics.bootstrap(values, seed=3) != metrics.bootstrap(values, seed=4)


def test_bootstrap_of_one_tile_and_of_none():
    assert metrics.bootstrap(np.array([0.4])) == metrics.Interval(0.4, 0.4, 0.4)
    with pytest.raises(ValueError, match="at least one tile"):
        metrics.bootstrap(np.array([]))
    with pytest.raises(ValueError, match="finite"):
        metrics.bootstrap(np.array([0.5, np.nan]))


def test_paired_bootstrap_resamples_tiles_not_scores():
    # Catches two independent resamplings: the same gain on every tile has no spread at all.
    b = np.random.default_rng(0).random(400)
    gain = metrics.paired_bootstrap(b + 0.25, b)
    assert [gain.value, gain.low, gain.high] == pytest.approx([0.25] * 3)
    with pytest.raises(ValueError, match="same tiles"):
        metrics.paired_bootstrap(b, b[:-1])


@pytest.mark.parametrize(
    ("interval", "text"),
    [
        (metrics.Interval(0.8123, 0.801, 0.823), ".812 [.801, .823]"),
        (metrics.Interval(-0.003, -0.0104, 0.0), "-.003 [-.010, .000]"),
        (metrics.Interval(-0.0001, -1.0, 0.9999), ".000 [-1.000, 1.000]"),
    ],
)
def test_interval_as_text(interval, text):
    assert str(interval) == text


def test_summary_counts_mistakes_in_both_directions():
    truth = masks([1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 0, 0])
    prediction = masks([1, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0])
    scores = metrics.summary(prediction, truth)
    assert scores.precision.value == pytest.approx((0.5 + 0 + 1 + 1 + 0) / 5)
    assert scores.mean_iou == pytest.approx((0.75 + 0 + 1 + 1 + 0) / 5)
    assert scores.dice == pytest.approx((6 / 7 + 0 + 1 + 1 + 0) / 5)
    assert scores.false_salt_share == pytest.approx(1 / 3)  # of the three empty tiles
    assert scores.missed_salt_share == pytest.approx(1 / 2)  # of the two tiles with salt
    assert scores.n == 5
    assert json.loads(json.dumps(asdict(scores)))["precision"]["value"] == scores.precision.value


def test_summary_without_empty_tiles_is_still_json():
    full = np.ones((2, 2, 2), np.uint8)
    assert metrics.summary(full, full).false_salt_share == 0.0
    assert metrics.summary(0 * full, 0 * full).missed_salt_share == 0.0


def test_a_difference_bears_its_sign() -> None:
    assert metrics.Interval(0.0184, -0.0104, 1.0).signed == "+.018 [-.010, +1.000]"
