"""Pictures against pixel-by-pixel definitions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from semisalt.report import figures
from semisalt.report.figures import GAP, MARKS, PREDICTION, TRUTH, curve, heat, outlined, sheet, stack

GREY = np.full((6, 7), 100, np.uint8)
small_masks = hnp.arrays(np.uint8, (6, 7), elements=st.integers(0, 1))


def where(picture, color):
    return {tuple(place) for place in np.argwhere((picture == color).all(axis=-1)).tolist()}


def edge(mask, scale, inside):
    """Pixels of the enlarged and framed mask that touch the other kind, sideways or at a corner, by definition."""
    reach = frame = max(1, scale // 2)
    height, width = mask.shape[0] * scale + 2 * frame, mask.shape[1] * scale + 2 * frame

    def salt(y, x):
        y, x = (y - frame) // scale, (x - frame) // scale
        return 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] == 1

    near = [(dy, dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1)]
    return {
        (y, x)
        for y in range(height)
        for x in range(width)
        if salt(y, x) == inside and any(salt(y + dy, x + dx) != inside for dy, dx in near)
    }


@settings(max_examples=20)
@given(small_masks, st.integers(1, 4))
def test_the_truth_is_outlined_inside_and_the_prediction_outside(mask, scale):
    assert where(outlined(GREY, mask, None, scale), TRUTH) == edge(mask, scale, inside=True)
    assert where(outlined(GREY, None, mask, scale), PREDICTION) == edge(mask, scale, inside=False)


@settings(max_examples=20)
@given(small_masks, st.integers(1, 4))
def test_equal_masks_show_both_outlines_whole(mask, scale):
    both = outlined(GREY, mask, mask, scale)
    assert where(both, TRUTH) == where(outlined(GREY, mask, None, scale), TRUTH)
    assert where(both, PREDICTION) == where(outlined(GREY, None, mask, scale), PREDICTION)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5])
def test_edges_some_pixels_apart_do_not_hide_each_other(scale, rows):
    truth, prediction = np.zeros((2, 6, 7), np.uint8)
    truth[:3], prediction[:rows] = 1, 1
    middle = np.s_[:, 3 * scale]  # away from the sides, which both share
    seen = outlined(GREY, truth, prediction, scale)[middle]
    alone = outlined(GREY, truth, None, scale)[middle]
    assert where(seen[:, None], TRUTH) == where(alone[:, None], TRUTH)


def test_full_and_empty_masks_look_different():
    full, empty = np.ones((6, 7), np.uint8), np.zeros((6, 7), np.uint8)
    assert where(outlined(GREY, full, None), TRUTH)
    assert where(outlined(GREY, None, full), PREDICTION)
    assert not where(outlined(GREY, empty, empty), TRUTH) | where(outlined(GREY, empty, empty), PREDICTION)


def test_a_tile_and_its_probability_stand_side_by_side():
    probability = np.arange(42, dtype=np.uint8).reshape(6, 7)
    for scale in (1, 2, 4):
        picture, frame = heat(probability, scale), max(1, scale // 2)
        assert picture.shape == outlined(GREY, None, None, scale).shape
        assert (picture[frame:-frame:scale, frame:-frame:scale] == probability[..., None]).all()


COLORS = [(200, 10 * k, 30) for k in range(1, 6)]


def cards(height=40, width=50):
    return [np.full((height, width, 3), color, np.uint8) for color in COLORS]


def test_a_sheet_shows_every_tile_whole_in_reading_order():
    page = sheet(cards(), ["x"] * 5, 3)
    corners = []
    for color in COLORS:
        places = np.argwhere((page == color).all(axis=-1))
        low, high = places.min(axis=0), places.max(axis=0)
        assert (high - low + 1).tolist() == [40, 50]
        assert len(places) == 40 * 50
        corners.append(tuple(low.tolist()))
    assert corners == sorted(corners)
    assert len({y for y, _ in corners}) == 2
    assert len({x for _, x in corners}) == 3


def test_captions_stay_under_their_tiles():
    page = sheet(cards(), ["a very long caption, wider than any tile: žluťoučký kůň"] * 5, 3, legend=())
    for column in range(4):
        left = column * (50 + GAP)
        assert (page[:, left : left + GAP] == 255).all()
    first = np.argwhere((page == COLORS[0]).all(axis=-1)).max(axis=0)[0] + 1
    strip = page[first : first + figures.LINE]
    assert (strip < 128).any()
    assert (page[first + figures.LINE : first + figures.LINE + GAP] == 255).all()


def test_the_legend_is_whole_whatever_the_title():
    plain, titled, bare = (
        sheet(cards(), [""] * 5, 4, title=title, legend=legend)
        for title, legend in [("", ("truth", "prediction")), ("long " * 40, ("truth", "prediction")), ("", ())]
    )
    for color in (TRUTH, PREDICTION):
        assert where(plain, color) == where(titled, color) != set()
        assert not where(bare, color)
    width = plain.shape[1]
    assert (plain[:, width - 100 :] == titled[:, width - 100 :]).all()


def test_unfit_sheets():
    assert sheet([], [], 2).shape[2] == 3
    with pytest.raises(ValueError, match="caption"):
        sheet(cards(), ["x"], 3)
    with pytest.raises(ValueError, match="one size"):
        sheet([*cards(), *cards(30)], ["x"] * 10, 3)


def test_stacked_pages_keep_their_pixels():
    narrow, wide = cards(4, 5)[0], cards(3, 9)[1]
    whole = stack([narrow, wide])
    assert whole.shape == (7, 9, 3)
    assert (whole[:4, :5] == narrow).all()
    assert (whole[:4, 5:] == 255).all()
    assert (whole[4:] == wide).all()


def centre(picture, color):
    """Of a mark in the plot, below the lines that name the marks."""
    y, x = np.argwhere((picture[90:] == color).all(axis=-1)).mean(axis=0)
    return y + 90, x


def test_a_curve_is_drawn_to_scale():
    x = np.linspace(0.2, 0.8, 13)
    marks = {"a": (0.2, 0.5), "b": (0.5, 0.8), "c": (0.8, 0.6)}
    picture = curve(x, 0.8 - (x - 0.5) ** 2, marks)
    a, b, c = (centre(picture, color) for color in MARKS)
    assert b[1] - a[1] == pytest.approx(c[1] - b[1], abs=2)
    assert (a[0] - b[0]) / (a[0] - c[0]) == pytest.approx(3, rel=0.05)


def test_unfit_curves():
    one = np.array([0.5])
    assert curve(one, one, {"only": (0.5, 0.5)}).shape == (400, 640, 3)
    for thresholds, scores, marks in [
        (one[:0], one[:0], {}),
        (one, one[:0], {}),
        (one, one, dict.fromkeys("abcd", (1, 1))),
    ]:
        with pytest.raises(ValueError, match="not drawable"):
            curve(thresholds, scores, marks)


@given(st.floats(-1, 1), st.floats(1e-3, 2))
def test_ticks_are_round_and_labelled_truly(low, extent):
    ticks = figures._ticks(low, low + extent)
    assert 3 <= len(ticks) <= 9
    values = [value for value, _ in ticks]
    assert low - 1e-9 <= min(values)
    assert max(values) <= low + extent + 1e-9
    assert [float(label) for _, label in ticks] == pytest.approx(values, abs=1e-9)
