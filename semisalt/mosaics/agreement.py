"""What the border of a labelled neighbour says of the pixels near the joint.

A tile's border continues in its neighbour, so that a pixel d rows inside is as likely to carry the border pixel's label
as two pixels of one column d rows apart within a tile are: that is counted in the known masks. Given the truth of a
pixel, the network's opinion of it and the neighbour's label are taken as independent, so their log-odds add up.

Only borders with salt and background both are heard: others belong to labels that end at a tile's edge (the inside of a
body is labelled empty below its top).
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from semisalt.mosaics.amplitude import OPPOSITE, facing
from semisalt.mosaics.grid import Side
from semisalt.mosaics.view import View, expected

REACH = 16  # px: how far a border's word is heard, fading linearly

Evidence = dict[Side, NDArray[np.float64]]  # for the labelled neighbour's side: [REACH, 2], by distance and label


def evidence(masks: NDArray[np.uint8]) -> Evidence:
    """Log-odds of salt that a border's label gives a pixel 1 … REACH px away, by the side that the neighbour lies on.

    log P(border label | pixel is salt) − log P(border label | pixel is none), counted between the middle row of the
    masks `[K, H, W]` (or the middle column) and the parallel ones beside it, Laplace-smoothed. Only
    rows with both labels count, as where the evidence is used. It fades to nothing over REACH.
    """
    return {side: _one_side(facing(masks, side)) for side in OPPOSITE}


def agreeing(
    probabilities: NDArray[np.uint8], neighbours: Mapping[Side, NDArray[np.uint8]], found: Evidence
) -> NDArray[np.uint8]:
    """A tile's probabilities `[H, W]` (uint8, p = value / 255), moved by the borders of its labelled neighbours.

    `neighbours`: the label `[H, W]` on each side that has one. A border of one label alone moves nothing.
    """
    p = np.clip(probabilities / 255.0, 0.5 / 255, 1 - 0.5 / 255)
    odds = np.log(p) - np.log1p(-p)
    gained = np.zeros_like(odds)
    for side, label in neighbours.items():
        border = facing(label[None], OPPOSITE[side])[0, 0]
        if border.any() and not border.all():
            near = facing(gained[None], side)[0, :REACH]  # a view
            near += found[side][: len(near), border]
    moved = np.rint(255 / (1 + np.exp(-odds - gained))).astype(np.uint8)
    return np.where(gained == 0, probabilities, moved)


def border_trust(view: View, side: Side) -> float:
    """Share of border pixels on which known tiles and their known neighbours on a side agree.

    The mean over the pairs whose neighbour's border has both labels, Laplace-smoothed: ½ without any.
    """
    tiles, others = view.pairs(view.known, side)
    both = view.known[others]
    own = facing(view.labels[tiles[both]], side)[:, 0]
    beyond = facing(view.labels[others[both]], OPPOSITE[side])[:, 0]
    telling = beyond.any(axis=1) & ~beyond.all(axis=1)
    return expected((own == beyond)[telling].mean(axis=1))


def _one_side(masks: NDArray[np.uint8]) -> NDArray[np.float64]:
    middle = masks.shape[1] // 2
    border = masks[:, middle]
    used = border.any(axis=1) & ~border.all(axis=1)
    border, found = border[used], np.zeros((REACH, 2))
    for distance in range(1, min(REACH, masks.shape[1] - 1 - middle) + 1):
        pixel = masks[used, middle + distance]
        counts = np.bincount(2 * border.ravel() + pixel.ravel(), minlength=4).reshape(2, 2) + 1.0
        fade = 1 - (distance - 1) / REACH
        found[distance - 1] = fade * np.diff(np.log(counts / counts.sum(axis=0)), axis=1)[:, 0]
    return found
