import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from semisalt.data.rle import encode
from semisalt.data.tiles import Survey
from semisalt.inference.evaluate import tile_scores
from semisalt.metrics import precision
from semisalt.pseudo.figures import figures_of, known_truth
from semisalt.pseudo.labelling import label_directory
from semisalt.pseudo.labels import load_labels, verdicts_of
from semisalt.run import RunDirectory, write_csv
from semisalt.training.crossval import divide
from tests.pseudo.made import config_of, finish_folds, labelled, made_run, task_of
from tests.tiny import tiny_survey, tiny_tiles

CONFIG = config_of(pseudo={"min_area": 5})
FOLDS = (0, 1)


@pytest.fixture(scope="module")
def tiles() -> Survey:
    return tiny_survey(40, 14)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiles: Survey) -> list[RunDirectory]:
    """Three rounds, each labelled by the one before."""
    root = tmp_path_factory.mktemp("rounds")
    made = [made_run(root / "round0", CONFIG, tiles)]
    for number in (1, 2):
        made.append(made_run(root / f"round{number}", CONFIG, tiles))
        finish_folds(made[-1], tiles, FOLDS, seed=1000 * number, wrong=number)
        for fold in FOLDS:
            labelled(task_of(made[-2], tiles, fold), CONFIG, made[-1].path)
    return made


def test_scores_are_of_the_wanted_folds_out_of_fold_tiles(runs: list[RunDirectory], tiles: Survey) -> None:
    for number, run in enumerate(runs):
        whole = tile_scores(dict.fromkeys(FOLDS, run), tiles)
        assert len(whole) == 39
        assert (whole == 0).sum() == 2 * number
        assert whole.sum() == 39 - 2 * number
        one = tile_scores({1: run}, tiles)
        assert len(one) == len(divide(tiles, CONFIG).validation(1))
        assert (one == 0).sum() == number


def test_what_was_taken_by_plain_counting(runs: list[RunDirectory], tiles: Survey) -> None:
    division = divide(tiles, CONFIG)
    figures = figures_of(2, runs, tiles, division, tiles.unlabelled, FOLDS)
    taken = figures.taken
    assert taken is not None
    rows = [row for fold in FOLDS for row in verdicts_of(label_directory(runs[2], fold))]
    mine = [row for row in rows if row["verdict"] == "taken"]
    assert taken.candidates == len(rows) == 2 * 14 + (~division.kept).sum()
    assert taken.empty == sum(float(row["coverage"]) == 0 for row in mine)
    assert taken.salt == len(mine) - taken.empty
    assert taken.coverage == pytest.approx(np.mean([float(row["coverage"]) for row in mine]))
    priors = [division.train(fold).coverage.mean() for fold in FOLDS]
    assert taken.prior == pytest.approx(np.mean(priors))
    seconds = sum(label_directory(runs[2], fold).provenance().figures["seconds"] for fold in FOLDS)
    assert figures.seconds == pytest.approx(2 + seconds, abs=0.06)
    assert not figures.inflated


def test_truth_of_labels_that_were_set_aside(runs: list[RunDirectory], tiles: Survey) -> None:
    division = divide(tiles, CONFIG)
    truth = known_truth(tiles, division)
    assert set(truth) == set(np.array(division.tiles.ids)[~division.kept])
    # No tile that a fold learns from by its true label is among them.
    assert not set(truth) & {tile for fold in FOLDS for tile in division.train(fold).ids}
    taken = figures_of(1, runs, tiles, division, tiles.unlabelled, FOLDS).taken
    assert taken is not None
    scores = []
    for fold in FOLDS:
        labels = load_labels(label_directory(runs[1], fold), task_of(runs[0], tiles, fold).candidates)
        assert labels.masks is not None
        for tile, mask in zip(labels.ids, labels.masks, strict=True):
            if tile in truth:
                scores.append(precision(mask[None], truth[tile][None])[0])
    assert taken.known == len(scores) > 0
    assert taken.truth == pytest.approx(np.mean(scores))


def test_a_synthetic_surveys_truth_is_read(tmp_path: Path, tiles: Survey) -> None:
    hidden = tiny_tiles(14, seed=1, name="u")
    assert hidden.masks is not None
    rows = [(tile, encode(mask)) for tile, mask in zip(hidden.ids, hidden.masks, strict=True)]
    write_csv(tmp_path / "truth.csv", ("id", "rle_mask"), [*rows, ("t000", "1 4")])
    whole = divide(tiles, config_of(data={"label_fraction": 1.0}))
    truth = known_truth(replace(tiles, source=tmp_path), whole)
    assert set(truth) == set(hidden.ids)  # a labelled tile's truth is not taken from there
    for tile, mask in zip(hidden.ids, hidden.masks, strict=True):
        np.testing.assert_array_equal(truth[tile], mask)
    assert known_truth(tiles, whole) == {}


def test_the_mark_of_a_pooled_round(runs: list[RunDirectory], tiles: Survey) -> None:
    file = runs[1].path / "provenance.json"
    kept = file.read_text()
    try:
        file.write_text(json.dumps({**json.loads(kept), "inflated": "pooled"}))
        assert figures_of(1, runs, tiles, divide(tiles, CONFIG), tiles.unlabelled, FOLDS).inflated
    finally:
        file.write_text(kept)
