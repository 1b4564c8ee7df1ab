import csv

import numpy as np
import pytest

from semisalt.data import rle
from semisalt.errors import UserError
from semisalt.inference import submission

IDS = ("a", "b", "c")


@pytest.fixture
def masks():
    stack = np.zeros((3, 3, 4), np.uint8)
    stack[0, :, 1] = 1  # column 2: pixels 4, 5, 6
    stack[1, 0, :2] = 1  # row 1 across two columns: pixels 1 and 4
    return stack


def rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_rows_follow_the_sample_submission(tmp_path, masks):
    # Catches rows in the order of prediction, run lengths along rows, and counts from 0.
    path = tmp_path / "submission.csv"
    submission.write(path, IDS, masks, expected_ids=("c", "b", "a"))
    assert rows(path) == [["id", "rle_mask"], ["c", ""], ["b", "1 1 4 1"], ["a", "4 3"]]
    assert path.read_bytes().count(b"\r") == 0
    assert path.read_bytes().endswith(b"\n")


def test_without_a_sample_submission_the_order_is_kept(tmp_path, masks):
    path = tmp_path / "new folder" / "submission.csv"
    submission.write(path, IDS, masks.astype(bool))
    assert [row[0] for row in rows(path)[1:]] == list(IDS)


@pytest.mark.parametrize(
    ("ids", "expected", "message"),
    [
        (("a", "b", "b"), ("a", "b"), "1 predicted more than once: b"),
        (("a", "b", "b"), None, "1 predicted more than once: b"),
        (IDS, ("a", "b", "c", "c"), "1 listed more than once in the sample submission: c"),
        (IDS, ("a", "b", "c", "d"), "1 not predicted: d"),
        (IDS, ("a", "b"), "1 not in the sample submission: c"),
        (IDS, ("a", "b", "x"), "1 not predicted: x; 1 not in the sample submission: c"),
        (IDS, tuple("defghijk"), "8 not predicted: d, e, f, g, h …"),
    ],
)
def test_ids_that_do_not_match_are_refused(tmp_path, masks, ids, expected, message):
    path = tmp_path / "submission.csv"
    path.write_text("the one from before")
    with pytest.raises(UserError) as caught:
        submission.write(path, ids, masks, expected)
    assert message in str(caught.value)
    assert "Predict exactly" in str(caught.value)
    assert path.read_text() == "the one from before"
    assert list(tmp_path.iterdir()) == [path]


def test_run_lengths_that_do_not_come_back_stop_the_file(tmp_path, masks, monkeypatch):
    # The planted fault: an encoder that walks along the rows.
    monkeypatch.setattr(rle, "encode", lambda mask, honest=rle.encode: honest(np.ascontiguousarray(mask.T)))
    path = tmp_path / "submission.csv"
    with pytest.raises(RuntimeError, match="tile a"):
        submission.write(path, IDS, masks)
    assert not list(tmp_path.iterdir())


def test_a_path_that_cannot_be_written(tmp_path, masks):
    (tmp_path / "submission.csv").mkdir()
    with pytest.raises(UserError, match="choose a path"):
        submission.write(tmp_path / "submission.csv", IDS, masks)
    assert [path.name for path in tmp_path.iterdir()] == ["submission.csv"]


def test_a_mask_for_each_id(tmp_path, masks):
    with pytest.raises(ValueError, match="each of 2 ids"):
        submission.write(tmp_path / "submission.csv", IDS[:2], masks)


def test_an_id_with_a_comma_stays_one_field(tmp_path, masks):
    path = tmp_path / "submission.csv"
    submission.write(path, ("a,1", "b", "c"), masks)
    assert rows(path)[1] == ["a,1", "4 3"]
