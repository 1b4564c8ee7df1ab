"""Prediction on the joined mosaic: the network sees past a tile's border where a neighbour is known.

A network's input is larger than its tile (101 × 101 grow to 128 × 128). A lone tile's margin is filled with its own
reflection; here with the neighbours' pixels, brought to the tile's amplitudes. The windows of neighbours overlap there,
and so do their predictions, which are blended across the joint. Training, network and ramp stay as they are; tiles
that need no padding gain nothing.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from semisalt.data.channels import Channels
from semisalt.data.tiles import TileSet
from semisalt.inference.build import predictor_of
from semisalt.inference.ensemble import predict_fold
from semisalt.mosaics.amplitude import fit
from semisalt.mosaics.grid import STEPS, Mosaics, Side
from semisalt.run import RunDirectory

_REGIONS = [(down, across) for down in (-1, 0, 1) for across in (-1, 0, 1)]
_SIDES: dict[tuple[int, int], Side] = {step: side for side, step in STEPS.items()}

Neighbours = dict[Side, NDArray[np.int64]]
Block = tuple[int, float, float]  # a tile, and the gain and offset that bring it to another's amplitudes


@dataclass(frozen=True, eq=False)
class Joined:
    """Probabilities of m tiles that have a neighbour, p = value / 255.

    Attributes:
        tiles: [m], ascending.
        windowed: [m, H, W], each from its own window.
        blended: [m, H, W], averaged with the neighbours' windows near the joints.
    """

    tiles: NDArray[np.int64]
    windowed: NDArray[np.uint8]
    blended: NDArray[np.uint8]


def predict_joined(
    run: RunDirectory,
    fold: int,
    tiles: TileSet,
    mosaics: Mosaics,
    wanted: NDArray[np.int64],
    file: Path,
    network: nn.Module,
    device: torch.device,
) -> Joined:
    """Predict those of some tiles that have a neighbour, with a finished fold of a run, on the joined mosaic.

    Args:
        run: its configuration, weights and channels are used.
        fold: whose networks predict; they predict the windows of the neighbours too.
        tiles: all tiles, in the order of the mosaics.
        mosaics: where they lie.
        wanted: [n], the tiles that are asked for.
        file: where the windows' probabilities are kept; see `ensemble.predict_fold`.
        network: takes the fold's weights.
        device: where it lies.
    """
    channels = Channels(**run.channels)
    beside = mosaics.neighbours()
    around = np.stack([beside[side] for side in STEPS], axis=1)
    placed = np.unique(wanted[(around[wanted] >= 0).any(axis=1)])
    # The windows that reach into the wanted tiles.
    needed = np.unique(np.concatenate([placed, around[placed][around[placed] >= 0]]))
    seen = replace(tiles.subset(needed), images=windows(tiles.images, beside, needed, channels))
    predictor = predictor_of(run.config, replace(channels, shape=channels.padded), device)
    predict_fold(run, fold, seen, file, network, predictor)
    maps = np.load(file)
    rows = np.searchsorted(needed, placed)
    return Joined(placed, _crop(maps, channels)[rows], blend(maps, beside, needed, channels)[rows])


def windows(
    images: NDArray[np.uint8], beside: Neighbours, tiles: NDArray[np.int64], channels: Channels
) -> NDArray[np.uint8]:
    """The network's view of tiles on their mosaics, [n, H', W'] of the size that `channels` pads to.

    The margin shows the neighbours, brought to the tile's amplitudes (see `amplitude.fit`); where none lies, the
    reflection of what is there. A tile without neighbours looks as `channels` itself would pad it.
    """
    out = np.empty((len(tiles), *channels.padded), np.uint8)
    for row, tile in enumerate(tiles.tolist()):
        out[row] = _window(images, _blocks(images, beside, tile), channels)
    return out


def blend(
    maps: NDArray[np.uint8], beside: Neighbours, tiles: NDArray[np.int64], channels: Channels
) -> NDArray[np.uint8]:
    """Probabilities of tiles [n, H, W] from those of their windows [n, H', W'], averaged where windows overlap.

    A tile's own window weighs 1; that of a neighbour among `tiles` 1 at the joint, falling to 0 at the window's end. A
    tile whose own window sees no salt (p > 0.5 nowhere) stays as it is: a few pixels that leak over a joint would cost
    an empty tile its whole score.
    """
    (height, width), (top, left) = channels.shape, _offset(channels)
    own = _crop(maps, channels)
    total = own.astype(np.float32)
    weight = np.ones((len(tiles), height, width), np.float32)
    row_of = {tile: row for row, tile in enumerate(tiles.tolist())}
    for side, (down, across) in STEPS.items():
        # Where this tile lies in the neighbour's window.
        begin, first = top - down * height, left - across * width
        rows = slice(max(0, -begin), min(height, channels.padded[0] - begin))
        columns = slice(max(0, -first), min(width, channels.padded[1] - first))
        fading = _fading(rows, columns, side)
        for row, tile in enumerate(tiles.tolist()):
            other = row_of.get(int(beside[side][tile]))
            if other is not None:
                seen = maps[other, begin + rows.start : begin + rows.stop, first + columns.start : first + columns.stop]
                total[row, rows, columns] += fading * seen
                weight[row, rows, columns] += fading
    salty = (own > 127).any(axis=(1, 2), keepdims=True)
    return np.where(salty, np.rint(total / weight).astype(np.uint8), own)


def _fading(rows: slice, columns: slice, side: Side) -> NDArray[np.float32]:
    """Weights of the pixels of a strip along the joint on `side`: near 1 at the joint, near 0 at the other edge."""
    depth = rows.stop - rows.start if side in ("above", "below") else columns.stop - columns.start
    line: NDArray[np.float32] = 1 - (np.arange(depth, dtype=np.float32) + 0.5) / max(depth, 1)
    line = line if side in ("above", "left") else line[::-1]
    return line[:, None] if side in ("above", "below") else line[None, :]


def _blocks(images: NDArray[np.uint8], beside: Neighbours, tile: int) -> dict[tuple[int, int], Block]:
    """A tile and those around it, by rows and columns from it; a diagonal one by way of one that adjoins both."""
    found: dict[tuple[int, int], Block] = {(0, 0): (tile, 1.0, 0.0)}
    for step, side in _SIDES.items():
        _reach(found, images, beside, step, (0, 0), side)
    for down, across in _REGIONS:
        if down and across:
            _reach(found, images, beside, (down, across), (down, 0), _SIDES[0, across])
            _reach(found, images, beside, (down, across), (0, across), _SIDES[down, 0])
    return found


def _reach(
    found: dict[tuple[int, int], Block],
    images: NDArray[np.uint8],
    beside: Neighbours,
    to: tuple[int, int],
    by: tuple[int, int],
    side: Side,
) -> None:
    """Add the tile on a side of one that was found, if there is any and it was not reached before."""
    if to in found or by not in found or (next_one := int(beside[side][found[by][0]])) < 0:
        return
    through, gain, offset = found[by]
    more, shift = fit(images[through], images[next_one], side)
    found[to] = (next_one, gain * more, gain * shift + offset)


def _window(images: NDArray[np.uint8], blocks: dict[tuple[int, int], Block], channels: Channels) -> NDArray[np.uint8]:
    shape, padded, offset = channels.shape, channels.padded, _offset(channels)
    out = np.empty(padded, np.uint8)
    mirrored = [_mirrored(shape[axis], padded[axis], offset[axis]) for axis in (0, 1)]
    for step in _REGIONS:
        region = [_region(shape[axis], padded[axis], offset[axis], step[axis]) for axis in (0, 1)]
        # Nearest first: the tile itself, then one beside it that can be mirrored there.
        source = next(way for way in (step, (step[0], 0), (0, step[1]), (0, 0)) if way in blocks)
        index = [
            np.clip(region[axis] - offset[axis] - source[axis] * shape[axis], 0, shape[axis] - 1)
            if source[axis] == step[axis]
            else mirrored[axis][region[axis]]
            for axis in (0, 1)
        ]
        tile, gain, shift = blocks[source]
        pixels = images[tile][np.ix_(*index)]
        out[np.ix_(*region)] = pixels if source == (0, 0) else np.clip(np.rint(gain * pixels + shift), 0, 255)
    return out


def _region(size: int, padded: int, before: int, step: int) -> NDArray[np.int64]:
    """Positions in the window before (−1), of (0) or after (1) the tile, along an axis."""
    begin, end = {-1: (0, before), 0: (before, before + size), 1: (before + size, padded)}[step]
    return np.arange(begin, end)


def _mirrored(size: int, padded: int, before: int) -> NDArray[np.int64]:
    """As `Channels` pads: the position in the tile that each position in the window mirrors."""
    if size == 1:
        return np.zeros(padded, np.int64)
    return np.pad(np.arange(size), (before, padded - size - before), mode="reflect")


def _offset(channels: Channels) -> tuple[int, int]:
    """Rows above and columns left of the tile in its window."""
    return (channels.padded[0] - channels.shape[0]) // 2, (channels.padded[1] - channels.shape[1]) // 2


def _crop(maps: NDArray[np.uint8], channels: Channels) -> NDArray[np.uint8]:
    return channels.crop(torch.from_numpy(maps)).numpy()
