"""What the rules are shown."""

import numpy as np
import pytest

from semisalt.data.tiles import Survey
from semisalt.errors import UserError
from semisalt.mosaics.view import all_tiles, expected, known_labels, view_of
from semisalt.run import RunDirectory, write_csv
from tests.mosaics.worlds import mosaics_of, pairs_of
from tests.tiny import tiny_config, tiny_run

GRID = np.array([[0, 1], [2, 3]])
MOSAICS = mosaics_of([GRID], 6)


def test_labels_that_may_not_be_used_are_withheld():
    masks = np.ones((4, 5, 6), np.uint8)
    known = np.array([True, False, True, False, False, False])
    view = view_of(MOSAICS, pairs_of(MOSAICS), masks, known, np.array([3, 4]), np.full((2, 5, 6), 9, np.uint8))
    assert view.labels.any(axis=(1, 2)).tolist() == known.tolist()
    assert view.targets.tolist() == [False, False, False, True, True, False]
    assert (view.probabilities[3:5] == 9).all()
    with pytest.raises(ValueError, match="label"):
        view_of(MOSAICS, pairs_of(MOSAICS), masks, known, np.array([2]), np.zeros((1, 5, 6), np.uint8))


def test_joints_are_the_pairs_probabilities_and_nothing_where_there_is_no_neighbour():
    pairs = pairs_of(MOSAICS)
    pairs.probability[:] = [0.91, 0.92, 0.93, 0.94]  # 0|1, 2|3, 0 over 2, 1 over 3
    nothing = np.zeros((0, 5, 6), np.uint8)
    found = view_of(MOSAICS, pairs, nothing, np.zeros(6, np.bool_), np.empty(0, np.int64), nothing).joint
    assert found["right"] == pytest.approx([0.91, 0, 0.92, 0, 0, 0])
    assert found["left"] == pytest.approx([0, 0.91, 0, 0.92, 0, 0])
    assert found["above"] == pytest.approx([0, 0, 0.93, 0.94, 0, 0])
    assert found["below"] == pytest.approx([0.93, 0.94, 0, 0, 0, 0])


@pytest.fixture
def run(tmp_path, survey: Survey) -> RunDirectory:
    run = tiny_run(tmp_path, tiny_config(), survey)
    rows = [("t000", 0, 1), ("t001", 1, 1), ("t003", 0, 0), ("t004", 1, 0), ("t005", 2, 1)]
    write_csv(run.path / "folds.csv", ("id", "fold", "label_used"), rows)
    return run


def test_a_fold_knows_its_training_tiles_labels_alone(run):
    ids = ("t005", "t000", "t001", "t002", "t003", "t004", "u000")
    assert known_labels(run, ids, 0).tolist() == [True, False, True, False, False, False, False]
    assert known_labels(run, ids, 1).tolist() == [True, True, False, False, False, False, False]
    assert known_labels(run, ids, None).tolist() == [True, True, True, False, False, False, False]
    with pytest.raises(UserError, match="build them from the run's own data"):
        known_labels(run, ("x", "y"), None)


def test_mosaics_of_other_tiles_are_refused(survey):
    count = len(survey.labelled) + len(survey.unlabelled)
    mosaics = mosaics_of([], count)
    with pytest.raises(UserError, match="not of the tiles"):
        all_tiles(survey, mosaics)


def test_expectation_by_hand():
    assert expected(np.array([])) == 0.5
    assert expected(np.array([1.0, 1.0, 1.0])) == pytest.approx(4 / 5)
    assert expected(np.array([0.3, 0.5])) == pytest.approx(1.8 / 4)
