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
    result: NDArray[np.uint8] = (masks != 0).astype(np.uint8)
    for start in range(0, len(result), CHUNK):
        chunk = result[start : start + CHUNK]
        if min_salt > 1:
            _drop_islands(chunk, min_salt)
        if min_hole > 1:
            _fill_holes(chunk, min_hole)
    return result


def _drop_islands(masks: NDArray[np.uint8], smallest: int) -> None:
    """Set islands under `smallest` pixels to 0, in place."""
    count, height, width = masks.shape
    sheet = np.zeros((count, height + 1, width), np.uint8)  # a row of background keeps tiles apart
    sheet[:, 1:] = masks
    if _paint(sheet.reshape(-1, width), smallest, 0):
        masks[...] = sheet[:, 1:]


def _fill_holes(masks: NDArray[np.uint8], smallest: int) -> None:
    """Set background under `smallest` pixels to 1, in place."""
    count, height, width = masks.shape
    # A frame of salt around each tile: what touches the border is a hole as well.
    sheet = np.ones((count * (height + 1) + 1, width + 2), np.uint8)
    tiles = sheet[1:].reshape(count, height + 1, width + 2)[:, :height, 1:-1]
    tiles[...] = masks
    if _paint(sheet, smallest, 1, spared=height * width):
        masks[...] = tiles


def _paint(sheet: NDArray[np.uint8], smallest: int, value: int, spared: int = -1) -> bool:
    """Give components of the other value under `smallest` pixels this one, in place; whether there were any.

    Contours are a few hundred points where labels are ten thousand pixels. Components of exactly `spared` pixels stay.
    """
    contours, hierarchy = cv2.findContours(sheet, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return False
    parents = hierarchy[0][:, 3]
    area, is_hole = contour_areas(contours, parents)
    small = np.flatnonzero((is_hole == bool(value)) & (area < smallest) & (area != spared))
    for component in small:
        # Its own outline and those of what lies within, which stays: filled even-odd, outlines included. A hole's
        # outlines run over salt.
        inner = np.flatnonzero(parents == component)
        cv2.drawContours(sheet, [contours[index] for index in (component, *inner)], -1, value, cv2.FILLED)
    return len(small) > 0


def contour_areas(
    contours: Sequence[NDArray[np.int32]], parents: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The pixels of each component that has one of OpenCV's contours as its outline, and whether it is a hole, [K].

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
    return area, is_hole
