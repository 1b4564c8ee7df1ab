"""Small components, against scipy.ndimage on one tile at a time."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from semisalt.inference.components import find_components
from semisalt.inference.postprocess import CHUNK, contour_areas, remove_small

EIGHT = np.ones((3, 3))
FOUR = ndimage.generate_binary_structure(2, 1)


def areas(mask, structure):
    labels, count = ndimage.label(mask, structure)
    return [int((labels == k).sum()) for k in range(1, count + 1)]


def slow_remove(mask, min_salt, min_hole):
    mask = mask.astype(bool).copy()
    labels, count = ndimage.label(mask, EIGHT)
    for k in range(1, count + 1):
        if (labels == k).sum() < min_salt:
            mask[labels == k] = False
    if mask.any():
        labels, count = ndimage.label(~mask, FOUR)
        for k in range(1, count + 1):
            if (labels == k).sum() < min_hole:
                mask[labels == k] = True
    return mask.astype(np.uint8)


stacks = hnp.arrays(
    np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 1)
)
sizes = st.integers(0, 12)


@given(stacks, sizes, sizes)
@settings(max_examples=300, deadline=None)
def test_agrees_with_scipy(masks, min_salt, min_hole):
    # Catches components that run on from one tile, or one row's end, into the next.
    expected = np.stack([slow_remove(mask, min_salt, min_hole) for mask in masks])
    result = remove_small(masks, min_salt, min_hole)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, expected)


@given(stacks, sizes, sizes)
@settings(max_examples=200, deadline=None)
def test_nothing_small_remains_and_a_second_pass_changes_nothing(masks, min_salt, min_hole):
    once = remove_small(masks, min_salt, min_hole)
    for mask in once:
        assert all(area >= min_salt for area in areas(mask, EIGHT))
        assert not mask.any() or all(area >= min_hole for area in areas(1 - mask, FOUR))
    np.testing.assert_array_equal(remove_small(once, min_salt, min_hole), once)


@given(stacks)
@settings(max_examples=50, deadline=None)
def test_sizes_of_zero_and_one_change_nothing(masks):
    for size in (0, 1):
        np.testing.assert_array_equal(remove_small(masks, size, size), masks)


@given(stacks, sizes)
@settings(max_examples=100, deadline=None)
def test_each_half_moves_one_way(masks, size):
    assert not (remove_small(masks, size, 0) > masks).any()
    assert not (remove_small(masks, 0, size) < masks).any()


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 1)))
@settings(max_examples=300, deadline=None)
def test_contours_know_the_areas_of_islands_and_holes(mask):
    if not mask.any():
        return
    contours, hierarchy = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    area, _, is_hole = contour_areas(contours, hierarchy[0][:, 3])
    assert sorted(area[~is_hole].tolist()) == sorted(areas(mask, EIGHT))
    labels, count = ndimage.label(np.pad(1 - mask, 1, constant_values=1), FOUR)  # 1 is what lies around the tile
    assert sorted(area[is_hole].tolist()) == sorted(int((labels == k).sum()) for k in range(2, count + 1))


@pytest.mark.parametrize("depth", [3, 4, 5, 6])
def test_rings_within_rings(depth):
    # The innermost pixel is salt or hole by turns; each ring is 8 wider, so that only it is small.
    size = 4 * depth + 1
    y, x = np.mgrid[:size, :size]
    ring = (np.maximum(abs(y - size // 2), abs(x - size // 2)) + 1) // 2
    mask = ((ring + depth) % 2).astype(np.uint8)[None]
    np.testing.assert_array_equal(remove_small(mask, 2, 2), np.stack([slow_remove(mask[0], 2, 2)]))
    assert (remove_small(mask, 2, 2) != mask).sum() == 1


def test_large_bodies_in_other_tiles_are_untouched_across_chunks():
    masks = np.zeros((2 * CHUNK + 3, 12, 10), np.uint8)
    masks[:, 2:8, 2:8] = 1
    speckled = masks.copy()
    speckled[[1, CHUNK, 2 * CHUNK + 2], 10, 0] = 1  # a speck
    speckled[[2, CHUNK - 1], 4, 4] = 0  # a hole
    before = speckled.copy()
    np.testing.assert_array_equal(remove_small(speckled, 5, 5), masks)
    np.testing.assert_array_equal(speckled, before)  # the input is left alone


def test_diagonal_salt_is_one_island_and_parts_the_background():
    # Catches 4-connected salt (two islands of one pixel) and 8-connected background (one hole of two).
    salt = np.zeros((1, 6, 6), np.uint8)
    salt[0, [1, 2], [1, 2]] = 1
    np.testing.assert_array_equal(remove_small(salt, 2, 0), salt)
    np.testing.assert_array_equal(remove_small(1 - salt, 0, 2), np.ones_like(salt))


def test_islands_go_first():
    # A hole of 9 pixels with a speck in its middle: holes first would fill the ring of 8 and swallow the speck.
    mask = np.ones((1, 9, 9), np.uint8)
    mask[0, 3:6, 3:6] = 0
    mask[0, 4, 4] = 1
    result = remove_small(mask, 2, 9)
    assert result[0, 3:6, 3:6].sum() == 0
    assert remove_small(mask, 2, 10).all()


def test_small_background_on_the_border_is_filled():
    mask = np.ones((1, 8, 8), np.uint8)
    mask[0, 0, :3] = 0
    assert remove_small(mask, 0, 4).all()
    assert not remove_small(mask, 0, 3).all()


def test_an_empty_tile_stays_empty():
    # Catches taking a whole tile smaller than min_hole for a hole.
    speck = np.zeros((2, 3, 3), np.uint8)
    speck[1, 1, 1] = 1
    assert not remove_small(speck, 2, 100).any()


def test_any_value_but_zero_is_salt():
    assert remove_small(np.full((1, 4, 4), 255, np.uint8), 3, 3).tolist() == np.ones((1, 4, 4)).tolist()
    assert remove_small(np.ones((1, 4, 4), bool), 3, 3).all()


def test_components_know_tile_and_area():
    masks = np.zeros((3, 5, 5), np.uint8)
    masks[0, 4, :] = 1  # touches where tile 1 begins
    masks[1, 0, :2] = 1
    masks[2, 0, 0] = masks[2, 4, 4] = 1
    components = find_components(masks, 8)
    found = sorted(zip(components.tile[1:].tolist(), components.area[1:].tolist(), strict=True))
    assert found == [(0, 5), (1, 2), (2, 1), (2, 1)]
    assert components.area[0] == 0


def test_no_tiles_at_all():
    # OpenCV 5.0 crashes the process on an empty image.
    assert remove_small(np.zeros((0, 5, 5), np.uint8), 3, 3).shape == (0, 5, 5)
    with pytest.raises(ValueError, match="at least one tile"):
        find_components(np.zeros((0, 5, 5), np.uint8), 8)


@pytest.mark.parametrize(("shape", "min_salt"), [((4, 4), 0), ((1, 4, 4), -1)])
def test_refusals(shape, min_salt):
    with pytest.raises(ValueError, match="sizes of 0 or more"):
        remove_small(np.zeros(shape, np.uint8), min_salt, 0)
