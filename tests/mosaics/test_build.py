from pathlib import Path

import numpy as np

from semisalt.data.tiles import Survey, TileSet, fingerprint
from semisalt.mosaics.build import build, standing
from semisalt.mosaics.grid import Mosaics, Pairs
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


def test_only_pairs_that_the_placement_bears_out_stand() -> None:
    zero = np.zeros(3, np.int64)
    mosaics = Mosaics(("a", "b", "c"), zero, zero, np.arange(3))
    one = np.ones(3, np.float32)
    pairs = Pairs(np.array([0, 0, 1]), np.array([1, 2, 2]), np.array([False, False, True]), one, one)
    assert standing(mosaics, pairs).second.tolist() == [1]
