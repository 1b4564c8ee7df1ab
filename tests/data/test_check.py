import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from semisalt.data.check import describe
from semisalt.data.tiles import Survey, TileSet


def test_a_survey_in_numbers() -> None:
    size = 10
    masks = np.zeros((9, size, size), dtype=np.uint8)
    masks[1, 0, :1] = 1  # 1 px: tiny
    masks[2, :2, :] = 1  # 20 px: tiny; exactly 0.2
    masks[3, :2, :] = masks[3, 2, :1] = 1  # 21 px, above 0.2
    masks[4, :, 3:6] = 1  # vertical; exactly 0.3
    masks[5] = 1  # full, and not vertical
    masks[6, :, 3:6] = masks[6, 9, 0] = 1  # all but vertical
    masks[7, 3, 3] = 1  # a blank tile with salt; tiny
    images = np.random.default_rng(0).integers(1, 256, (12, size, size), dtype=np.uint8)
    images[7:9] = images[11] = 0
    images[10] = images[2]
    images[4] = images[1]
    ids = tuple("abcdefghi")
    survey = Survey(
        TileSet(ids, images[:9], masks, np.arange(9, dtype=np.float32)),
        TileSet(("x", "y", "z"), images[9:], None, np.array([50, 3, 4], np.float32)),
        "f" * 64,
        Path("somewhere"),
        None,
    )
    found = asdict(describe(survey))
    assert found == {
        "fingerprint": "f" * 64,
        "source": "somewhere",
        "labelled": 9,
        "unlabelled": 3,
        "height": 10,
        "width": 10,
        "blank_labelled": 2,
        "blank_unlabelled": 1,
        "blank_with_salt": ("h",),
        "duplicates": (("b", "e"), ("c", "y")),
        "empty": 2,
        "coverage_histogram": (2, 1, 2, 1, 0, 0, 0, 0, 0, 1),
        "tiny": 3,
        "vertical": 1,
        "full": 1,
        "depth_range": (0.0, 50.0),
    }
    assert json.loads(json.dumps(found))["duplicates"] == [["b", "e"], ["c", "y"]]


def test_unlabelled_tiles_alone() -> None:
    nothing = np.zeros((0, 4, 6), dtype=np.uint8)
    tiles = TileSet(("a",), np.ones((1, 4, 6), np.uint8), None, None)
    found = describe(Survey(TileSet((), nothing, nothing, None), tiles, "", Path(), None))
    assert (found.labelled, found.unlabelled, found.height, found.width) == (0, 1, 4, 6)
    assert found.coverage_histogram == (0,) * 10
    assert found.depth_range is None
