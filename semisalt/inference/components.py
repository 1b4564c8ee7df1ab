"""Connected components of stacks of masks and their areas: the sizes of islands and holes to choose from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

SALT_CONNECTIVITY = 8
HOLE_CONNECTIVITY = 4  # the dual of 8: two corners of salt that touch part the background between them


@dataclass(frozen=True, eq=False)
class Components:
    """The connected components of a stack of masks. Component 0 is whatever lies outside the masks."""

    labels: NDArray[Any]  # [N, H, W], the component of each pixel
    tile: NDArray[np.int64]  # [K], the tile a component lies in
    area: NDArray[np.int64]  # [K], in pixels; 0 for component 0
    runs: NDArray[np.int64]  # [R, 2], where a horizontal run of pixels starts and ends in the padded stack
    run_component: NDArray[Any]  # [R]


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
