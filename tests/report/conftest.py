"""A finished run of two folds, without training: its probabilities are planted."""

import numpy as np
import pytest

from semisalt.data.tiles import TileSet
from semisalt.files import write_array, write_json
from semisalt.inference.evaluate import evaluate
from semisalt.recipe import load_config
from semisalt.run import RunDirectory, write_csv

COUNT, HEIGHT, WIDTH = 40, 20, 24


def tiles_of(count=COUNT):
    """Every fourth tile is empty, tile 0 is blank, the others have a block of salt."""
    rng = np.random.default_rng(5)
    images = rng.integers(1, 256, (count, HEIGHT, WIDTH), np.uint8)
    masks = np.zeros((count, HEIGHT, WIDTH), np.uint8)
    images[0] = 0
    for index in range(count):
        if index % 4:
            masks[index, 4 : 8 + index % 9, 3:20] = 1
    return TileSet(tuple(f"t{index:03}" for index in range(count)), images, masks, None)


def planted(tiles):
    """Right everywhere, unsure at the edges; t007 misses its salt, t012 invents some."""
    values = np.where(tiles.masks == 1, 230, 20).astype(np.uint8)
    values[:, :, 10] = np.where(tiles.masks[:, :, 10] == 1, 140, 20)
    for index, tile in enumerate(tiles.ids):
        if tile == "t007":
            values[index] = 0
        if tile == "t012":
            values[index, :5] = 255
    return values


def make_run(path, labelled, overrides=(), finished=(0, 1)):
    tiles = labelled.subset(~labelled.blank)
    run = RunDirectory.create(path, load_config(None, ["data.folds=2", *overrides]), {"data": "f" * 64})
    folds = np.arange(len(tiles)) % 2
    write_csv(
        run.path / "folds.csv", ("id", "fold", "label_used"), [(t, k, 1) for t, k in zip(tiles.ids, folds, strict=True)]
    )
    for fold in finished:
        write_array(run.fold(fold).probabilities, planted(tiles.subset(folds == fold)))
        ways = {
            way: {"value": value, "low": value - 0.021, "high": value + 0.013}
            for way, value in {"last": 0.7112, "predictions": 0.7334, "weights": 0.9871}.items()
        }
        result = {"tiles": 1777, "epochs": 420, "seconds": 74044.0, "snapshots": [], "precision_at_half": ways}
        write_json(run.fold(fold).result, result)
    evaluate(run, labelled)
    return run


@pytest.fixture(scope="module")
def labelled():
    return tiles_of()


@pytest.fixture
def run(tmp_path, labelled):
    return make_run(tmp_path / "runs" / "salty", labelled)


@pytest.fixture
def run_with(tmp_path, labelled):
    """Makes a run with overrides of the configuration, or with fewer finished folds."""

    def build(*overrides, finished=(0, 1)):
        return make_run(tmp_path / "runs" / "other", labelled, overrides, finished)

    return build
