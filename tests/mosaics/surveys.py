"""Sections cut into tiles, whose neighbours are known."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from semisalt.data.synthetic import deal
from semisalt.mosaics.grid import Pairs

Images = NDArray[np.uint8]
Places = NDArray[np.int64]  # section, row, column [N, 3]; −1 for blank tiles


def layered(sections: int, grid: tuple[int, int], shape: tuple[int, int], seed: int = 0) -> tuple[Images, Places]:
    """Random smooth sections of rows × columns tiles, each with a stretch of its own, in random order."""
    rng = np.random.default_rng(seed)
    (rows, columns), (height, width) = grid, shape
    images, places = [], []
    for section in range(sections):
        noise = rng.standard_normal((rows * height, columns * width))
        values = ndimage.gaussian_filter(noise, (1.5, 3.0))
        for row in range(rows):
            for column in range(columns):
                tile = values[row * height : (row + 1) * height, column * width : (column + 1) * width]
                low, high = tile.min(), tile.max()
                gain, offset = 255 * rng.uniform(0.6, 1), rng.uniform(0, 1)
                images.append(np.rint((tile - low) / (high - low) * gain + offset * (255 - gain)).astype(np.uint8))
                places.append((section, row, column))
    order = rng.permutation(len(images))
    return np.stack(images)[order], np.array(places)[order]


def synthetic(tiles: int, seed: int, shape: tuple[int, int]) -> tuple[Images, Places]:
    """The synthetic survey of `semisalt.data.synthetic`."""
    entries = deal(tiles, 0, seed, shape)
    images = [np.zeros(shape, np.uint8) if entry.cell is None else entry.cell.pixels for entry in entries]
    return np.stack(images), np.array([(-1, -1, -1) if entry.cell is None else entry.cell.place for entry in entries])


def judged(pairs: Pairs, places: Places, below: bool) -> tuple[float, float]:
    """Precision and recall of one direction's pairs."""
    step = np.array([0, 1, 0] if below else [0, 0, 1])
    at = {tuple(place) for place in places.tolist() if place[0] >= 0}
    true = sum(tuple(place + step) in at for place in places if place[0] >= 0)
    found = pairs.only(pairs.below == below)
    right = ((places[found.first] + step) == places[found.second]).all(axis=1).sum()
    return float(right / max(1, len(found))), float(right / true)
