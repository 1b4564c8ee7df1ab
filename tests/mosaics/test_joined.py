"""Windows against the section that the tiles were cut from, and predictions on them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from semisalt.data.channels import Channels
from semisalt.data.tiles import TileSet
from semisalt.inference.build import build_network
from semisalt.inference.predict import Predictor, quantise
from semisalt.inference.weights import save_weights
from semisalt.mosaics.joined import blend, predict_joined, windows
from semisalt.run import RunDirectory
from tests.mosaics.test_amplitude import smooth
from tests.mosaics.worlds import mosaics_of
from tests.tiny import tiny_config

CPU = torch.device("cpu")
SHAPE = (40, 48)
CHANNELS = Channels(SHAPE, (0.0, 1000.0), "rows")
GRID = np.arange(9).reshape(3, 3)


def stretched_tiles(grid=GRID, shape=SHAPE, count=11):
    """Tiles of a smooth section, each stretched for itself; tiles beyond the grid are noise. And the section."""
    whole = smooth((grid.shape[0] * shape[0], grid.shape[1] * shape[1]), seed=4)
    images = np.random.default_rng(0).integers(1, 256, (count, *shape), dtype=np.uint8)
    for (row, column), tile in np.ndenumerate(grid):
        if tile >= 0:
            part = whole[row * shape[0] : (row + 1) * shape[0], column * shape[1] : (column + 1) * shape[1]]
            images[tile] = np.rint((part - part.min()) * 255 / np.ptp(part))
    return images, whole


@pytest.mark.parametrize("shape", [(40, 48), (32, 32), (33, 64), (101, 101), (17, 31)])
def test_a_lone_tiles_window_is_what_the_channels_would_pad(shape):
    channels = Channels(shape, (0.0, 1000.0), "image_rows")
    images, _ = stretched_tiles(np.array([[0]]), shape, 2)
    beside = mosaics_of([], 2).neighbours()
    seen = windows(images, beside, np.array([0, 1]), channels)
    depths = torch.tensor([10.0, 400.0])
    expected = channels(torch.from_numpy(images), depths)
    found = replace(channels, shape=channels.padded)(torch.from_numpy(seen), depths)
    assert torch.equal(found, expected)


def test_a_window_shows_the_section_around_the_tile():
    images, whole = stretched_tiles()
    (window,) = windows(images, mosaics_of([GRID], 11).neighbours(), np.array([4]), CHANNELS)
    top, left = 12, 8
    truth = whole[40 - top : 80 + 12, 48 - left : 96 + 8]
    part = whole[40:80, 48:96]
    truth = np.clip((truth - part.min()) * 255 / np.ptp(part), 0, 255)
    assert window.shape == truth.shape == (64, 64)
    np.testing.assert_array_equal(window[top : top + 40, left : left + 48], images[4])
    error = np.abs(window - truth)
    assert error.mean() < 4
    corners = [error[rows, columns].mean() for rows in np.s_[:12, 52:] for columns in np.s_[:8, 56:]]
    assert max(corners) < 3
    lone = np.pad(images[4], ((12, 12), (8, 8)), mode="reflect")
    assert np.abs(lone - truth).mean() > 5 * error.mean()


def test_margins_without_a_neighbour_mirror_what_is_there():
    images, _ = stretched_tiles()
    grid = np.array([[0, -1], [3, 4]])  # above tile 3 lies 0, right of it 4; 4 has nothing above
    beside = mosaics_of([grid], 11).neighbours()
    first, second = windows(images, beside, np.array([3, 4]), CHANNELS)
    # Below and left of tile 3 there is nothing: its own reflection.
    np.testing.assert_array_equal(first[52:, 8:56], images[3][-13:-1][::-1])
    np.testing.assert_array_equal(first[12:52, :8], images[3][:, 1:9][:, ::-1])
    # Above it lies 0, whose strip is mirrored into the corner at the left.
    np.testing.assert_array_equal(first[:12, :8], first[:12, 9:17][:, ::-1])
    # The corner above right of tile 3 has no tile either: the strip above it goes on mirrored.
    np.testing.assert_array_equal(first[:12, 56:], first[:12, 47:55][:, ::-1])
    # The corner above left of tile 4 is tile 0, reached by way of 3.
    mirrored = second[13:25, :8][::-1]
    assert not np.array_equal(second[:12, :8], mirrored)
    # Below left of tile 4 only 3 can be mirrored there.
    np.testing.assert_array_equal(second[52:, :8], second[39:51, :8][::-1])


def test_blending_by_hand():
    channels = Channels((4, 4), None, "none")  # 32 × 32: 14 px on every side
    mosaics = mosaics_of([np.array([[0, 1]])], 3)
    maps = np.zeros((3, 32, 32), np.uint8)
    maps[0], maps[1], maps[2] = 200, 50, 90
    maps[1, 14, 15] = 250  # so that tile 1 sees salt
    out = blend(maps, mosaics.neighbours(), np.arange(3), channels)
    # The window reaches over the whole neighbour, 4 px wide, and fades over these.
    weights = 1 - (np.arange(4) + 0.5) / 4
    np.testing.assert_array_equal(out[0][1], np.rint((200 + weights[::-1] * 50) / (1 + weights[::-1])))
    np.testing.assert_array_equal(out[1][1], np.rint((50 + weights * 200) / (1 + weights)))
    assert (out[2] == 90).all()


def test_no_salt_leaks_into_a_tile_that_sees_none():
    channels = Channels((40, 40), None, "none")
    mosaics = mosaics_of([np.array([[0], [1]])], 2)
    maps = np.full((2, 64, 64), 120, np.uint8)
    maps[0] = 255
    out = blend(maps, mosaics.neighbours(), np.arange(2), channels)
    assert (out[1] == 120).all()
    assert (out[0][-1] < 200).all()
    assert (out[0][:20] == 255).all()


def test_both_sides_of_a_joint_come_near_each_other():
    channels = Channels((40, 40), None, "none")
    for grid in (np.array([[0, 1]]), np.array([[0], [1]])):
        maps = np.full((2, 64, 64), 250, np.uint8)
        maps[1] = 140
        first, second = blend(maps, mosaics_of([grid], 2).neighbours(), np.arange(2), channels)
        ends = (first[20, -1], second[20, 0]) if grid.shape[1] == 2 else (first[-1, 20], second[0, 20])
        assert abs(int(ends[0]) - int(ends[1])) < 8  # 110 without


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run with random weights in fold 1."""
    config = tiny_config(snapshots={"combine": "weights"})
    provenance = {"data": "x", "channels": {"shape": SHAPE, "depth_range": (0.0, 1000.0), "ramp": "rows"}}
    run = RunDirectory.create(tmp_path_factory.mktemp("run") / "r", config, provenance)
    torch.manual_seed(5)
    save_weights(run.fold(1).averaged, build_network(config, CHANNELS))
    return run


