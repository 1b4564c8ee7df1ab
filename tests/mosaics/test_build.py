from pathlib import Path

import numpy as np

from semisalt.data.tiles import Survey, TileSet, fingerprint
from semisalt.mosaics.build import build, side_by_side
from semisalt.mosaics.grid import Mosaics, Pairs
from semisalt.mosaics.match import Matches
from tests.mosaics.surveys import layered


def test_labelled_tiles_come_first_and_masks_are_not_looked_at() -> None:
    images, places = layered(2, (4, 4), (48, 48))
    ids = tuple(f"{tile:02}" for tile in range(len(images)))
    masks = np.zeros((8, 48, 48), np.uint8)
    built = []
    for mask in (masks, masks + np.uint8(1)):
        labelled = TileSet(ids[:8], images[:8], mask, None)
        unlabelled = TileSet(ids[8:], images[8:], None, None)
        survey = Survey(labelled, unlabelled, fingerprint(labelled, unlabelled), Path("nowhere"), None)
        built.append(build(survey))
    (mosaics, pairs), (again, _) = built
    assert mosaics.ids == ids
    np.testing.assert_array_equal(mosaics.mosaic, again.mosaic)
    assert mosaics.sizes().tolist() == [16, 16]
    for number in (0, 1):
        tiles = mosaics.tiles(number)
        section = places[tiles[0, 0], 0]
        assert (places[tiles.ravel(), 0] == section).all()
        assert places[tiles, 1].tolist() == [[row] * 4 for row in range(4)]
        assert places[tiles, 2].tolist() == [[0, 1, 2, 3]] * 4
    assert len(pairs) > 20
    assert (places[pairs.first[pairs.below]] + np.array([0, 1, 0]) == places[pairs.second[pairs.below]]).all()


def test_tiles_side_by_side_are_neighbours_as_sure_as_what_put_them_there() -> None:
    zero = np.zeros(5, np.int64)
    mosaics = Mosaics(tuple("abcde"), np.array([0, 0, 0, 0, -1]), np.array([0, 0, 1, 1, 0]), np.array([0, 1, 0, 1, 0]))
    first, second = np.array([0, 2, 0, 1, 3]), np.array([1, 3, 2, 2, 4])
    below = np.array([False, False, True, True, False])  # 1 over 2 and 3 beside 4 were refused; 1 over 3 was not seen
    odds = np.float32([0.91, 0.92, 0.93, 0.6, 0.5])
    matched = Pairs(first, second, below, zero.astype(np.float32), odds)
    found = side_by_side(mosaics, Matches(matched, None, None))
    assert found.first.tolist() == [0, 2, 0, 1]
    assert found.second.tolist() == [1, 3, 2, 3]
    assert found.below.tolist() == [False, False, True, True]
    assert found.probability.tolist() == np.float32([0.91, 0.92, 0.93, 0.91]).tolist()
    assert np.isnan(found.distance).all()  # nothing was looked at


def test_distances_are_of_borders_with_a_signal() -> None:
    images, places = layered(3, (2, 4), (48, 48))
    (tile,) = np.flatnonzero((places == [0, 0, 1]).all(axis=1))
    flat = images.copy()
    flat[tile, :, -2:] = 100  # the right border of a tile, and so its joint with the next one
    for tiles in (images, flat):
        labelled = TileSet(tuple(map(str, range(len(tiles)))), tiles, np.zeros_like(tiles), None)
        nobody = TileSet((), tiles[:0], None, None)
        _, pairs = build(Survey(labelled, nobody, fingerprint(labelled, nobody), Path("nowhere"), None))
        muted = ~pairs.below & (pairs.first == tile)
        assert np.isfinite(pairs.distance[~muted]).all()
        assert np.isnan(pairs.distance[muted]).all() == (tiles is flat)
        assert muted.sum() == 1
