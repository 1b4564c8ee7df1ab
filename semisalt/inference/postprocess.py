"""Post-processing: small salt islands and small holes in the salt are dropped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

CHUNK = 128  # tiles looked at in one call: a call for each costs several times as much, and this many fit the cache


def remove_small(masks: NDArray[Any], min_salt: int, min_hole: int) -> NDArray[np.uint8]:
    """Salt islands under `min_salt` pixels become background, then holes under `min_hole` pixels become salt.

    Islands go first, so that a speck within a hole does not hide the hole's true size. Salt is 8-connected,
    background 4-connected. Background that touches the tile's border counts as any other: under `min_hole`
    pixels it is filled wherever it lies. A tile without salt has no holes and stays empty. A size of 0
    switches its half off.

    `masks` `[N, H, W]`, any value but 0 is salt. Returns a new array of 0 and 1. Raises ValueError for a
    negative size or another number of dimensions.
    """
    if masks.ndim != 3 or min(min_salt, min_hole) < 0:
        raise ValueError(f"need masks [N, H, W] and sizes of 0 or more; got {masks.shape}, {min_salt} and {min_hole}")
    count, height, width = masks.shape
    result = np.empty(masks.shape, np.uint8)
    for start in range(0, count, CHUNK):
        chunk = masks[start : start + CHUNK]
        sheet = np.zeros((len(chunk), height + 1, width + 2), np.uint8)  # background keeps tiles apart
        tiles = sheet[:, 1:, 1:-1]
        np.not_equal(chunk, 0, out=tiles, casting="unsafe")
        left = _clean(sheet, min_salt, min_hole)
        result[start : start + CHUNK] = tiles
        if left.any():
            result[start : start + CHUNK][left] = _fill_holes(tiles[left], min_hole)
    return result


def _clean(sheet: NDArray[np.uint8], min_salt: int, min_hole: int) -> NDArray[np.bool_]:
    """Drop small islands, and fill small holes where one look at the outlines tells them all, in place.

    `sheet` `[n, H + 1, W + 2]`: tiles with a row of background above and a column on either side of each. Returns
    the tiles that may have small holes yet, `[n]`: those where background was joined by a dropped island, or is parted
    by the tile's border.
    """
    count, height, width = sheet.shape[0], sheet.shape[1] - 1, sheet.shape[2] - 2
    left = np.zeros(count, np.bool_)
    flat = sheet.reshape(-1, width + 2)
    contours, hierarchy = cv2.findContours(flat, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return left
    parents = hierarchy[0][:, 3]
    area, held, is_hole = contour_areas(contours, parents)
    tile = np.array([contour[0, 0, 1] for contour in contours]) // (height + 1)
    small = ~is_hole & (area < min_salt)
    if min_hole > 1:
        outermost = parents < 0
        outside = height * width - np.bincount(tile[outermost], weights=held[outermost], minlength=count)
        left = (outside > 0) & ((outside < min_hole) | _parted(sheet[:, 1:, 1:-1]))
        left[tile[small]] = True
        _paint(flat, contours, parents, is_hole & (area < min_hole) & ~left[tile], 1)
    _paint(flat, contours, parents, small, 0)
    return left


def _parted(tiles: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether the background along a tile's border is in several pieces, `[n]`."""
    border = np.concatenate([tiles[:, 0], tiles[:, 1:, -1], tiles[:, -1, -2::-1], tiles[:, -2:0:-1, 0]], axis=1)
    parted: NDArray[np.bool_] = np.count_nonzero(border != np.roll(border, 1, axis=1), axis=1) > 2
    return parted


def _fill_holes(tiles: NDArray[np.uint8], smallest: int) -> NDArray[np.uint8]:
    """The tiles `[n, H, W]` with background under `smallest` pixels filled."""
    count, height, width = tiles.shape
    # A frame of salt around each: what touches the border is a hole as well.
    sheet = np.ones((count * (height + 1) + 1, width + 2), np.uint8)
    inside = sheet[1:].reshape(count, height + 1, width + 2)[:, :height, 1:-1]
    inside[...] = tiles
    contours, hierarchy = cv2.findContours(sheet, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    parents = hierarchy[0][:, 3]
    area, _, is_hole = contour_areas(contours, parents)
    # A hole as large as a tile is a tile without salt.
    _paint(sheet, contours, parents, is_hole & (area < smallest) & (area < height * width), 1)
    return inside


def _paint(
    sheet: NDArray[np.uint8],
    contours: Sequence[NDArray[Any]],
    parents: NDArray[Any],
    which: NDArray[np.bool_],
    value: int,
) -> None:
    """Give the components chosen by `which` `[K]` another value, in place.

    A component's own outline and those of what lies within, which stays, are filled even-odd, outlines included; a
    hole's outlines run over salt.
    """
    for component in np.flatnonzero(which):
        inner = np.flatnonzero(parents == component)
        cv2.drawContours(sheet, [contours[index] for index in (component, *inner)], -1, value, cv2.FILLED)


def contour_areas(
    contours: Sequence[NDArray[Any]], parents: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Of each component that has one of OpenCV's contours as its outline: its pixels, and those with all that it
    encloses; and whether it is a hole, [K] each.

    By Pick's theorem an outline of B steps from pixel to pixel around an area A (both between the pixels' centres)
    holds A + B/2 + 1 pixels, its own included; a hole's outline runs over the salt around it, and leaves A - B/2 + 1.
    What lies one level deeper in the tree is no part of the component.

    Args:
        contours: of RETR_TREE, [n, 1, 2] each, corners (x, y) of outlines that go straight or diagonally.
        parents: [K], the contour around each; -1 for none.
    """
    corners = np.concatenate(contours)[:, 0].astype(np.int64)
    lengths = np.array([len(contour) for contour in contours])
    end = lengths.cumsum()
    first = end - lengths
    following = np.arange(1, len(corners) + 1)
    following[end - 1] = first
    (x, y), (next_x, next_y) = corners.T, corners[following].T
    twice_area = np.add.reduceat(x * next_y - next_x * y, first)
    steps = np.add.reduceat(np.maximum(abs(next_x - x), abs(next_y - y)), first)
    is_hole = twice_area > 0  # OpenCV goes around holes the other way; an outline that holds nothing is an island's
    held = np.where(is_hole, twice_area - steps, steps - twice_area) // 2 + 1
    area = held.copy()
    inner = parents >= 0
    np.subtract.at(area, parents[inner], held[inner])
    return area, held, is_hole