def test_predictions(run: RunDirectory, tmp_path: Path) -> None:
    images, _ = stretched_tiles()
    tiles = TileSet(tuple(f"t{k:03}" for k in range(11)), images, None, np.linspace(0, 900, 11).astype(np.float32))
    grid = GRID.copy()
    grid[2] = -1  # 6, 7, 8, 9 and 10 have no neighbour
    mosaics = mosaics_of([grid], 11)
    network = build_network(run.config, CHANNELS)
    asked = np.array([0, 4, 7, 9])
    joined = predict_joined(run, 1, tiles, mosaics, asked, tmp_path / "f.npy", network, CPU)
    assert joined.tiles.tolist() == [0, 4]
    assert joined.windowed.shape == joined.blended.shape == (2, *SHAPE)
    alone = quantise(Predictor(CHANNELS, CPU, "fp32", 8, True)(network, tiles))
    assert np.abs(joined.windowed[1].astype(int) - alone[4]).max() > 2

    seen = windows(images, mosaics.neighbours(), np.arange(11), CHANNELS)
    by_window = quantise(
        Predictor(replace(CHANNELS, shape=(64, 64)), CPU, "fp32", 8, True)(network, replace(tiles, images=seen))
    )[:, 12:52, 8:56]
    assert np.abs(by_window[[0, 4]].astype(int) - joined.windowed).max() <= 1
    # A tile without neighbours is predicted as ever.
    assert np.abs(by_window[6:].astype(int) - alone[6:]).max() <= 1

    nothing = predict_joined(run, 1, tiles, mosaics, np.array([7, 9]), tmp_path / "g.npy", network, CPU)
    assert len(nothing.tiles) == len(nothing.windowed) == 0
