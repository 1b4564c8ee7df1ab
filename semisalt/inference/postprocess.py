"""Post-processing: small salt islands and small holes in the salt are dropped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SALT_CONNECTIVITY = 8
HOLE_CONNECTIVITY = 4  # the dual of 8: two corners of salt that touch part the background between them

CHUNK = 128  # tiles labelled at once: their labels stay in the processor's cache


@dataclass(frozen=True, eq=False)
class Components:
    """The connected components of a stack of masks. Component 0 is whatever lies outside the masks."""

    labels: NDArray[Any]  # [N, H, W], the component of each pixel
    tile: NDArray[np.int64]  # [K], the tile a component lies in
    area: NDArray[np.int64]  # [K], in pixels; 0 for component 0
    runs: NDArray[np.int64]  # [R, 2], where a horizontal run of pixels starts and ends in the padded stack
    run_component: NDArray[Any]  # [R]


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
        _drop_small(chunk, min_salt, SALT_CONNECTIVITY)
        salty = chunk.any(axis=(1, 2))
        background = 1 - chunk[salty]
        _drop_small(background, min_hole, HOLE_CONNECTIVITY)
        chunk[salty] = 1 - background
    return result


def find_components(masks: NDArray[np.uint8], connectivity: int) -> Components:
    """Label the components of all tiles of `masks` `[N, H, W]` (0 or 1) in one call.

    A call for each tile would cost several times as much. Areas are summed over horizontal runs, of which
    there are some hundred times fewer than pixels.
    """
    if len(masks) == 0:  # OpenCV 5.0 does not refuse an empty image, it crashes the process
        raise ValueError("components need at least one tile")
    sheet = lay_out(masks)
    count, labels = cv2.connectedComponents(sheet.reshape(-1, sheet.shape[2]), connectivity=connectivity)
    flat = sheet.ravel()
    runs = (np.flatnonzero(flat[1:] != flat[:-1]) + 1).reshape(-1, 2)
    run_component = labels.ravel()[runs[:, 0]]
    tile = np.zeros(count, np.int64)
    tile[run_component] = runs[:, 0] // sheet[0].size
    area = np.bincount(run_component, weights=runs[:, 1] - runs[:, 0], minlength=count).astype(np.int64)
    return Components(labels.reshape(sheet.shape)[:, :-1, 1:], tile, area, runs, run_component)


def lay_out(masks: NDArray[Any]) -> NDArray[np.uint8]:
    """Masks `[N, H, W]` with a column of zeros before and a row of zeros below each: `[N, H + 1, W + 1]`.

    Read as one sheet of N · (H + 1) rows, no two tiles touch, nor do a row's end and the next row's start.
    """
    return np.pad(masks, ((0, 0), (0, 1), (1, 0))).astype(np.uint8, copy=False)


def _drop_small(masks: NDArray[np.uint8], smallest: int, connectivity: int) -> None:
    """Set the components under `smallest` pixels to 0, in place."""
    if smallest <= 1 or len(masks) == 0:
        return
    components = find_components(masks, connectivity)
    kept = components.area >= smallest
    changed = np.unique(components.tile[1:][~kept[1:]])
    masks[changed] = kept[components.labels[changed]]
