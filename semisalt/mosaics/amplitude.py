"""Amplitudes of neighbours: each tile was stretched for itself, by a gain and an offset that nobody kept."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from semisalt.mosaics.grid import Mosaics, Side

OPPOSITE: dict[Side, Side] = {"above": "below", "below": "above", "left": "right", "right": "left"}
T = TypeVar("T", bound=np.generic)


def facing(maps: NDArray[T], side: Side) -> NDArray[T]:
    """The same maps [K, H, W], turned so that row 0 is the border on `side` and rows lead inwards; a view."""
    if side in ("left", "right"):
        maps = maps.transpose(0, 2, 1)
    return maps[:, ::-1] if side in ("below", "right") else maps


def between(image: NDArray[np.uint8], side: Side) -> NDArray[np.float32]:
    """The line half a pixel outside an image [H, W] on a side, extrapolated: 1.5 · edge − 0.5 · next."""
    edge = facing(image[None], side)[0].astype(np.float32)
    return np.asarray(1.5 * edge[0] - 0.5 * edge[1], np.float32)


def fit(image: NDArray[np.uint8], neighbour: NDArray[np.uint8], side: Side) -> tuple[float, float]:
    """Gain and offset that bring the neighbour on `side` to the image's amplitudes: image ≈ gain · neighbour + offset.

    Both extrapolate to the line between them, where they must agree: the gain is the ratio of their standard deviations
    there (reduced major axis: neither side is free of noise), the offset makes the means equal. A border without any
    contrast has no gain: it is 1.
    """
    own, other = between(image, side), between(neighbour, OPPOSITE[side])
    spread, other_spread = float(own.std()), float(other.std())
    gain = spread / other_spread if min(spread, other_spread) > 0.5 else 1.0
    return gain, float(own.mean()) - gain * float(other.mean())


def balance(mosaics: Mosaics, images: NDArray[np.uint8], mosaic: int) -> dict[int, tuple[float, float]]:
    """Gain and offset of each tile of a mosaic that make its joints fit best, by least squares over all of them.

    Log gains first, then offsets. Their means over the mosaic are kept at 0, so that brightness and contrast stay.

    Args:
        mosaics: where the tiles lie.
        images: [N, H, W].
        mosaic: which one.

    Returns:
        For each of its tiles gain and offset: balanced = gain · image + offset.
    """
    grid = mosaics.tiles(mosaic)
    members = grid[grid >= 0]
    ends, level, spread = _joints(grid, images)
    row = np.zeros(len(images), np.int64)
    row[members] = np.arange(len(members))
    ends = row[ends]
    gain = np.exp(_solve(ends, np.log(spread[:, 1] / spread[:, 0]), len(members)))
    offset = _solve(ends, gain[ends[:, 1]] * level[:, 1] - gain[ends[:, 0]] * level[:, 0], len(members))
    means = np.array([float(images[tile].mean()) for tile in members])
    offset += float(np.mean(means - gain * means)) - float(offset.mean())
    return dict(zip(members.tolist(), zip(gain.tolist(), offset.tolist(), strict=True), strict=True))


def _joints(
    grid: NDArray[np.int64], images: NDArray[np.uint8]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """The two tiles of each joint of a grid, and mean and standard deviation of what they extrapolate to it; [J, 2]."""
    ends, level, spread = [], [], []
    sides: tuple[tuple[Side, NDArray[np.int64], NDArray[np.int64]], ...] = (
        ("right", grid[:, :-1], grid[:, 1:]),
        ("below", grid[:-1], grid[1:]),
    )
    for side, first, second in sides:
        for pair in zip(first.ravel().tolist(), second.ravel().tolist(), strict=True):
            if min(pair) >= 0:
                lines = between(images[pair[0]], side), between(images[pair[1]], OPPOSITE[side])
                ends.append(pair)
                level.append([float(line.mean()) for line in lines])
                spread.append([max(float(line.std()), 1.0) for line in lines])
    return np.array(ends, np.int64), np.array(level), np.array(spread)


def _solve(ends: NDArray[np.int64], wanted: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Values x [count] of least norm with x[ends[:, 0]] − x[ends[:, 1]] ≈ wanted, [J]."""
    system = np.zeros((len(ends), count))
    at = np.arange(len(ends))
    system[at, ends[:, 0]], system[at, ends[:, 1]] = 1, -1
    return np.asarray(np.linalg.lstsq(system, wanted, rcond=None)[0], np.float64)
