"""The verdict: counts by hand, and a whole run with a planted label."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from semisalt.data.tiles import Survey, TileSet, fingerprint
from semisalt.errors import UserError
from semisalt.files import write_array, write_json
from semisalt.inference.build import build_network, channels_of
from semisalt.inference.evaluate import evaluate as evaluate_run
from semisalt.inference.weights import save_weights
from semisalt.mosaics.apply import correct_predictions
from semisalt.mosaics.evaluate import ALL, BLENDED, WINDOWED, Verdict, corrections, evaluate, judge
from semisalt.mosaics.rules import RULES
from semisalt.run import RunDirectory, write_csv
from tests.mosaics.worlds import EMPTY, FULL_BOTTOM, HALF, OTHER, SIZE, STRIPE, columns_view, mosaics_of, pairs_of
from tests.tiny import tiny_config

CPU = torch.device("cpu")


def test_counts_by_hand():
    truth = np.stack([STRIPE, STRIPE, EMPTY, OTHER, EMPTY])
    base = np.array([0.0, 1.0, 0.0, 0.0, 1.0])  # predicted empty, right, with salt, empty, empty
    verdict = judge("rule", base, truth, {0: STRIPE, 1: STRIPE, 2: EMPTY, 3: STRIPE, 4: STRIPE}, 7)
    assert (verdict.touched, verdict.better, verdict.equal, verdict.worse) == (5, 2, 2, 1)
    assert (verdict.before, verdict.after) == pytest.approx((2 / 5, 3 / 5))
    assert verdict.score.value == pytest.approx(3 / 5)
    assert verdict.change.value == pytest.approx(1 / 5)
    assert verdict.change.low <= 1 / 5 <= verdict.change.high
    assert (verdict.name, verdict.unlabelled) == ("rule", 7)

    one = judge("rule", base, truth, {2: EMPTY})
    assert (one.touched, one.better, one.before, one.after) == (1, 1, 0, 1)
    assert one.change.value == pytest.approx(1 / 5)
    half = judge("rule", base, truth, {0: HALF})  # IoU 1/2 is not over .5
    assert (half.better, half.equal) == (0, 1)
    none = judge("rule", base, truth, {})
    assert (none.touched, none.before, none.after, none.change.value) == (0, 0, 0, 0)


def test_all_together_is_the_joined_prediction_corrected():
    columns = [*[[STRIPE, STRIPE]] * 3, [STRIPE, None], [EMPTY, None]]
    view = columns_view(columns)
    windowed = np.stack([OTHER, OTHER]) * np.uint8(255)
    blended = np.stack([HALF, HALF]) * np.uint8(255)
    found = corrections(view, np.array([7, 9]), windowed, blended)
    assert list(found) == [*RULES, WINDOWED, BLENDED, ALL]
    np.testing.assert_array_equal(found[ALL][7], STRIPE)
    np.testing.assert_array_equal(found[ALL][9], OTHER)
    np.testing.assert_array_equal(found[WINDOWED][7], OTHER)
    np.testing.assert_array_equal(found[BLENDED][9], HALF)
    assert set(found["continue below"]) == {7}
    assert not found["empty below full"]
    # The guard of the rule above looks at what the tile's own window shows, not at the blend.
    guarded = columns_view([*[[STRIPE, STRIPE]] * 3, [None, STRIPE]])
    nearly = STRIPE.copy()
    nearly[:2] = 0
    together = corrections(guarded, np.array([6]), nearly[None] * np.uint8(255), EMPTY[None])
    np.testing.assert_array_equal(together[ALL][6], STRIPE)
    assert not together["continue above"]
    empty = np.empty((0, SIZE, SIZE), np.uint8)
    alone = corrections(view, np.empty(0, np.int64), empty, empty)
    assert alone[WINDOWED] == {}
    assert set(alone[ALL]) == {7}


COLUMNS = [  # (label, fold) from top to bottom; fold None: unlabelled
    *[[(STRIPE, 1), (STRIPE, 1)]] * 4,
    [(STRIPE, 1), (STRIPE, 0)],  # a label of the training tiles lies above a tile of fold 0
    [(STRIPE, 0), (STRIPE, 0)],  # a label of fold 0 itself does
    [(STRIPE, 1), (None, None)],
    [(OTHER, 0), (None, None)],
    [(FULL_BOTTOM, 1), (EMPTY, 0)],
]


def world() -> tuple[Survey, np.ndarray, list[np.ndarray]]:
    """A survey of these columns, labelled tiles first, with each labelled tile's fold and the grids."""
    flat = [cell for column in COLUMNS for cell in column]
    order = sorted(range(len(flat)), key=lambda at: flat[at][1] is None)
    number = {at: new for new, at in enumerate(order)}
    grids, at = [], 0
    for column in COLUMNS:
        grids.append(np.array([[number[at + k]] for k in range(len(column))]))
        at += len(column)
    known = sum(fold is not None for _, fold in flat)
    images = np.random.default_rng(0).integers(1, 256, (len(flat), SIZE, SIZE), dtype=np.uint8)
    ids = tuple(f"t{k:03}" for k in range(len(flat)))
    labelled = TileSet(ids[:known], images[:known], np.stack([flat[at][0] for at in order[:known]]), None)
    unlabelled = TileSet(ids[known:], images[known:], None, None)
    folds = np.array([flat[at][1] for at in order[:known]])
    return Survey(labelled, unlabelled, fingerprint(labelled, unlabelled), Path("nowhere"), None), folds, grids


def make_run(path: Path, survey: Survey, folds: np.ndarray) -> RunDirectory:
    """Fold 0 is finished: it predicts every tile empty; its network has random weights."""
    config = tiny_config(channels={"depth": False}, snapshots={"combine": "weights"})
    channels = channels_of(config, survey)
    run = RunDirectory.create(path, config, {"data": survey.fingerprint, "channels": asdict(channels)})
    rows = zip(survey.labelled.ids, folds.tolist(), [1] * len(folds), strict=True)
    write_csv(run.path / "folds.csv", ("id", "fold", "label_used"), list(rows))
    write_array(run.fold(0).probabilities, np.zeros((np.count_nonzero(folds == 0), SIZE, SIZE), np.uint8))
    write_json(run.fold(0).result, {"tiles": 4})
    torch.manual_seed(0)
    save_weights(run.fold(0).averaged, build_network(config, channels))
    evaluate_run(run, survey.labelled)
    return run


def judged(folder: Path, survey: Survey, folds: np.ndarray, grids: list[np.ndarray]) -> tuple[RunDirectory, Verdict]:
    run = make_run(folder, survey, folds)
    count = len(survey.labelled) + len(survey.unlabelled)
    mosaics = mosaics_of(grids, count)
    return run, evaluate(run, survey, mosaics, pairs_of(mosaics), CPU, lambda _: None)


def test_a_whole_run(tmp_path: Path) -> None:
    survey, folds, grids = world()
    run, verdict = judged(tmp_path / "run", survey, folds, grids)
    by_name = {rule.name: rule for rule in verdict.rules}
    assert (verdict.tiles, verdict.placed, verdict.mosaics, verdict.mosaic_tiles) == (5, 5, 9, 18)
    assert verdict.alone.value == pytest.approx(1 / 5)  # one of fold 0's five tiles is empty
    # The tile below fold 0's own stripe is left alone; so are the ones above it.
    below = by_name["continue below"]
    assert (below.touched, below.better, below.worse) == (1, 1, 0)
    assert below.score.value == pytest.approx(2 / 5)
    assert below.change.value == pytest.approx(1 / 5)
    assert below.unlabelled == 2  # by all labels that the run may use
    assert by_name["empty below full"].touched == 0  # one full bottom row proves nothing
    assert by_name[WINDOWED].touched == by_name[BLENDED].touched == 5
    assert by_name[WINDOWED].unlabelled == 2
    assert (verdict.crossing, verdict.pairs) == (2, 7)
    kept = json.loads((run.path / "results.json").read_text())
    assert kept["mosaics"] == json.loads(json.dumps(asdict(verdict)))
    assert kept["tiles"] == 5  # the other figures stay


def test_labels_of_a_folds_own_validation_tiles_change_no_mask(tmp_path: Path) -> None:
    """Fold 0's labels are turned over: whatever the rules touch stays the same."""
    survey, folds, grids = world()
    assert survey.labelled.masks is not None
    masks = survey.labelled.masks.copy()
    masks[folds == 0] = np.stack([FULL_BOTTOM, OTHER, STRIPE, OTHER, STRIPE])
    labelled = replace(survey.labelled, masks=masks)
    turned = replace(survey, labelled=labelled)
    _, before = judged(tmp_path / "a", survey, folds, grids)
    _, after = judged(tmp_path / "b", turned, folds, grids)
    for one, two in zip(before.rules, after.rules, strict=True):
        assert (one.name, one.touched) == (two.name, two.touched)
    # A training label does: without the stripe above it the tile is left alone.
    masks = survey.labelled.masks.copy()
    masks[grids[4][0, 0]] = EMPTY
    _, without = judged(tmp_path / "c", replace(survey, labelled=replace(survey.labelled, masks=masks)), folds, grids)
    assert {rule.name: rule.touched for rule in without.rules}["continue below"] == 0


def test_mosaics_of_another_survey_are_refused(tmp_path: Path) -> None:
    survey, folds, grids = world()
    run = make_run(tmp_path / "run", survey, folds)
    mosaics = mosaics_of(grids, len(folds) + 5)
    with pytest.raises(UserError, match="build them again"):
        evaluate(run, survey, mosaics, pairs_of(mosaics), CPU, lambda _: None)


def test_predictions_of_unlabelled_tiles_are_corrected_in_their_own_order(tmp_path: Path) -> None:
    survey, folds, grids = world()
    run = make_run(tmp_path / "run", survey, folds)
    mosaics = mosaics_of(grids, len(folds) + 2)
    tiles = survey.unlabelled.subset(np.array([1, 0]))
    plain = np.zeros((2, SIZE, SIZE), np.uint8)
    found = correct_predictions(
        run, survey, mosaics, pairs_of(mosaics), tiles, plain, tmp_path / "kept", CPU, lambda _: None
    )
    assert [mosaics.ids[proposal.tile] for proposal in found.followed] == list(survey.unlabelled.ids)
    np.testing.assert_array_equal(found.masks, [OTHER, STRIPE])
    assert found.probabilities.any()  # predicted anew, on the joined mosaic
    lone = mosaics_of([], len(folds) + 2)
    folder = tmp_path / "none"
    only = correct_predictions(run, survey, lone, pairs_of(lone), tiles, plain, folder, CPU, lambda _: None)
    assert not only.followed
    np.testing.assert_array_equal(only.probabilities, plain)
